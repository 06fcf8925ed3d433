"""A coordinator that grants leases as short as it is told, in seconds: `SECONDS arguments…`."""

import sys

from muster_coordinator.assembly import MachineClock, Outside
from muster_coordinator.observer import Unobserved
from muster_coordinator.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[2:], Outside(MachineClock(), Unobserved(), lease_s=int(sys.argv[1]))))
