"""Names and addresses of what a cluster with nodes has on this machine. Pure: all follow from one number.

The machine itself stands on a bridge of the cluster's own, and so does each node, in a network namespace of its own:

    10.N.0.1     the machine: API server and DNS          10.N.0.10+i  node i
    10.N.i.0/24  the pods of node i

Services have the same addresses in every cluster, which only the namespaces of its nodes know.
"""

from __future__ import annotations

from dataclasses import dataclass

SERVICES = "10.96.0.0/16"
NUMBERS = range(140, 200)
MOST_NODES = 9


@dataclass(frozen=True, slots=True)
class Network:
    """The addresses of one cluster."""

    number: int

    @property
    def everything(self) -> str:
        return f"10.{self.number}.0.0/16"

    @property
    def nodes(self) -> str:
        return f"10.{self.number}.0.0/24"

    @property
    def gateway(self) -> str:
        """This machine, as nodes and pods see it."""
        return f"10.{self.number}.0.1"

    @property
    def bridge(self) -> str:
        return f"muster{self.number}"

    def node(self, index: int) -> str:
        return f"10.{self.number}.0.{10 + index}"

    def pods(self, index: int) -> str:
        return f"10.{self.number}.{index}.0/24"

    def link(self, index: int) -> str:
        """The machine's end of the cable to a node."""
        return f"{self.bridge}n{index}"


def node_name(index: int) -> str:
    """What a node is called in the cluster: n1, n2, …"""
    return f"n{index}"
