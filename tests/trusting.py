"""A job's authority, the files that a coordinator is started with, and workers that come with certificates."""

import time
from pathlib import Path

import grpc
import grpc.aio

from muster_coordinator.rehearsal import Drift, RehearsalWorker
from muster_wire.trust.authority import make_authority
from muster_wire.trust.bundle import make_bundle
from muster_wire.trust.identity import Role, name_identity
from muster_wire.trust.keys import make_key, make_request
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.v1.federation_pb2_grpc import FederationStub

UID = "job-1"
HOUR = 3600.0
PATIENCE_S = 20
FAKES = Path(__file__).parent / "fakes"


class Trust:
    """One job's certificates, on disk."""

    def __init__(self, folder, uid=UID):
        self.folder = folder
        self.uid = uid
        self.authority = make_authority(uid, time.time())
        self.ca, self.cert, self.key, self.enrol_key, self.denied = (
            folder / name for name in ("ca.pem", "server.pem", "server-key.pem", "ca-key.pem", "denied")
        )
        self.ca.write_bytes(self.authority.pem)
        self.enrol_key.write_bytes(self.authority.key_pem)
        self.denied.write_text("# nobody yet\n")
        self.issue_server()

    def issue_server(self, hosts=("127.0.0.1", "localhost"), valid_s=HOUR):
        pair = self.authority.issue_server(hosts, time.time(), valid_s)
        self.cert.write_bytes(pair.chain)
        self.key.write_bytes(pair.key)
        return pair

    @property
    def flags(self):
        files = {"tls-cert": self.cert, "tls-key": self.key, "client-ca": self.ca, "deny-list": self.denied}
        return [word for name, path in files.items() for word in (f"--{name}", str(path))]

    @property
    def enrolling(self):
        return [*self.flags, "--enrol-key", str(self.enrol_key)]

    def pair(self, pool="p", indices=(), role=Role.WORKER, uid=None, valid_s=HOUR):
        return self.authority.issue_client(name_identity(role, uid or self.uid, pool, indices), time.time(), valid_s)

    def bundle(self, address, pool="p", indices=(), valid_s=HOUR):
        joiner = name_identity(Role.JOINER, self.uid, pool, indices)
        return make_bundle(self.authority, address, joiner, time.time(), valid_s)

    def channel_credentials(self, pair):
        return grpc.ssl_channel_credentials(self.authority.pem, pair and pair.key, pair and pair.chain)


class Caller:
    """A hand-held worker: one channel with one certificate, and the calls that a test makes on it."""

    def __init__(self, address, credentials):
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        plain = credentials is None
        self.channel = (
            grpc.insecure_channel(address, options) if plain else grpc.secure_channel(address, credentials, options)
        )
        self.stub = FederationStub(self.channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def join(self, pool="p", indices=(0,), capacity=0, worker="by-hand"):
        request = pb.JoinRequest(
            version=pb.Version(major=1, minor=0),
            worker=worker,
            pool=pool,
            indices=indices,
            capacity=capacity,
            codecs=[pb.CODEC_FLOAT32, pb.CODEC_FLOAT16],
        )
        return self.stub.Join(request, timeout=PATIENCE_S)

    def beat(self, session):
        return self.stub.Beat(pb.BeatRequest(session=session), timeout=PATIENCE_S)

    def enrol(self, request=None):
        key = make_key()
        reply = self.stub.Enrol(pb.EnrolRequest(request=request or make_request(key)), timeout=PATIENCE_S)
        return key, reply


def refusal(call, *arguments, **named):
    """The status and the words with which a call is refused."""
    try:
        call(*arguments, **named)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call was not refused")


class SecureWorker(RehearsalWorker):
    """A rehearsal worker that comes with a certificate."""

    def __init__(self, address, credentials, index, pool="p", weights=5_000):
        super().__init__(address, "", pool, [index], Drift(weights), f"worker-{pool}-{index}")
        self.metadata = ()
        self._credentials = credentials

    def open_channel(self, options):
        return grpc.aio.secure_channel(self._address, self._credentials, options=options)
