"""A coordinator that bridges attend to: a real server over mutual TLS, which says what a test wants it to."""

import threading
import time
from concurrent import futures
from contextlib import contextmanager

import grpc

from muster_wire.trust.authority import make_authority
from muster_wire.trust.bundle import make_bundle
from muster_wire.trust.identity import Role, name_identity
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.v1.federation_pb2_grpc import FederationServicer, add_FederationServicer_to_server

UID = "0a1b2c3d"
HOUR = 3600.0


def bridges_bundle(authority, address, pool="hpc", uid=UID):
    """What a bridge of this pool is started with, as text."""
    identity = name_identity(Role.BRIDGE, uid, pool)
    return make_bundle(authority, address, identity, time.time(), HOUR).to_json()


def to_nowhere():
    """The same for a coordinator that isn't there."""
    return bridges_bundle(make_authority(UID, time.time()), "127.0.0.1:1")


class Attended(FederationServicer):
    """`present`: whom it hears from, None while it can't tell. `said` are the requests, the newest last."""

    def __init__(self):
        self.present = None
        self.lines = []
        self.said = []
        self.news = threading.Condition()

    def Attend(self, request, _context):  # noqa: N802 -- as the .proto has it
        with self.news:
            self.said.append(request)
            self.news.notify_all()
        read = min(request.log_read, len(self.lines)) if request.log == "tail" else 0
        return pb.AttendReply(
            version=pb.Version(major=1, minor=1),
            present=self.present or (),
            complete=self.present is not None,
            log="tail",
            log_read=len(self.lines),
            lines=[pb.LogLine(source=source, text=text) for source, text in self.lines[read:]],
        )

    def until(self, is_so, within_s=60):
        """The first request for which this is so."""
        with self.news:
            assert self.news.wait_for(lambda: any(map(is_so, self.said)), within_s), self.said[-1:]
            return next(filter(is_so, self.said))


@contextmanager
def attended(present=None):
    """One that runs, and the bundle of the bridge that is to find it."""
    authority = make_authority(UID, time.time())
    pair = authority.issue_server(["127.0.0.1"], time.time())
    server = grpc.server(futures.ThreadPoolExecutor(2))
    servicer = Attended()
    servicer.present = present
    add_FederationServicer_to_server(servicer, server)
    credentials = grpc.ssl_server_credentials([(pair.key, pair.chain)], authority.pem, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield servicer, bridges_bundle(authority, f"127.0.0.1:{port}")
    finally:
        server.stop(0).wait()
