"""One bridge process, from its command line to its exit code.

On standard input (unless it is alone, as in a pod) comes a line of JSON, ``{"over": true}``: the job has ended.
Standard input closed, or a SIGTERM, means the same in haste: whoever started this process is gone. Lines of JSON go
out: what happened, and what workers log. With the job over, it leaves when SLURM has nothing of this pool left.
Between two looks at SLURM it attends to the coordinator, which hears what SLURM has for its clients and says whom it
hears from.

Exit codes: 0 nothing is left in SLURM; 1 something may be; 2 every worker was given up, or the manifest or a secret has
to be put right; 143 alone, and told to go while there was work, or something was left: another is to go on.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from muster_slurm.bridge import POLL_S, Bridge, Setup
from muster_slurm.coordinator import Coordinator
from muster_slurm.errors import Away, BridgeError, SettingsError
from muster_slurm.metrics import BridgeMetrics, Metered, Sights
from muster_slurm.relay import Relay, open_carrier
from muster_slurm.request import slurm_of
from muster_slurm.transport import Secrets, open_transport
from muster_spec.pool_types import Workers
from muster_spec.types import ResolvedJob, ResolvedPool
from muster_wire.errors import TrustError
from muster_wire.trust.bundle import Bundle, read_bundle

LEAVE_WITHIN_S = 60.0
ATTEND_S = 4.0
RELAY_LOOK_S = 0.5
CLEAN, LEFT, BAD_INPUT, STOPPED = 0, 1, 2, 143


@dataclass(frozen=True, slots=True)
class Settings:
    """The command line."""

    job: Path
    pool: str
    ledger: Path
    join: Path
    attend: Path
    secrets: Path | None
    poll_s: float
    is_alone: bool
    workers: int | None
    metrics: str | None  # where to serve them


def main(arguments: Sequence[str]) -> int:
    """Run a bridge to its end; its exit code."""
    try:
        return _Process(_read_settings(arguments)).run()
    except BridgeError as error:
        print(f"bridge: {error}", file=sys.stderr, flush=True)
        return BAD_INPUT


def _read_settings(arguments: Sequence[str]) -> Settings:
    parser = argparse.ArgumentParser(prog="python -m muster_slurm", description="Drive one pool's workers under SLURM.")
    parser.add_argument("--job", type=Path, required=True, metavar="FILE", help="the resolved job, as JSON")
    parser.add_argument("--pool", required=True, help="the pool of it that this is for")
    parser.add_argument("--ledger", type=Path, required=True, metavar="FILE", help="what it remembers; outlives it")
    parser.add_argument("--join", type=Path, required=True, metavar="FILE", help="the pool's join bundle, read anew")
    parser.add_argument("--attend", type=Path, required=True, metavar="FILE", help="its own bundle, read anew likewise")
    parser.add_argument("--secrets", type=Path, metavar="DIR", help="the pool's secrets, as DIR/NAME/KEY")
    parser.add_argument("--poll", type=float, default=POLL_S, metavar="S", help="seconds between two listings")
    parser.add_argument("--alone", action="store_true", help="nobody tells it when the job is over: signals end it")
    parser.add_argument("--workers", type=int, metavar="N", help="as many, whatever the job said when it began")
    parser.add_argument("--metrics", metavar="HOST:PORT", help="serve metrics for Prometheus here, at /metrics")
    given = parser.parse_args(arguments)
    paths = (given.ledger, given.join, given.attend, given.secrets)
    return Settings(given.job, given.pool, *paths, given.poll, given.alone, given.workers, given.metrics)


class _Process:
    """Reads, waits and writes around a bridge."""

    def __init__(self, settings: Settings) -> None:
        job, pool = read_job(settings.job, settings.pool)
        pool = _with_workers(pool, settings.workers)
        self._secrets = Secrets(settings.secrets)
        self._join = settings.join
        self._variables = slurm_of(pool).environment
        self._relay: Relay | None = None
        self._environment()  # what is missing is said before anything is asked for
        setup = Setup(job, pool, settings.ledger, self._environment, settings.poll_s)
        self._coordinator = Coordinator(settings.attend, pool.name)
        self._attend_s = min(ATTEND_S, settings.poll_s)
        self._attend_at = 0.0
        self._metrics = BridgeMetrics({"namespace": job.namespace, "fedjob": job.name, "pool": pool.name})
        self._metrics_address = settings.metrics
        transport = Metered(open_transport(slurm_of(pool), self._secrets), self._metrics)
        self._bridge = Bridge(setup, transport, self._tell)
        self._unread = b""
        self._is_alone = settings.is_alone
        self._is_stopped = False
        self._told = [] if settings.is_alone else [sys.stdin.fileno()]  # nothing, once it is closed
        carrier = open_carrier(job, pool, self._secrets, settings.ledger)
        if carrier:
            self._relay = Relay(carrier, self._coordinator.address, self._bridge.note_relay)
        self._metrics.look_at(Sights(pool.spec.workers_wanted, lambda: self._bridge.tasks, self._is_carrying))
        self._heard, self._wake = os.pipe()

    def _is_carrying(self) -> bool | None:
        return self._relay.is_carrying if self._relay else None

    def run(self) -> int:
        for end in (self._heard, self._wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        with contextlib.ExitStack() as stack:
            if self._metrics_address:
                stack.enter_context(self._metrics.serve(self._metrics_address))
            if self._relay:
                stack.callback(self._relay.stop)
            return self._run()

    def _stop(self) -> None:
        """A pod that ends with 0 has completed its Job for good, which no drain or suspension is to do."""
        if not self._bridge.is_over:
            self._is_stopped = self._is_alone
        self._bridge.finish(hasty=True)

    def _run(self) -> int:
        leave_at: float | None = None
        while self._relay and not self._relay.is_ready and not self._bridge.is_over:
            self._wait(RELAY_LOOK_S)  # nobody is submitted who couldn't come
        while True:
            wait_s = self._bridge.turn()
            if (self._bridge.fatal or (self._is_alone and self._bridge.is_done)) and not self._bridge.is_over:
                self._bridge.finish(hasty=True)
            if self._bridge.is_over and leave_at is None:
                leave_at = time.monotonic() + LEAVE_WITHIN_S
            if self._bridge.is_idle or (leave_at is not None and time.monotonic() > leave_at):
                return self._conclude()
            self._wait(0.0 if self._bridge.is_over and leave_at is None else wait_s)

    def _conclude(self) -> int:
        if not self._bridge.is_idle:
            names = ", ".join(self._bridge.left)
            print(f"bridge: SLURM may still have {names}; see to it with scancel", file=sys.stderr, flush=True)
            return STOPPED if self._is_stopped else LEFT
        if self._bridge.fatal:
            print(f"bridge: {self._bridge.fatal}", file=sys.stderr, flush=True)
            return BAD_INPUT
        return STOPPED if self._is_stopped and not self._bridge.is_done else CLEAN

    def _wait(self, wait_s: float) -> None:
        """Until that time has passed, or the end of the job is told."""
        deadline = time.monotonic() + wait_s
        was_over = self._bridge.is_over
        while (left_s := deadline - time.monotonic()) > 0 and self._bridge.is_over == was_over:
            if not was_over:
                left_s = min(left_s, self._attend())
            if self._relay:
                self._relay.look()
                left_s = min(left_s, RELAY_LOOK_S)
            readable, _, _ = select.select([self._heard, *self._told], [], [], left_s)
            if self._heard in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._heard, 4096)
            if self._told and self._told[0] in readable:
                self._listen(self._told[0])

    def _attend(self) -> float:
        """Speak with the coordinator, if it is time; how long until the next time."""
        if time.monotonic() >= self._attend_at:
            try:
                self._bridge.hear(self._coordinator.attend(self._bridge.standings, time.time()))
            except Away as error:
                self._bridge.miss(error)
            self._attend_at = time.monotonic() + self._attend_s
        return max(self._attend_at - time.monotonic(), 0.0)

    def _tell(self, event: Mapping[str, Any]) -> None:
        self._metrics.told(event)
        print(json.dumps(event), flush=True)

    def _listen(self, told: int) -> None:
        chunk = os.read(told, 1 << 16)
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        for line in lines:
            self._heed(json.loads(line))
        if not chunk:
            self._told = []
            self._bridge.finish(hasty=True)

    def _heed(self, told: Mapping[str, Any]) -> None:
        if told.get("over"):
            self._bridge.finish(hasty=False)

    def _environment(self) -> Mapping[str, str]:
        """What the submission carries: the join bundle as it is now, and the pool's own variables."""
        given = {
            variable.name: self._secrets.read(variable.secret) if variable.secret else variable.value or ""
            for variable in self._variables
        }
        return {**given, "MUSTER_JOIN": self._bundle_line()}

    def _bundle_line(self) -> str:
        try:
            content = self._join.read_bytes()
        except OSError as error:
            raise SettingsError(f"--join {self._join}: {error.strerror}") from error
        if self._relay is None or not self._relay.is_ready:
            return base64.urlsafe_b64encode(content).decode()
        return self._relay.told(_read_bundle(self._join, content)).to_line()


def _read_bundle(path: Path, content: bytes) -> Bundle:
    try:
        return read_bundle(content.decode("utf-8", "replace"))
    except TrustError as error:
        raise SettingsError(f"--join {path}: {error.reason}") from error


def read_job(path: Path, name: str) -> tuple[ResolvedJob, ResolvedPool]:
    """The resolved job in a file, and its Slurm pool of that name. Raises SettingsError."""
    try:
        job = msgspec.json.decode(path.read_bytes(), type=ResolvedJob)
    except (OSError, msgspec.MsgspecError, UnicodeError) as error:
        raise SettingsError(f"--job {path}: not a resolved job: {error}") from error
    for pool in job.pools:
        if pool.name == name and pool.spec.type == "Slurm":
            return job, pool
    raise SettingsError(f"--pool {name}: the job has no Slurm pool of that name")


def _with_workers(pool: ResolvedPool, count: int | None) -> ResolvedPool:
    if count is None:
        return pool
    workers = Workers(min=count, max=count, clients_per_worker=1)
    return msgspec.structs.replace(pool, spec=msgspec.structs.replace(pool.spec, workers=workers))
