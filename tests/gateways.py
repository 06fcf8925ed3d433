"""A Gateway with a TLS listener in mode Passthrough, as far as TLSRoutes ask for one: it goes by the name that a client
greets with, opens nothing, and hands on to a pod behind the route's Service. It plays the one that a cluster has.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl

from charting import Kubectl, Object
from connect_proxy import PIECE_BYTES, Tunnels

# As much of the kind as a cluster without Gateway API needs for them to be kept.
ROUTES = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "tlsroutes.gateway.networking.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
    },
    "spec": {
        "group": "gateway.networking.k8s.io",
        "names": {"kind": "TLSRoute", "listKind": "TLSRouteList", "plural": "tlsroutes", "singular": "tlsroute"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


class Gateway(Tunnels):
    """One port for every name that a TLSRoute of the cluster has."""

    def __init__(self, cluster: Kubectl) -> None:
        super().__init__()
        self.names: set[str] = set()  # that clients greeted with
        self._cluster = cluster
        self._places: dict[str, str] = {}  # what was found behind a name: looking is slow, and clients don't wait

    def serve(self, client: socket.socket) -> None:
        hello = b""
        while (name := greeted_name(hello)) is None:
            piece = client.recv(PIECE_BYTES)
            if not piece:
                return
            hello += piece
        self.names.add(name)
        if name not in self._places:
            self._places[name] = self._behind(name)
        self.tunnel(client, self._places[name], begin=hello)

    def _behind(self, name: str) -> str:
        """Where a pod of the Service is that the route of this name leads to."""
        [route] = [one for one in self._list("tlsroutes", "-A") if name in one["spec"]["hostnames"]]
        [backend] = route["spec"]["rules"][0]["backendRefs"]
        labels = f"kubernetes.io/service-name={backend['name']}"
        for found in self._list("endpointslices", "-n", route["metadata"]["namespace"], "-l", labels):
            for endpoint in found["endpoints"] or ():
                if endpoint["conditions"]["ready"]:
                    return f"{endpoint['addresses'][0]}:{found['ports'][0]['port']}"
        raise ConnectionRefusedError(f"nobody is ready behind {name}")

    def _list(self, *what: str) -> list[Object]:
        found: list[Object] = json.loads(self._cluster.tell("get", *what, "-o", "json"))["items"]
        return found


def greeted_name(hello: bytes) -> str | None:
    """The name in the beginning of a TLS connection (SNI); None as long as it isn't there."""
    names: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _connection, name, _context: names.append(name)
    incoming = ssl.MemoryBIO()
    incoming.write(hello)
    with contextlib.suppress(ssl.SSLError):  # it has no certificate, and isn't to answer
        context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    return names[0] if names else None
