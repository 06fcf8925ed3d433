"""Ties a process to the runner that started it, so that nothing outlives a runner that was killed.

A runner that ends well stops its processes itself. One that is killed with -9 can't, so each process arranges its own
end: on Linux the kernel sends it SIGKILL when its parent dies; elsewhere a thread watches for its parent to change.
Run as a program, this module ties the process first and then becomes another module of Python:
``python -m muster_cli.tether PARENT_PID MODULE ARGUMENTS…``.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1


def tie_to_parent(parent_pid: int) -> None:
    """End this process when the process `parent_pid`, which started it, ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent_pid,), daemon=True, name="tether").start()
    if os.getppid() != parent_pid:  # it died before we asked
        os._exit(1)


def _watch(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Tie, then run the module as if Python had been asked for it."""
    _, parent_pid, module, *arguments = sys.argv
    tie_to_parent(int(parent_pid))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
