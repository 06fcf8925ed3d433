"""`muster simulate`: how a job would go on machines that aren't here, in simulated time.

Training is real unless --surrogate says otherwise; so are bytes, codecs, the driver and every policy. What is simulated
is time: the profile says how fast each client trains, what its line carries, and when it is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from muster_cli.errors import BadInput, ExitCode
from muster_cli.folder import check_data
from muster_cli.job import load_job
from muster_cli.plan import data_of
from muster_cli.simulation.profile import Profile, read_profile, shipped
from muster_spec.documents import read_documents
from muster_spec.types import ResolvedJob

if TYPE_CHECKING:
    from muster_cli.simulation.scene import Simulated

RESULTS, REPORT = "results.jsonl", "report.txt"


@dataclass(frozen=True, slots=True)
class SimulationRequest:
    """What the command line asked for."""

    files: tuple[Path, ...]
    profile: str
    clients: int | None
    out: Path
    data: Path | None
    settings: tuple[str, ...]
    job: str | None
    surrogate: bool
    step_seconds: float | None


@click.command()
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--profile", required=True, metavar="PROFILE", help=f"{', '.join(shipped())}; or a .yaml or .csv file.")
@click.option("--clients", type=click.IntRange(min=1), help="How many there are in all. [default: as the pools say]")
@click.option("--out", type=click.Path(path_type=Path), default=Path("muster-simulation"), show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="The directory that holds the data of every pool.")
@click.option("--set", "settings", metavar="PATH=VALUE", multiple=True, help="Change the job, e.g. spec.seed=5.")
@click.option("--job", metavar="NAME", help="Which job, where the files hold several.")
@click.option(
    "--surrogate", is_flag=True, help="A formula instead of training: for thousands of clients, without data."
)
@click.option(
    "--step-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Simulated seconds of one local step at speed 1. [default: as the profile says]",
)
def simulate(*, files: tuple[Path, ...], **options: object) -> None:
    """Run a job in simulated time, on clients that a profile describes.

    Leaves results.jsonl (the same bytes for the same job, profile and seed) and report.txt in --out.
    """
    request = SimulationRequest(files=files, **options)  # type: ignore[arg-type]  # click has checked them
    raise SystemExit(run_simulation(request))


def run_simulation(request: SimulationRequest) -> int:
    """Simulate it; the answer is the exit code. Raises BadInput before anything is done."""
    scaled = settings_of_clients(request.files, request.job, request.clients) if request.clients else []
    job = load_job(request.files, request.job, [*scaled, *request.settings])
    profile = read_profile(request.profile)
    if request.step_seconds is not None:
        profile = msgspec.structs.replace(profile, seconds_per_step=request.step_seconds)
    data = str(request.data.resolve()) if request.data else None
    if not request.surrogate:
        _check_data(job, data)
    simulated = _simulate(request, job, profile, data)
    from muster_cli.simulation.summary import page

    report = page(simulated.about, simulated.summary, simulated.history)
    (request.out / REPORT).write_text(report, encoding="utf-8")
    click.echo(f"{report}\nresults: {request.out / RESULTS}")
    return ExitCode.COMPLETE if simulated.summary["outcome"] == "Complete" else ExitCode.FAILED


def _simulate(request: SimulationRequest, job: ResolvedJob, profile: Profile, data: str | None) -> Simulated:
    import torch

    from muster_cli.simulation.scene import simulate as run

    torch.set_num_threads(1)  # one client trains at a time; sums in another order would be other bytes
    try:
        request.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {request.out}: can't be made ({error.strerror})") from error
    with (request.out / RESULTS).open("wb") as out:
        return run(job, profile, data, out, surrogate=request.surrogate)


def settings_of_clients(files: Sequence[Path], name: str | None, count: int) -> list[str]:
    """The settings that give a job so many clients in all, its pools' shares as they were. BadInput if that can't be.

    They are made before anything is checked, so that a cohort may be as large as the pools will be. Of files that can't
    be read there are none: whoever loads them says why.
    """
    documents, _ = read_documents(list(files))
    jobs = [one for one in documents if one.kind == "FederatedJob" and name in (None, one.name)]
    pools = {one.name: one.value.get("spec") for one in documents if one.kind == "ClientPool"}
    places: dict[str, Any] = {}
    for place, entry in enumerate(_listed(jobs[0].value) if len(jobs) == 1 else []):
        own = entry.get("inline")
        spec = own or pools.get(str(entry.get("name")))
        places[f"spec.pools[{place}].inline" if own else f"ClientPool/{entry.get('name')}.spec"] = spec
    sizes = {place: spec["clients"] for place, spec in places.items() if _is_countable(spec)}
    if len(sizes) < len(places) or not places:
        return []
    if any((spec.get("data") or {}).get("perClient") for spec in places.values()):
        raise BadInput("--clients: pools with data.perClient name each client's data, so their number stays as it is")
    return [f"{place}.clients={size}" for place, size in shared_out(sizes, count).items()]


def _listed(job: Any) -> list[dict[str, Any]]:
    """The entries of a job's pools, as far as they are what they should be."""
    pools = (job.get("spec") or {}).get("pools")
    return [entry for entry in pools if isinstance(entry, dict)] if isinstance(pools, list) else []


def _is_countable(spec: Any) -> bool:
    return isinstance(spec, dict) and isinstance(spec.get("clients"), int)


def shared_out(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """So many clients over pools, at least one for each."""
    if count < len(sizes):
        raise BadInput(f"--clients {count}: the job has {len(sizes)} pools, and each needs a client")
    rest, total = count - len(sizes), sum(sizes.values())
    shares = {name: 1 + rest * size // max(total, 1) for name, size in sizes.items()}
    shares[next(iter(shares))] += count - sum(shares.values())
    return shares


def _check_data(job: ResolvedJob, data: str | None) -> None:
    if data is not None:
        check_data("--data", data)
        return
    for pool in job.pools:
        for index in range(pool.spec.clients):
            if place := data_of(pool, index, None):
                check_data(f"the data of client {pool.name}/{index}", place)
