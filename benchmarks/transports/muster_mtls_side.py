"""Muster over mutual TLS, with a certificate for each client; all else is as in muster_side.py."""

from __future__ import annotations

from coordinator import Trust
from muster_side import run

if __name__ == "__main__":
    run(Trust())
