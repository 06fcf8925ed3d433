"""``python -m muster_slurm``: one bridge."""

import sys

from muster_slurm.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
