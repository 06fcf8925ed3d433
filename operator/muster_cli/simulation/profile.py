"""What machines and lines a simulated federation has: tiers with shares of the clients, or a table of single clients.

Pure: text in, values out. The profiles that come with Muster are files beside this module; they are fixed, so that
figures of different days can be compared.
"""

from __future__ import annotations

import csv
import io
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import yaml

from muster_cli.errors import BadInput

Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
NotNegative: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]

STEP_S = 0.05


class Machine(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One kind of client: how fast it trains, what its line carries, and when it is there.

    `speed` is against a machine that takes the profile's `secondsPerStep` for one local step. `spread` is how much the
    speeds and rates of the clients of one tier differ, and `jitter` how much one client's trainings do: sigmas of
    log-normal factors. `dropout` is the chance that a client disappears in the midst of a training, and is back after
    `awaySeconds`; so is one that is preempted. With `onSeconds` and `offSeconds` it comes and goes: means of
    exponential stretches. Whenever it goes its worker ends, and what is not in a pool's `state` is lost.
    """

    tier: str
    speed: Positive = 1.0
    down_mbit: Positive = 1000.0
    up_mbit: Positive = 1000.0
    round_trip_ms: NotNegative = 1.0
    spread: NotNegative = 0.0
    jitter: NotNegative = 0.0
    dropout: Share = 0.0
    preemptions_per_hour: NotNegative = 0.0
    away_seconds: Positive = 60.0
    on_seconds: Positive | None = None
    off_seconds: Positive | None = None


class Tier(Machine, frozen=True, kw_only=True):
    """A kind of client, and how many of all there are of it: shares are relative to their sum."""

    share: Positive


class Profile(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A federation's machines: `tiers` dealt out by lot, or `machines` in the order of the job's clients.

    With `inOrder` tiers, too, go by that order: the first share of the clients is of the first tier, whatever the seed.
    `coordinatorSeconds` is what the coordinator takes to answer: orders go out that much later.
    """

    name: str
    about: str = ""
    seconds_per_step: Positive = STEP_S
    coordinator_seconds: NotNegative = 0.0
    in_order: bool = False
    tiers: tuple[Tier, ...] = ()
    machines: tuple[Machine, ...] = ()


def shipped() -> list[str]:
    """The names of the profiles that come with Muster."""
    return sorted(file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml"))


def _folder() -> Traversable:
    return resources.files("muster_cli.simulation") / "profiles"


def read_profile(wanted: str) -> Profile:
    """One of ours by its name, or a file of the user's: .yaml with tiers, .csv with a line a client. BadInput."""
    if wanted in shipped():
        return parse_tiers(
            (resources.files("muster_cli.simulation") / "profiles" / f"{wanted}.yaml").read_text(), wanted
        )
    path = Path(wanted)
    if path.suffix not in {".yaml", ".yml", ".csv"}:
        raise BadInput(
            f"--profile {wanted}: there are {', '.join(shipped())}; or name a .yaml or .csv file of your own"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise BadInput(f"--profile {wanted}: can't be read: {error}") from error
    return parse_table(text, wanted) if path.suffix == ".csv" else parse_tiers(text, wanted)


def parse_tiers(text: str, where: str) -> Profile:
    """A profile as YAML. BadInput names the field that is wrong."""
    try:
        return _checked(msgspec.convert(yaml.safe_load(text), Profile), where)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise BadInput(f"--profile {where}: {error}") from error


def parse_table(text: str, where: str) -> Profile:
    """A profile as CSV: a column a field of `Machine`, a line a client; what a line leaves empty has its default."""
    machines = []
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        try:
            machines.append(msgspec.convert(_cells(row), Machine, strict=False))
        except msgspec.ValidationError as error:
            raise BadInput(f"--profile {where}, line {number}: {error}") from error
    return _checked(Profile(name=Path(where).stem, machines=tuple(machines)), where)


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    """The cells that say something."""
    return {str(name).strip(): cell.strip() for name, cell in row.items() if isinstance(cell, str) and cell.strip()}


def _checked(profile: Profile, where: str) -> Profile:
    if bool(profile.tiers) == bool(profile.machines):
        raise BadInput(f"--profile {where}: name tiers or machines, at least one of them and not both")
    if profile.in_order and profile.machines:
        raise BadInput(f"--profile {where}: inOrder is for tiers: machines are in order as they are")
    for machine in (*profile.tiers, *profile.machines):
        if (machine.on_seconds is None) != (machine.off_seconds is None):
            raise BadInput(
                f"--profile {where}: {machine.tier}: onSeconds and offSeconds are given together or not at all"
            )
    return profile
