"""How a worker stays able to prove who it is: in time, after refusals, and without disturbing what is under way."""

import threading
import time
from functools import partial

import grpc
import pytest
from small_task import work

from fakes.federation import FakeFederation, serving
from muster.channel import enrol
from muster.connection import Connection
from muster.credentials import (
    KEPT,
    RETRY_S,
    BundleSource,
    Enrolled,
    EnrolledCredentials,
    FileCredentials,
    Fixed,
    Material,
    read_join,
)
from muster.errors import ConnectionBrokenError, CredentialError, RefusedError, StaleCertificateError
from muster.worker import TlsFiles
from muster.workshop import Workshop
from muster_wire.holding import Holding
from muster_wire.trust.authority import make_authority
from muster_wire.trust.bundle import make_bundle
from muster_wire.trust.certificate import read_certificate
from muster_wire.trust.files import write_private
from muster_wire.trust.identity import Role, name_identity, parse_identity
from muster_wire.trust.keys import read_request
from muster_wire.v1 import federation_pb2 as wire

HOUR = 3600.0


class Office:
    """An authority that certifies whoever asks, a calendar, and what a test wants to know of both."""

    def __init__(self):
        self.now = time.time()
        self.authority = make_authority("job-1", self.now)
        self.came_with = []  # the URI of each caller's certificate
        self.trouble = {}  # URI -> what is raised instead
        self.valid_s = HOUR
        joiner = name_identity(Role.JOINER, "job-1", "p")
        self.bundle = make_bundle(self.authority, "127.0.0.1:1", joiner, self.now, 24 * HOUR, "coordinator.internal")

    def source(self):
        return BundleSource(self.bundle.to_line(), "MUSTER_JOIN")

    def clock(self):
        return self.now

    def enrol(self, material, request):
        uri = read_certificate(material.pair.chain).identity.uri
        self.came_with.append(uri)
        if uri in self.trouble:
            raise self.trouble[uri]
        identity = parse_identity(uri).as_worker()
        chain = self.authority.certify(read_request(request), identity, self.now, self.valid_s)
        return Enrolled(chain, self.authority.pem)

    def credentials(self, folder=None):
        return EnrolledCredentials(self.source(), self.enrol, folder, self.clock)


@pytest.fixture
def office():
    return Office()


JOINER, WORKER = "muster-join://job-1/p", "muster://job-1/p"


def test_it_enrols_first_and_again_when_a_third_is_left(office):
    credentials = office.credentials()
    assert credentials.is_due()
    assert credentials.renew()
    first = credentials.material()
    assert first.server_name == "coordinator.internal"
    assert read_certificate(first.pair.chain).identity.uri == WORKER
    for later_s, is_due in [(0, False), (2399, False), (2401, True), (HOUR, True)]:
        office.now += later_s
        assert credentials.is_due() is is_due, later_s
        office.now -= later_s
    office.now += 2401
    assert credentials.renew()
    assert credentials.material().pair.key != first.pair.key
    assert office.came_with == [JOINER, WORKER]
    assert not credentials.is_due()


def test_with_an_expired_or_refused_certificate_it_goes_back_to_its_bundle(office):
    credentials = office.credentials()
    credentials.renew()
    office.now += 2 * HOUR
    credentials.renew()
    assert office.came_with == [JOINER, JOINER]
    office.trouble[WORKER] = StaleCertificateError("the coordinator's clock is ahead")
    credentials.renew()
    assert office.came_with[2:] == [WORKER, JOINER]
    office.trouble[JOINER] = RefusedError("revoked")
    before = credentials.material()
    with pytest.raises(RefusedError, match="revoked"):
        credentials.renew()
    assert credentials.material() == before


def test_a_renewal_that_fails_is_tried_again_but_not_at_every_beat(office):
    credentials = office.credentials()
    credentials.renew()
    office.trouble = {uri: ConnectionBrokenError("gone") for uri in (JOINER, WORKER)}
    office.now += 2500
    with pytest.raises(ConnectionBrokenError):
        credentials.renew()
    assert not credentials.is_due()
    office.now += RETRY_S
    assert credentials.is_due()


def test_the_process_after_this_one_goes_on_with_its_certificate(office, tmp_path):
    first = office.credentials(tmp_path / "state")
    first.renew()
    second = office.credentials(tmp_path / "state")
    assert not second.is_due()
    assert second.material() == first.material()
    office.now += HOUR
    assert office.credentials(tmp_path / "state").is_due()  # too late for that one
    office.now -= HOUR
    (tmp_path / "state" / KEPT).write_text("torn")
    assert office.credentials(tmp_path / "state").is_due()
    other = Office()
    other.bundle = make_bundle(office.authority, "h:1", name_identity(Role.JOINER, "job-1", "q"), office.now, HOUR)
    write_private(tmp_path / "state" / KEPT, office.bundle.to_json().encode())
    assert other.credentials(tmp_path / "state").is_due()  # another pool's
    office.credentials(tmp_path / "state").renew()
    office.authority = make_authority("job-1", office.now)
    office.bundle = make_bundle(office.authority, "h:1", name_identity(Role.JOINER, "job-1", "p"), office.now, HOUR)
    assert office.credentials(tmp_path / "state").is_due()  # of an authority that nobody trusts any more


def test_a_bundle_in_a_file_is_read_again_when_it_is_needed_again(office, tmp_path, caplog):
    file = tmp_path / "bundle.json"
    file.write_text(office.bundle.to_json())
    source = BundleSource(office.bundle.to_json(), f"--join {file}", file)
    credentials = EnrolledCredentials(source, office.enrol, None, office.clock)
    credentials.renew()
    office.now += 48 * HOUR  # a night without a coordinator: the certificate is over, and so is the bundle
    joiner = name_identity(Role.JOINER, "job-1", "p", [3])
    office.bundle = make_bundle(office.authority, "127.0.0.1:1", joiner, office.now, 24 * HOUR)
    file.write_text(office.bundle.to_json())
    credentials.renew()
    assert office.came_with == [JOINER, f"{JOINER}/3"]
    file.write_text("torn")
    office.now += 2 * HOUR
    credentials.renew()
    assert office.came_with[2:] == [f"{JOINER}/3"]
    assert "going on with the join bundle as it was" in caplog.text


def test_files_are_read_again_when_they_change_and_bad_ones_change_nothing(office, tmp_path, caplog):
    ca, cert, key = (tmp_path / name for name in ("ca", "cert", "key"))

    def issue(valid_s=HOUR):
        pair = office.authority.issue_client(parse_identity(WORKER), office.now, valid_s)
        cert.write_bytes(pair.chain)
        key.write_bytes(pair.key)
        return pair

    ca.write_bytes(office.authority.pem)
    first = issue()
    credentials = FileCredentials(TlsFiles(ca, cert, key), office.clock)
    assert (credentials.material().pair, credentials.is_due()) == (first, False)
    second = issue()
    assert credentials.is_due()
    assert credentials.renew()
    assert (credentials.material().pair, credentials.is_due()) == (second, False)
    issue(valid_s=-1)
    assert credentials.is_due()
    assert not credentials.renew()
    assert credentials.material().pair == second
    assert f"--cert {cert}: expired" in caplog.text
    with pytest.raises(CredentialError, match="expired"):
        FileCredentials(TlsFiles(ca, cert, key), office.clock)
    assert FileCredentials(TlsFiles(ca), office.clock).material() == Material(office.authority.pem)


def test_a_bundle_that_is_none_names_where_it_came_from(office):
    assert read_join(office.bundle.to_line(), "MUSTER_JOIN") == office.bundle
    with pytest.raises(CredentialError, match=r"MUSTER_JOIN: not a join bundle.*; ask for a new bundle"):
        read_join("nonsense", "MUSTER_JOIN")


# --- on a real channel ------------------------------------------------------------------------------------------------


class Certifying(FakeFederation):
    """Asks for certificates, and makes them."""

    def __init__(self, office):
        super().__init__(work())
        self.office = office
        self.serials = []  # of who joined
        self.refuse = set()  # serials that may not join
        self.paused, self.resumed = threading.Event(), threading.Event()

    def Enrol(self, request, context):  # noqa: N802 - the service's name
        identity = self._peer(context).identity
        chain = self.office.authority.certify(
            read_request(request.request), identity.as_worker(), self.office.now, self.office.valid_s
        )
        return wire.EnrolReply(chain=chain, authorities=self.office.authority.pem)

    def Join(self, request, context):  # noqa: N802 - the service's name
        serial = self._peer(context).serial
        if serial in self.refuse:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "this certificate expired: enrol again")
        self.serials.append(serial)
        return super().Join(request, context)

    def Fetch(self, request, context):  # noqa: N802 - the service's name
        for count, frame in enumerate(super().Fetch(request, context)):
            if count == 0:
                self.paused.set()
                self.resumed.wait(20)
            yield frame

    def _authenticate(self, context):
        self._peer(context)

    def _peer(self, context):
        return read_certificate(context.auth_context()["x509_pem_cert"][0])


@pytest.fixture
def federation(office):
    return Certifying(office)


@pytest.fixture
def connection(office, federation):
    pair = office.authority.issue_server(["coordinator.internal"], office.now, HOUR)
    server = grpc.ssl_server_credentials([(pair.key, pair.chain)], office.authority.pem, require_client_auth=True)
    with serving(federation, credentials=server) as address:
        credentials = EnrolledCredentials(office.source(), partial(enrol, address), None, office.clock)
        connection = Connection(address, "", credentials)
        yield connection
        federation.resumed.set()
        connection.close()


def test_renewal_moves_the_stream_of_orders_and_lets_transfers_end_where_they_began(office, federation, connection):
    office.valid_s = 120  # TLS has a clock that no test moves, and certificates begin only minutes before they are made
    digest = federation.publish(Workshop(work()).initialise(7))
    connection.join(wire.JoinRequest(worker="w"))
    orders = connection.listen(lambda _: None)
    assert next(orders).revision == 1
    holding = Holding()
    fetching = threading.Thread(target=connection.fetch, args=(digest, holding))
    fetching.start()
    assert federation.paused.wait(20)
    office.now += 100
    connection.renew()
    assert next(orders).revision == 1  # the whole of them again, on the new channel, in the same session
    federation.order()
    assert next(orders).revision == 2
    federation.resumed.set()
    fetching.join(20)
    assert holding.is_there
    assert federation.fetch_offsets == [0]
    assert len(federation.joins) == 1
    connection.beat([])


def test_a_refused_certificate_is_renewed_at_once_and_only_once(federation, connection):
    connection.join(wire.JoinRequest(worker="w"))
    federation.refuse.add(federation.serials[0])
    connection.join(wire.JoinRequest(worker="w"))
    assert len(set(federation.serials)) == 2
    federation.refuse = Everything()
    with pytest.raises(StaleCertificateError):
        connection.join(wire.JoinRequest(worker="w"))


class Everything:
    def __contains__(self, _):
        return True


@pytest.mark.parametrize(
    ("material", "words"),
    [
        (lambda _: Material(), "it may want TLS"),
        (lambda office: Material(make_authority("job-2", office.now).pem), "another authority made its certificate"),
        (lambda office: Material(office.authority.pem, office.bundle.pair), "--server-name"),
    ],
)
def test_a_channel_that_cannot_work_says_what_to_look_at(office, connection, material, words):
    connection.join(wire.JoinRequest(worker="w"))
    mistaken = Connection(connection._address, "", Fixed(material(office)))
    with pytest.raises(ConnectionBrokenError) as broken:
        mistaken.join(wire.JoinRequest(worker="w"))
    mistaken.close()
    assert words in str(broken.value)


def test_tls_to_a_plain_port_says_so(office):
    with serving(FakeFederation(work())) as address:
        mistaken = Connection(address, "", Fixed(Material(office.authority.pem, office.bundle.pair)))
        with pytest.raises(ConnectionBrokenError, match="it doesn't speak TLS"):
            mistaken.join(wire.JoinRequest(worker="w"))
        mistaken.close()
