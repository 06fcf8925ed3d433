"""A coordinator that kills itself, as kill -9 would, at the n-th place its observer hears of: `N FILE arguments…`.

Every place it passes goes to FILE as it is reached, so a test knows where it died. With N 0 it lives.
"""

import os
import signal
import sys

from muster_coordinator.assembly import MachineClock, Outside
from muster_coordinator.process import main


class Mortal:
    def __init__(self, last, log):
        self._left = last
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def reached(self, place):
        os.write(self._log, f"{place}\n".encode())
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[3:], Outside(MachineClock(), Mortal(int(sys.argv[1]), sys.argv[2]))))
