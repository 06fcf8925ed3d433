"""``python -m muster_slurm.cancel``: cancels what SLURM has of one job's pool, where no bridge is left that would.

The operator starts it in a pod of its own for a job that has ended, or is to be deleted, whose bridge was not there to
cancel. It needs neither the coordinator nor a ledger: what SLURM lists under the pool's keys is the pool's. It goes on
for as long as SLURM is away; whoever started it says when it is enough, by SIGTERM.

Exit codes: 0 nothing is left in SLURM; 2 the manifest or a secret has to be put right; 143 told to go too early to say.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

from muster_slurm.errors import BridgeError, SlurmError
from muster_slurm.plan import SETTLE_S, Listing
from muster_slurm.process import BAD_INPUT, CLEAN, STOPPED, read_job
from muster_slurm.request import Keys, slurm_of
from muster_slurm.states import Phase
from muster_slurm.transport import Secrets, open_transport

POLL_S = 2.0
LONGEST_WAIT_S = 30.0

Say = Callable[[str, str], None]
"""Told what happens: in one word, and for people."""


class Site(Protocol):
    """As much of SLURM as cancelling takes."""

    def list_jobs(self, prefix: str) -> Listing: ...

    def cancel(self, job: int) -> None: ...


class Clock(Protocol):
    """Seconds, and a way to let them pass."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


def main(arguments: Sequence[str]) -> int:
    """Cancel, and see that it is so; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m muster_slurm.cancel", description="Cancel a pool's jobs in SLURM.")
    parser.add_argument("--job", type=Path, required=True, metavar="FILE", help="the resolved job, as JSON")
    parser.add_argument("--pool", required=True, help="the pool of it that this is for")
    parser.add_argument("--secrets", type=Path, metavar="DIR", help="the pool's secrets, as DIR/NAME/KEY")
    parser.add_argument("--settle", type=float, default=SETTLE_S, metavar="S", help="how long nothing has to be listed")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)  # also since the first process of a container is not ended by it otherwise
    try:
        job, pool = read_job(given.job, given.pool)
        site = open_transport(slurm_of(pool), Secrets(given.secrets))
        cancel_all(
            site, Keys(job.uid, pool.name), given.settle, time, lambda what, words: _tell(pool.name, what, words)
        )
    except BridgeError as error:
        print(f"cancel: {error}", file=sys.stderr, flush=True)
        return BAD_INPUT
    return CLEAN


def cancel_all(site: Site, keys: Keys, settle_s: float, clock: Clock, say: Say) -> None:
    """Returns when nothing of ours has been listed for `settle_s`: a submission may take as long to show up.

    SLURM's errors are waited out. Raises SettingsError where a secret is gone.
    """
    clean_since: float | None = None
    failures, shown = 0, ""
    while clean_since is None or clock.monotonic() < clean_since + settle_s:
        began = clock.monotonic()
        try:
            left = _living(site.list_jobs(keys.uid), keys)
            for job in left:
                site.cancel(job)
        except SlurmError as error:
            clean_since, failures, words = None, failures + 1, str(error)
        else:
            clean_since = None if left else began if clean_since is None else clean_since
            failures, words = 0, f"cancelling {', '.join(map(str, left))}" if left else "SLURM has nothing of it"
        if words != shown:
            say("warning" if failures else "cancel", words)
            shown = words
        clock.sleep(min(LONGEST_WAIT_S, POLL_S * 2 ** min(failures, 5)))


def _living(listing: Listing, keys: Keys) -> list[int]:
    """The jobs of the pool that haven't ended, as far as SLURM knows."""
    ours = (job for job in listing.jobs if keys.read(job.name, job.comment) is not None)
    return sorted({job.array for job in ours if job.phase is not Phase.ENDED})


def _leave(_number: int, _frame: object) -> NoReturn:
    print("cancel: SLURM may still have jobs of this pool; see to it with scancel", file=sys.stderr, flush=True)
    sys.exit(STOPPED)


def _tell(pool: str, what: str, words: str) -> None:
    event = {"event": "slurm", "time": time.time(), "pool": pool, "what": what, "message": f"pool {pool}: {words}"}
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
