"""`python -m muster_coordinator`: see settings.py for what it takes and process.py for what it does."""

from __future__ import annotations

import os
import sys

# The coordinator has threads of its own for heavy work. Those of a linear algebra library would spin for one another on
# busy cores, and make inner products a hundred times slower. It reads this when numpy is imported.
os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")

from muster_coordinator.assembly import MachineClock, Outside
from muster_coordinator.observer import Unobserved
from muster_coordinator.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Outside(MachineClock(), Unobserved())))
