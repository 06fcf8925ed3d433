"""A coordinator whose calendar is as far ahead as a file says, in seconds: `FILE arguments…`."""

import sys
import time
from pathlib import Path

from muster_coordinator.assembly import Outside
from muster_coordinator.observer import Unobserved
from muster_coordinator.process import main


class ShiftedClock:
    def __init__(self, file):
        self._file = Path(file)

    def now(self):
        return time.monotonic()

    def unix(self):
        return time.time() + float(self._file.read_text())


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:], Outside(ShiftedClock(sys.argv[1]), Unobserved())))
