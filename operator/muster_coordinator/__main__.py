"""`python -m muster_coordinator`: see settings.py for what it takes and process.py for what it does."""

from __future__ import annotations

import sys

from muster_coordinator.assembly import MachineClock, Outside
from muster_coordinator.observer import Unobserved
from muster_coordinator.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Outside(MachineClock(), Unobserved())))
