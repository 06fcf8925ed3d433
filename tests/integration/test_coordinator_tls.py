"""Mutual TLS against a real coordinator process: who is let in, who no longer is, and what rotation leaves alone."""

import asyncio
import re
import socket
import ssl
import time

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from grpc_health.v1 import health_pb2, health_pb2_grpc

from coordinating import Workers, commits_in, coordinator, errors_of, write_job
from muster_coordinator.access import open_access
from muster_coordinator.assembly import MachineClock
from muster_coordinator.server import ConnectionAge, add_health, bind, build_server
from muster_coordinator.settings import read_settings
from muster_wire.trust.certificate import read_certificate
from muster_wire.trust.identity import Role
from muster_wire.trust.keys import Pair, key_to_pem
from muster_wire.v1 import federation_pb2 as pb
from trusting import FAKES, PATIENCE_S, Caller, SecureWorker, Trust, refusal

Code = grpc.StatusCode
ENDLESS = {"total": 1, "minUpdates": 3, "deadlineSeconds": 600}


@pytest.fixture
def trust(tmp_path):
    return Trust(tmp_path)


@pytest.fixture
def address(tmp_path, trust):
    """Of a coordinator that waits for three clients and gets none."""
    with coordinator(tmp_path, write_job(tmp_path, rounds=ENDLESS), security=trust.enrolling) as running:
        yield running.address


@pytest.fixture
def call(trust, address):
    """Makes callers with this certificate."""
    made = []

    def caller(pair):
        made.append(Caller(address, trust.channel_credentials(pair)))
        return made[-1]

    yield caller
    for each in made:
        each.channel.close()


# --- who is let in ----------------------------------------------------------------------------------------------------


def test_a_job_runs_over_mutual_tls_without_a_token(tmp_path, trust):
    with coordinator(tmp_path, write_job(tmp_path), security=trust.flags) as running:
        three = Workers(
            [
                SecureWorker(running.address, trust.channel_credentials(trust.pair("p", [index])), index)
                for index in range(3)
            ]
        )
        three.join()
        assert running.wait() == 0, errors_of(tmp_path)
        three.stop()
    assert [len(commit.used) for commit in commits_in(tmp_path / "storage")] == [1, 3, 3]


def test_a_token_may_be_asked_as_well_and_tls_may_be_one_sided(tmp_path, trust):
    (tmp_path / "token").write_text("a-token-for-this-very-job")
    token = ["--token-file", tmp_path / "token"]
    with (
        coordinator(tmp_path, write_job(tmp_path), security=[*trust.flags, *map(str, token)]) as running,
        Caller(running.address, trust.channel_credentials(trust.pair())) as caller,
    ):
        assert refusal(caller.join)[0] is Code.UNAUTHENTICATED
    one_sided = ["--tls-cert", trust.cert, "--tls-key", trust.key, *token]
    (tmp_path / "other").mkdir()
    with (
        coordinator(tmp_path / "other", write_job(tmp_path), security=map(str, one_sided)) as running,
        Caller(running.address, grpc.ssl_channel_credentials(trust.authority.pem)) as caller,
    ):
        assert "wrong or missing token" in refusal(caller.join)[1]
        metadata = (("authorization", "Bearer a-token-for-this-very-job"),)
        code, words = refusal(caller.stub.Enrol, pb.EnrolRequest(), metadata=metadata, timeout=PATIENCE_S)
        assert (code, "certifies no keys" in words) == (Code.FAILED_PRECONDITION, True)


def test_strangers_do_not_get_past_the_handshake(tmp_path, trust, address):
    (tmp_path / "elsewhere").mkdir()
    other = Trust(tmp_path / "elsewhere")
    strangers = {
        "no TLS": None,
        "no certificate": trust.channel_credentials(None),
        "another authority's": grpc.ssl_channel_credentials(trust.authority.pem, *_key_and_chain(other.pair())),
        "expired": trust.channel_credentials(trust.pair(valid_s=-60)),
        "a server's": trust.channel_credentials(trust.issue_server()),
    }
    for what, credentials in strangers.items():
        with Caller(address, credentials) as caller:
            assert refusal(caller.join)[0] is Code.UNAVAILABLE, what
    with Caller(address, other.channel_credentials(other.pair())) as caller:  # a worker of another job finds us
        assert "CERTIFICATE_VERIFY_FAILED" in refusal(caller.join)[1]


def _key_and_chain(pair):
    return pair.key, pair.chain


def test_a_certificate_is_good_for_its_job_and_nothing_else(trust, call):
    code, words = refusal(call(trust.pair(uid="job-2")).join)
    assert (code, words) == (Code.PERMISSION_DENIED, "muster://job-2/p is not for this job, which is job-1")
    code, words = refusal(call(trust.pair(role=Role.JOINER)).join)
    assert (code, words) == (Code.PERMISSION_DENIED, "muster-join://job-1/p may only enrol")


def test_a_certificate_is_good_for_its_clients_and_nobody_elses(trust, call):
    code, words = refusal(call(trust.pair("q")).join)
    assert (code, words) == (
        Code.FAILED_PRECONDITION,
        "a certificate for muster://job-1/q doesn't speak for p/0",
    )
    one = call(trust.pair("p", [1]))
    code, words = refusal(one.join, indices=[0, 1])
    assert (code, "doesn't speak for p/0,1" in words) == (Code.FAILED_PRECONDITION, True)
    assert [grant.index for grant in one.join(indices=(), capacity=3).clients] == [1]


def test_a_session_is_only_for_who_opened_it(trust, call):
    session = call(trust.pair("p", [0])).join().session
    other = call(trust.pair("p", [1]))
    assert refusal(other.beat, session)[0] is Code.UNAUTHENTICATED
    listening = other.stub.Listen(pb.ListenRequest(session=session), timeout=PATIENCE_S)
    assert refusal(next, listening)[0] is Code.UNAUTHENTICATED
    call(trust.pair("p", [0])).beat(session)  # another connection and another certificate of the same worker


def test_it_answers_health_checks_of_whoever_has_a_certificate(trust, call):
    for pair in (trust.pair(), trust.pair(role=Role.JOINER)):
        stub = health_pb2_grpc.HealthStub(call(pair).channel)
        for service in ("", "muster.wire.v1.Federation"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    stub = health_pb2_grpc.HealthStub(call(trust.pair(uid="job-2")).channel)
    assert refusal(stub.Check, health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)[0] is Code.PERMISSION_DENIED


# --- who no longer is -------------------------------------------------------------------------------------------------


def test_who_is_put_on_the_deny_list_is_refused_on_the_next_call(trust, call, tmp_path):
    bad, good = trust.pair("p", [0]), trust.pair("p", [1])
    caller, other = call(bad), call(good)
    session, others = caller.join().session, other.join(indices=[1], worker="other").session
    orders = caller.stub.Listen(pb.ListenRequest(session=session), timeout=PATIENCE_S)
    next(orders)
    trust.denied.write_text(f"{read_certificate(bad.chain).serial:X}  # lost laptop\n")
    code, words = refusal(caller.beat, session)
    assert (code, words) == (Code.PERMISSION_DENIED, "the certificate of muster://job-1/p/0 has been revoked")
    assert refusal(lambda: list(orders))[0] is Code.PERMISSION_DENIED  # and the stream that was open ends
    other.beat(others)
    trust.denied.write_text("nonsense\n")  # a list that can't be read denies whom it denied before
    assert refusal(caller.beat, session)[0] is Code.PERMISSION_DENIED
    other.beat(others)
    trust.denied.write_text("muster://job-1/p\n")
    assert refusal(other.beat, others)[0] is Code.PERMISSION_DENIED
    assert "line 1: 'nonsense' is neither a serial" in errors_of(tmp_path)


def test_revoking_a_join_credential_revokes_what_came_of_it(trust, call):
    joiner = trust.pair("p", [0], role=Role.JOINER)
    key, reply = call(joiner).enrol()
    worker = call(Pair(reply.chain, key_to_pem(key)))
    key, reply = worker.enrol()  # renewed once: the descent is still known
    renewed = call(Pair(reply.chain, key_to_pem(key)))
    session = renewed.join().session
    trust.denied.write_text(f"{read_certificate(joiner.chain).serial:x}\n")
    assert refusal(renewed.beat, session)[0] is Code.PERMISSION_DENIED
    assert refusal(call(joiner).enrol)[0] is Code.PERMISSION_DENIED


def test_a_certificate_that_expires_in_mid_session_is_refused_on_the_next_call(tmp_path, trust):
    shift = tmp_path / "shift"
    shift.write_text("0")
    launcher = (FAKES / "clocked_coordinator.py", shift)
    job = write_job(tmp_path, rounds=ENDLESS)
    with (
        coordinator(tmp_path, job, launcher=launcher, security=trust.flags) as running,
        Caller(running.address, trust.channel_credentials(trust.pair())) as caller,
        Caller(running.address, trust.channel_credentials(trust.pair(valid_s=7200))) as longer,
    ):
        session = caller.join().session
        orders = caller.stub.Listen(pb.ListenRequest(session=session), timeout=PATIENCE_S)
        next(orders)
        shift.write_text("3601")
        code, words = refusal(caller.beat, session)
        assert (code, bool(re.search("expired [0-9]+ s ago: enrol again", words))) == (Code.UNAUTHENTICATED, True)
        assert refusal(lambda: list(orders))[0] is Code.UNAUTHENTICATED
        longer.beat(session)  # renewed: the same worker with a newer certificate


# --- enrolment --------------------------------------------------------------------------------------------------------


def test_a_join_credential_is_exchanged_for_a_short_certificate(trust, call):
    key, reply = call(trust.pair("p", [2, 0, 1], role=Role.JOINER)).enrol()
    certificate = read_certificate(reply.chain)
    assert certificate.identity.uri == "muster://job-1/p/0-2"
    assert certificate.not_after - time.time() <= 3600
    assert reply.authorities == trust.authority.pem
    assert call(Pair(reply.chain, key_to_pem(key))).join(indices=[0, 2]).job_uid == "job-1"


def _request(key, *names, digest=None):
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        uris = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name) for name in names])
        builder = builder.add_extension(uris, critical=True)
    return builder.sign(key, digest or hashes.SHA256()).public_bytes(Encoding.DER)


def test_nobody_gets_the_name_that_a_request_asks_for(trust, call):
    request = _request(ec.generate_private_key(ec.SECP256R1()), "muster://job-1/q")
    _, reply = call(trust.pair("p", [0], role=Role.JOINER)).enrol(request)
    assert read_certificate(reply.chain).identity.uri == "muster://job-1/p/0"


def test_requests_that_are_none_are_refused(trust, call):
    good = _request(ec.generate_private_key(ec.SECP256R1()))
    forged = good[:-1] + bytes([good[-1] ^ 1])
    requests = {
        b"": "not a PKCS#10 request",
        b"x" * 100_000: "longer than anybody needs",
        good[:-3]: "not a PKCS#10 request",
        forged: "isn't signed with the key|not a PKCS#10 request",
        _request(ec.generate_private_key(ec.SECP384R1())): "only P-256",
        _request(rsa.generate_private_key(65537, 2048)): "only P-256",
    }
    caller = call(trust.pair(role=Role.JOINER))
    for request, expected in requests.items():
        code, words = refusal(caller.stub.Enrol, pb.EnrolRequest(request=request), timeout=PATIENCE_S)
        assert code is Code.INVALID_ARGUMENT
        assert re.search(expected, words), words


def test_a_coordinator_without_an_authority_enrols_nobody(tmp_path, trust):
    with (
        coordinator(tmp_path, write_job(tmp_path), security=trust.flags) as running,
        Caller(running.address, trust.channel_credentials(trust.pair(role=Role.JOINER))) as caller,
    ):
        code, words = refusal(caller.enrol)
        assert (code, "--enrol-key" in words) == (Code.FAILED_PRECONDITION, True)


# --- rotation ---------------------------------------------------------------------------------------------------------


def _server_serial(address, trust, pair):
    """Of the certificate that a new connection is greeted with."""
    context = ssl.create_default_context(cadata=trust.authority.pem.decode())
    (trust.folder / "client.pem").write_bytes(pair.chain + pair.key)
    context.load_cert_chain(trust.folder / "client.pem")
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as raw, context.wrap_socket(raw, server_hostname=host) as secure:
        return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True)).serial_number


def _frames(request_iterator):
    return b"".join(frame.data for frame in request_iterator)


def test_a_server_certificate_rotated_in_mid_transfer_drops_nothing(tmp_path, trust):
    """Weights of 40 MB: the stream is far from its end when it is paused, since flow control holds it back."""
    job = write_job(tmp_path, clients=1, rounds={"total": 1, "deadlineSeconds": 600})
    pair = trust.pair()
    with coordinator(tmp_path, job, security=trust.flags) as running:
        worker = Stalling(running.address, trust.channel_credentials(pair), 0, weights=10_000_000)
        one = Workers([worker])
        planned = running.until("planned", round=1)
        assert planned
        with Caller(running.address, trust.channel_credentials(pair)) as caller:
            session = caller.join(worker="second", indices=[0]).session
            digest = _base_of(next(caller.stub.Listen(pb.ListenRequest(session=session), timeout=PATIENCE_S)))
            stream = caller.stub.Fetch(pb.FetchRequest(session=session, digest=digest), timeout=60)
            first = next(stream)
            before = _server_serial(running.address, trust, pair)
            renewed = x509.load_pem_x509_certificate(trust.issue_server().chain).serial_number
            assert _server_serial(running.address, trust, pair) == renewed != before
            data = first.data + _frames(stream)
            assert len(data) == first.header.size > 40_000_000
            trust.cert.write_text("half of a rotation")
            assert _server_serial(running.address, trust, pair) == renewed
            caller.beat(session)
        one.stop()
    assert "new connections get the one before" in errors_of(tmp_path)


class Stalling(SecureWorker):
    """Makes the first model and then leaves its work to others."""

    async def _do(self, assignment):
        return await super()._do(assignment) if assignment.WhichOneof("work") == "initialise" else True


def _base_of(orders):
    return orders.assignments[0].train.base


# --- what it is started with ------------------------------------------------------------------------------------------


def test_what_is_wrong_with_its_files_is_said_in_one_line(tmp_path, trust):
    job = write_job(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    other = Trust(tmp_path / "elsewhere")

    def says(*flags):
        with coordinator(tmp_path, job, security=map(str, flags)) as running:
            assert running.wait() == 2
        return errors_of(tmp_path).splitlines()[-1]

    server = ["--tls-cert", trust.cert, "--tls-key", trust.key]
    assert "--tls-cert and --tls-key: give both" in says("--tls-cert", trust.cert)
    assert "not the key of the certificate in" in says(
        "--tls-cert", trust.cert, "--tls-key", other.key, *_mutual(trust)
    )
    assert "No such file" in says("--tls-cert", tmp_path / "none", "--tls-key", trust.key, *_mutual(trust))
    assert f"--client-ca {trust.denied}: no certificates" in says(*server, "--client-ca", trust.denied)
    wrong = says(*server, "--client-ca", other.ca, "--enrol-key", trust.enrol_key)
    assert "--enrol-key" in wrong
    assert "not the key of any of the authorities" in wrong
    assert "--deny-list" in says(*server, *_mutual(trust), "--deny-list", tmp_path / "none")
    trust.issue_server(valid_s=-10)
    assert re.search(r"--tls-cert .*: expired at .* UTC; renew it", says(*server, *_mutual(trust)))


def _mutual(trust):
    return ["--client-ca", trust.ca]


def test_a_plain_port_is_for_this_machine_only(tmp_path):
    with coordinator(tmp_path, write_job(tmp_path), listen="0.0.0.0:0") as running:
        assert running.wait() == 2
    assert "a port that other machines can reach needs --tls-cert" in errors_of(tmp_path)


# --- age --------------------------------------------------------------------------------------------------------------


def test_no_connection_lives_for_ever(tmp_path, trust):
    """A stream that never ends is cut when its connection is too old; the next call begins on a new one."""
    flags = ["--job", write_job(tmp_path), "--storage", tmp_path / "s", "--listen", "127.0.0.1:0", *trust.flags]
    security = read_settings([str(flag) for flag in flags], {}).security

    async def run():
        access = open_access(security, "job-1", MachineClock())
        server = build_server(access, ConnectionAge(age_s=0.2, grace_s=0.2), frame_bytes=2**18)
        address = bind(server, "127.0.0.1:0", access)
        await add_health(server)
        await server.start()
        try:
            return await asyncio.to_thread(watch_and_check, address)
        finally:
            await server.stop(0)

    def watch_and_check(address):
        with Caller(address, trust.channel_credentials(trust.pair())) as caller:
            stub = health_pb2_grpc.HealthStub(caller.channel)
            watching = stub.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
            heard = [next(watching).status]
            cut = refusal(next, watching)
            return heard, cut[0], stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S).status

    serving = health_pb2.HealthCheckResponse.SERVING
    assert asyncio.run(run()) == ([serving], Code.UNAVAILABLE, serving)
