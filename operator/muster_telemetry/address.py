"""Where a process is to be found: HOST:PORT, as it is written on command lines."""

from __future__ import annotations


class AddressError(ValueError):
    """Not an address."""


def parse_address(address: str) -> tuple[str, int]:
    """Host and port; port 0 is for taking any one. Raises AddressError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise AddressError(f"{address}: write HOST:PORT, for example 127.0.0.1:0 or 0.0.0.0:8443")
    return host, int(port)
