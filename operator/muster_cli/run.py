"""`muster run`: one job from manifest to model on this machine, with no cluster.

The order is: read and check everything that can be checked, choose the folder, plan the processes, train, keep the
models, measure the baselines, say how it went. Nothing is started before everything is checked, and whatever happens
after that the folder can be gone on from.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from muster_cli.audience import Display, Record, choose_display, read_events
from muster_cli.baselines import measure_baselines
from muster_cli.errors import BadInput, CommandError, ExitCode
from muster_cli.folder import RunFolder, check_data, choose_folder, lock_folder, make_folder
from muster_cli.job import fields_without_effect, identify, load_job, storage_of, store_of, write_job
from muster_cli.plan import RunPlan, plan_away, plan_run
from muster_cli.processes import CoordinatorCommand
from muster_cli.report import done_event, how_to_go_on, refused_event, summary
from muster_cli.session import Ending, Session, Setup
from muster_cli.site import Site, address_of, check_pools
from muster_cli.stopping import StopSignals
from muster_cli.view import Event, View, fold, fold_all
from muster_spec.types import ResolvedJob
from muster_telemetry.address import AddressError, parse_address
from muster_wire.durable import write_whole


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What the command line asked for."""

    files: tuple[Path, ...]
    data: Path | None
    out: Path | None
    settings: tuple[str, ...]
    resume: bool
    job: str | None
    as_json: bool
    baselines: bool
    metrics: str | None
    pools: str
    address: str | None
    secrets: Path | None
    poll: float | None

    @property
    def is_real(self) -> bool:
        """Whether pools are driven where they are, instead of standing for local processes."""
        return self.pools == "real"


def _checked(_context: click.Context, option: click.Parameter, address: str | None) -> str | None:
    if address is not None:
        try:
            parse_address(address)
        except AddressError as error:
            raise BadInput(f"--{option.name} {error}") from error
    return address


@click.command()
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="The directory that holds the data of every pool.")
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder. [default: muster-runs/JOB/TIME]")
@click.option(
    "--set", "settings", metavar="PATH=VALUE", multiple=True, help="Change the job, e.g. spec.rounds.total=5."
)
@click.option("--resume", is_flag=True, help="Go on with the newest run of this job, or with the one in --out.")
@click.option("--job", metavar="NAME", help="Which job to run, where the files hold several.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, for machines.")
@click.option("--baselines/--no-baselines", default=True, help="Also train on pooled data and on each client alone.")
@click.option(
    "--pools",
    type=click.Choice(["local", "real"]),
    default="local",
    help="local: every pool as processes here. real: SLURM pools where they are, driven from here. [default: local]",
)
@click.option("--address", metavar="HOST:PORT", callback=_checked, help="With --pools real: where nodes dial.")
@click.option("--secrets", type=click.Path(path_type=Path), help="The pools' secrets, as files DIR/NAME/KEY.")
@click.option("--poll", type=click.FloatRange(min=0.1), help="Seconds between two looks at SLURM. [default: 10]")
@click.option("--metrics", metavar="HOST:PORT", callback=_checked, help="Serve metrics for Prometheus here meanwhile.")
def run(*, files: tuple[Path, ...], **options: object) -> None:
    """Train a job on this machine, with no cluster.

    Pools of every type run as local processes, or with --pools real, on a login node, those of type Slurm as SLURM's
    jobs. Exit code: 0 complete, 1 failed, 2 bad input, 130 or 143 stopped.
    """
    request = RunRequest(files=files, **options)  # type: ignore[arg-type]  # click has checked them
    began = time.time()
    try:
        raise SystemExit(run_job(request))
    except CommandError as error:
        if request.as_json:
            print(json.dumps(refused_event(error, time.time(), began)), flush=True)
        raise


def run_job(request: RunRequest) -> int:
    """Run it; the answer is the exit code. Raises BadInput before anything is started."""
    began = time.time()
    job = load_job(request.files, request.job, request.settings)
    plan = _plan(request, job)
    folder = choose_folder(job.name, request.out, request.resume, datetime.now(UTC))
    make_folder(folder)
    lock = lock_folder(folder)
    try:
        job = identify(job, folder)
        write_job(job, folder)
        return _Run(request, job, plan, folder, began).go()
    finally:
        os.close(lock)


def _plan(request: RunRequest, job: ResolvedJob) -> RunPlan:
    if request.is_real:
        check_pools(job)
        if request.data is not None:
            raise BadInput("--data: with --pools real the data is at the site; say where in the pools' spec.data.path")
        return plan_away(job)
    for option, value in (("--address", request.address), ("--secrets", request.secrets), ("--poll", request.poll)):
        if value is not None:
            raise BadInput(f"{option}: goes with --pools real")
    plan = plan_run(job, os.cpu_count() or 1, str(request.data.resolve()) if request.data else None)
    _check_data(request, plan)
    return plan


def _check_data(request: RunRequest, plan: RunPlan) -> None:
    if request.data is not None:
        check_data("--data", str(request.data))
        return
    places = [place for worker in plan.workers for place in zip(worker.data, worker.clients, strict=True)]
    for path, client in {path: client for path, client in reversed(places) if path is not None}.items():
        check_data(f"the data of client {client}", path)


class _Run:
    """One run: holds the view and hands events to whoever listens."""

    def __init__(self, request: RunRequest, job: ResolvedJob, plan: RunPlan, folder: RunFolder, began: float) -> None:
        self._request = request
        self._job = job
        self._plan = plan
        self._folder = folder
        self._data = str(request.data.resolve()) if request.data else None
        self._began = began
        self._view = fold_all(View(), read_events(folder.metrics))
        self._record: Record | None = None
        self._display: Display | None = None
        self._site: Site | None = None
        if request.is_real:
            address = address_of(folder, request.address)
            self._site = Site(job, folder, address, request.secrets, request.poll)

    def go(self) -> int:
        self._say(*self._opening())
        with Record(self._folder.metrics) as self._record:
            self._display = choose_display(self._request.as_json)
            try:
                ending = self._train_and_compare()
            finally:
                self._display.close(self._view)
        self._say(*self._closing(ending))
        return ending.exit_code

    def _train_and_compare(self) -> Ending:
        token_file = self._folder.path / "token"
        token = secrets.token_urlsafe(32)
        write_whole(token_file, token.encode(), mode=0o600)
        security = self._site.prepare() if self._site else ("--token-file", str(token_file))
        session: Session | None = None
        command = CoordinatorCommand(
            self._folder.job,
            storage_of(self._job, self._folder),
            security,
            self._folder.log("coordinator"),
            self._request.metrics,
            store_of(self._job),
        )
        with StopSignals(at_once=lambda: session.kill() if session else None) as signals:
            session = Session(
                Setup(self._plan, self._folder, command, token, self._job.spec.run_policy.backoff_limit, self._site),
                signals,
                self._tell,
                self._tick,
            )
            try:
                self._tell(self._run_event())
                ending = session.train()
                self._keep_models()
                if ending.exit_code == ExitCode.COMPLETE and self._request.baselines and not self._site:
                    measure_baselines(session, self._job, self._data, self._view, self._folder, self._tell)
            finally:
                session.end()
                token_file.unlink(missing_ok=True)
        self._tell(done_event(self._view, ending, time.time(), self._began))
        return ending

    # --- events -------------------------------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        self._view = fold(self._view, event)
        if self._record is not None:
            self._record.write(event)
        if self._display is not None:
            self._display.show(self._view, event)

    def _tick(self) -> None:
        if self._display is not None:
            self._display.tick(self._view)

    def _run_event(self) -> Event:
        job = self._job
        return {
            "event": "run",
            "time": time.time(),
            "job": job.name,
            "folder": str(self._folder.path),
            "total": job.spec.rounds.total,
            "pools": [
                {
                    "name": pool.name,
                    "type": pool.spec.type,
                    "clients": pool.spec.clients,
                    "isAway": self._site is not None,
                }
                for pool in job.pools
            ],
            "clients": list(self._plan.clients),
        }

    # --- what is left behind ------------------------------------------------------------------------------------------

    def _keep_models(self) -> None:
        finished = self._view.finished or {}
        model, best = finished.get("model"), (finished.get("best") or {}).get("model")
        for digest, place in ((model, self._folder.model), (best if best != model else None, self._folder.best)):
            if digest:
                aside = place.with_suffix(".partial")
                shutil.copyfile(storage_of(self._job, self._folder) / "models" / f"{digest}.safetensors", aside)
                aside.replace(place)

    # --- words --------------------------------------------------------------------------------------------------------

    def _say(self, *lines: str) -> None:
        """Tell a person; machines read stdout, so with --json words go to stderr."""
        for line in lines:
            print(line, file=sys.stderr if self._request.as_json else sys.stdout, flush=True)

    def _opening(self) -> list[str]:
        return [
            f"{self._job.name}: {self._folder.path}",
            *self._plan.notes,
            *map(str, fields_without_effect(self._request.files, drives_slurm=self._request.is_real)),
        ]

    def _closing(self, ending: Ending) -> list[str]:
        again = shlex.join(["muster", *_resume_arguments(sys.argv[1:], self._folder)])
        lines = summary(self._view, ending, self._folder, time.time())
        return lines if ending.exit_code == ExitCode.COMPLETE else [*lines, how_to_go_on(ending, again)]


def _resume_arguments(arguments: list[str], folder: RunFolder) -> list[str]:
    """The same command, going on in this folder."""
    named = any(argument == "--out" or argument.startswith("--out=") for argument in arguments)
    again = [argument for argument in arguments if argument != "--resume"]
    return [*again, "--resume", *([] if named else ["--out", str(folder.path)])]
