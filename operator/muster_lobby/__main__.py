"""`python -m muster_lobby`."""

from __future__ import annotations

import sys

from muster_lobby.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
