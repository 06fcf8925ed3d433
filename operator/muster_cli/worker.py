"""`muster worker`: a worker process where the data is, dialling out to a coordinator that runs elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from muster_cli.errors import BadInput
from muster_telemetry.address import AddressError, parse_address
from muster_telemetry.logs import LOG_FORMATS, LogFormat, log_format_of

if TYPE_CHECKING:
    from muster.external import ExternalSettings
    from muster.worker import Join, Ranks, TlsFiles, WorkerSettings
    from muster_wire.trust.bundle import Bundle

PATH = click.Path(path_type=Path)


class Given(TypedDict):
    """The command line."""

    coordinator: str | None
    pool: str | None
    indices: str | None
    capacity: int | None
    share: int | None
    data: Path | None
    state: Path | None
    join: Path | None
    relay: Path | None
    ca: Path | None
    cert: Path | None
    key: Path | None
    server_name: str | None
    ranks: Ranks | None
    log_format: LogFormat | None
    metrics: str | None
    policy: Path | None
    audit_log: Path | None


@click.command()
@click.option("--coordinator", metavar="HOST:PORT", help="Where the coordinator listens; a join bundle says it too.")
@click.option("--pool", help="The pool whose clients this worker acts for; a join bundle says it too.")
@click.option("--indices", metavar="0,1,…", help="Exactly these clients of the pool.")
@click.option("--capacity", type=click.IntRange(min=1), help="Up to this many of the pool's free clients. [default: 1]")
@click.option("--share", type=click.IntRange(min=1), help="Of these, how many while more workers may still come.")
@click.option("--data", type=PATH, help="The directory that holds the clients' data.")
@click.option("--state", type=PATH, help="A directory that outlives this process, for client state.")
@click.option("--join", type=PATH, help="A join bundle: this worker makes a key and has it certified. Or MUSTER_JOIN.")
@click.option("--relay", type=PATH, help="A shared folder that leads to the coordinator, where nothing can be dialled.")
@click.option("--ca", type=PATH, help="TLS: who vouches for the coordinator, in PEM.")
@click.option("--cert", type=PATH, help="Mutual TLS: this worker's certificate chain, in PEM. May change meanwhile.")
@click.option("--key", type=PATH, help="Its private key.")
@click.option("--server-name", help="What the coordinator's certificate names, if that isn't the host dialled.")
@click.option("--policy", type=PATH, help="External pools: the site's policy. [default: only Muster's own tasks]")
@click.option("--audit-log", type=PATH, help="External pools: the site's audit log. [default: audit.jsonl in --state]")
@click.option("--metrics", metavar="HOST:PORT", help="Serve metrics for Prometheus here. Or MUSTER_METRICS.")
@click.option(
    "--ranks",
    type=click.Choice(["mpi", "distributed"]),
    help="This process is one of several that are one worker: started by mpirun or srun (mpi), torchrun or srun.",
)
@click.option("--log-format", type=click.Choice(LOG_FORMATS), help="Of the logs. [default: MUSTER_LOG_FORMAT or text]")
def worker(**given: Unpack[Given]) -> None:
    """Work for a coordinator that runs elsewhere.

    With the bundle of an External pool the worker waits in the lobby, works for one job after the other, as far as the
    site's own policy allows, and never ends by itself.

    The job's token is read from the environment variable MUSTER_TOKEN, and a join bundle may be in MUSTER_JOIN, so that
    they show in no list of processes. A worker with a bundle or a certificate needs no token.
    """
    settings = settings_of(given, os.environ)
    from muster.worker import WorkerSettings, run_worker

    if isinstance(settings, WorkerSettings):
        raise SystemExit(run_worker(settings))
    from muster.external import run_external

    raise SystemExit(run_external(settings))


def settings_of(given: Given, environment: Mapping[str, str]) -> WorkerSettings | ExternalSettings:
    """What to run. Raises BadInput for combinations that can't work."""
    if given["indices"] is not None and given["capacity"] is not None:
        raise BadInput("--indices and --capacity: give one of them")
    if given["share"] is not None and given["capacity"] is None:
        raise BadInput("--share: also give --capacity, of which this is the part to begin with")
    from muster.worker import Join, WorkerSettings

    security = security_of(given, environment)
    coordinator, pool = given["coordinator"], given["pool"]
    if isinstance(security, Join):
        bundle, named = _read_join(security)
        coordinator, pool = coordinator or bundle.coordinator, pool or named
        if bundle.lobby:
            return _external_settings_of(given, environment, security, coordinator, pool)
    if given["policy"] or given["audit_log"]:
        raise BadInput("--policy and --audit-log: are for the join bundle of an External pool")
    if coordinator is None or pool is None:
        raise BadInput(f"{'--pool' if coordinator else '--coordinator'}: needed unless a join bundle says it")
    return WorkerSettings(
        coordinator=coordinator,
        pool=pool,
        indices=parse_indices(given["indices"]) if given["indices"] is not None else (),
        capacity=given["capacity"] or 1,
        share=given["share"] or 0,
        data=given["data"],
        state=given["state"],
        token=_token(environment, is_needed=not given["cert"] and not isinstance(security, Join)),
        security=security,
        log_format=given["log_format"] or _log_format(environment),
        ranks=given["ranks"],
        relay=given["relay"],
        metrics=_metrics(given["metrics"] or environment.get("MUSTER_METRICS")),
    )


def _external_settings_of(
    given: Given, environment: Mapping[str, str], join: Join, lobby: str, pool: str
) -> ExternalSettings:
    from muster.errors import ConfigError
    from muster.external import ExternalSettings
    from muster.policy import DEFAULT, read_policy

    if given["ranks"]:
        raise BadInput("--ranks: not with the bundle of an External pool, whose jobs are processes of their own")
    audit = given["audit_log"] or (given["state"] / "audit.jsonl" if given["state"] else None)
    if audit is None:
        raise BadInput("--state or --audit-log: give a folder that stays, or a file, for the site's audit log")
    try:
        policy = read_policy(given["policy"]) if given["policy"] else DEFAULT
    except ConfigError as error:
        raise BadInput(str(error)) from error
    return ExternalSettings(
        lobby=lobby,
        pool=pool,
        join=join,
        policy=policy,
        policy_place=str(given["policy"].absolute()) if given["policy"] else "none: only Muster's own tasks",
        audit=audit,
        indices=parse_indices(given["indices"]) if given["indices"] is not None else (),
        capacity=given["capacity"] or 0,
        share=given["share"] or 0,
        data=given["data"],
        state=given["state"],
        log_format=given["log_format"] or _log_format(environment),
        metrics=_metrics(given["metrics"] or environment.get("MUSTER_METRICS")),
    )


def security_of(given: Given, environment: Mapping[str, str]) -> TlsFiles | Join | None:
    """How this worker and its coordinator prove who they are; None: a plain channel."""
    from muster.worker import Join, TlsFiles

    ca, cert, key = given["ca"], given["cert"], given["key"]
    if bool(cert) != bool(key):
        raise BadInput("--cert and --key: give both or neither")
    if given["join"] and ca:
        raise BadInput("--join and --ca: give one of them; a bundle holds its own authority")
    if ca:
        return TlsFiles(ca, cert, key, given["server_name"] or "")
    if cert or given["server_name"]:
        raise BadInput("--cert, --key and --server-name: also give --ca, to know the coordinator by")
    if given["join"]:
        return Join(_read(given["join"]), f"--join {given['join']}", given["join"])
    return Join(environment["MUSTER_JOIN"], "MUSTER_JOIN") if environment.get("MUSTER_JOIN") else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--join {path}: {getattr(error, 'strerror', None) or 'not text'}") from error


def _read_join(join: Join) -> tuple[Bundle, str]:
    """The bundle, and which pool it is for."""
    from muster.credentials import read_join
    from muster.errors import CredentialError
    from muster_wire.trust.certificate import read_certificate

    try:
        bundle = read_join(join.text, join.place)
    except CredentialError as error:
        raise BadInput(str(error)) from error
    return bundle, read_certificate(bundle.pair.chain).identity.pool


def _metrics(address: str | None) -> str | None:
    try:
        return ":".join(map(str, parse_address(address))) if address else None
    except AddressError as error:
        raise BadInput(f"--metrics {error}") from error


def _log_format(environment: Mapping[str, str]) -> LogFormat:
    try:
        return log_format_of(environment)
    except ValueError as error:
        raise BadInput(str(error)) from error


def _token(environment: Mapping[str, str], *, is_needed: bool) -> str:
    token = environment.get("MUSTER_TOKEN", "")
    if is_needed and not token:
        raise BadInput("MUSTER_TOKEN: not set; put the job's token into this environment variable")
    return token


def parse_indices(text: str) -> tuple[int, ...]:
    """``0,2,5`` → (0, 2, 5). Raises BadInput."""
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise BadInput(f"--indices {text}: write numbers between commas, for example --indices 0,1,2")
    return tuple(dict.fromkeys(int(number) for number in text.split(",")))
