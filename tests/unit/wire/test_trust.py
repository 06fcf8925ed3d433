"""Identities, a job's authority, certificates from strangers, join bundles and files: what is believed, what is not."""

import base64
import contextlib
import ipaddress
import os
import stat
from datetime import UTC, datetime

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from muster_wire import keepalive
from muster_wire.errors import TrustError
from muster_wire.trust.authority import SKEW_S, authority_from_pem, make_authority
from muster_wire.trust.bundle import make_bundle, read_bundle
from muster_wire.trust.certificate import MAX_PEM_BYTES, read_certificate
from muster_wire.trust.files import Watched, read_authorities, read_file, read_pair, write_private
from muster_wire.trust.identity import MAX_URI, Identity, Role, name_identity, parse_identity
from muster_wire.trust.keys import key_from_pem, key_to_pem, make_key, make_request, read_request

NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
HOUR = 3600.0


@pytest.fixture(scope="module")
def authority():
    return make_authority("job-1", NOW)


def client(authority, uri="muster://job-1/p", valid_s=HOUR):
    return authority.issue_client(parse_identity(uri), NOW, valid_s)


# --- identities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "covered"),
    [
        ("muster://job-1/p", [0, 1, 9_999_999]),
        ("muster://4a5f1c1e-0000-4000-8000-000000000000/hpc-1/7", [7]),
        ("muster://job-1/gpu.site-a", [0]),
        ("muster-join://job-1/p/0-3,7", [0, 1, 2, 3, 7]),
        ("muster-bridge://job-1/p", [0]),
    ],
)
def test_an_identity_is_read_as_it_was_written(uri, covered):
    identity = parse_identity(uri)
    assert identity.uri == uri
    assert all(identity.covers(index) for index in covered)
    assert identity.as_worker().uri == "muster" + uri[uri.index(":") :]
    if identity.spans:
        assert not any(identity.covers(index) for index in (4, 5, 6, 8, 10_000_000))


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "muster://job-1",
        "muster://job-1/",
        "muster:///p",
        "muster://job-1/p/",
        "muster://job-1/p/x",
        "muster://job-1/p/01",
        "muster://job-1/p/3,1",
        "muster://job-1/p/1,1",
        "muster://job-1/p/0,1",  # 0-1
        "muster://job-1/p/0-1,2",
        "muster://job-1/p/2-1",
        "muster://job-1/p/1-1",
        "muster://job-1/p/12345678",
        "muster://job-1/p/١",
        "muster://job-1/p?x",
        "muster://job-1/p#x",
        "muster://job-1/p\n",
        "muster://job-1/../p",
        "muster://job-1/P",
        "MUSTER://job-1/p",
        "muster://user@job-1/p",
        "muster://job-1:80/p",
        "spiffe://job-1/p",
        "muster://job-1/" + "p" * 254,
        "muster://" + "j" * 129 + "/p",
        "muster://job-1/p/" + ",".join(str(2 * index) for index in range(MAX_URI)),
    ],
)
def test_there_is_one_way_to_write_an_identity(uri):
    with pytest.raises(TrustError) as refused:
        parse_identity(uri)
    assert len(refused.value.reason) < 250
    assert refused.value.reason.isprintable()


@given(st.sets(st.integers(0, 200), max_size=40))
def test_a_named_identity_covers_exactly_its_indices(indices):
    identity = name_identity(Role.WORKER, "job-1", "p", indices)
    assert parse_identity(identity.uri) == identity
    assert {index for index in range(202) if identity.covers(index)} == (indices or set(range(202)))


@given(st.text(max_size=60) | st.from_regex(r"muster://[a-z0-9.-]{1,8}/[a-z0-9-]{1,8}/[0-9,-]{1,8}", fullmatch=True))
def test_whatever_is_accepted_is_written_the_same_way(uri):
    try:
        identity = parse_identity(uri)
    except TrustError:
        return
    assert identity.uri == uri


# --- the authority ----------------------------------------------------------------------------------------------------


def test_a_servers_certificate_names_its_hosts_and_can_do_nothing_else(authority):
    pair = authority.issue_server(["coordinator.example.org", "10.0.0.7", "[::1]"], NOW, HOUR)
    leaf = x509.load_pem_x509_certificate(pair.chain)
    leaf.verify_directly_issued_by(authority.certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["coordinator.example.org"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(ip) for ip in ("10.0.0.7", "::1")]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert key_from_pem(pair.key).public_key() == leaf.public_key()
    with pytest.raises(TrustError, match="one subject alternative name"):
        read_certificate(pair.chain)


@pytest.mark.parametrize("hosts", [[], ["münchen.example"]])
def test_a_server_needs_names_that_a_certificate_can_carry(authority, hosts):
    with pytest.raises(TrustError, match=r"at least one|not a host name"):
        authority.issue_server(hosts, NOW)


def test_a_clients_certificate_says_who_and_from_when_to_when(authority):
    pair = client(authority, "muster-join://job-1/p/0-3")
    leaf = x509.load_pem_x509_certificate(pair.chain)
    leaf.verify_directly_issued_by(authority.certificate)
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    certificate = read_certificate(pair.chain)
    assert certificate.identity == Identity(Role.JOINER, "job-1", "p", ((0, 3),))
    assert (certificate.not_before, certificate.not_after) == (NOW - SKEW_S, NOW + HOUR)
    assert certificate.origin is None
    assert certificate.refused_because(NOW) is None
    assert "expired 5 s ago" in certificate.refused_because(NOW + HOUR + 5)
    assert "expired 0 s ago" in certificate.refused_because(NOW + HOUR)
    assert "only in 10 s" in certificate.refused_because(NOW - SKEW_S - 10)


def test_serials_are_never_used_twice(authority):
    assert len({read_certificate(client(authority).chain).serial for _ in range(50)}) == 50


def test_nothing_outlives_its_authority():
    short = make_authority("job-1", NOW, valid_s=60)
    assert read_certificate(client(short, valid_s=HOUR).chain).not_after == NOW + 60


def test_an_authority_is_found_by_its_key(authority):
    other = make_authority("job-2", NOW)
    found = authority_from_pem(other.pem + authority.pem, authority.key_pem)
    assert found.certificate == authority.certificate
    for roots, key, words in [
        (other.pem, authority.key_pem, "not the key of any"),
        (b"nonsense", authority.key_pem, "no certificates"),
        (authority.pem, b"nonsense", "not an unencrypted private key"),
        (*_as_root(client(authority)), "not the key of any"),  # a client's certificate may not sign others
    ]:
        with pytest.raises(TrustError, match=words):
            authority_from_pem(roots, key)


def _as_root(pair):
    return pair.chain, pair.key


def test_a_request_proves_that_its_sender_holds_the_key():
    key = make_key()
    request = make_request(key)
    assert read_request(request) == key.public_key()
    swapped = bytearray(request)
    swapped[-1] ^= 1
    no_version = request.replace(b"\x02\x01\x00", b"\x02\x01\x07", 1)
    for bad in (bytes(swapped), no_version, request[:40], b"", b"\x30" * 9000):
        with pytest.raises(TrustError):
            read_request(bad)


# --- certificates from strangers --------------------------------------------------------------------------------------


def forged(*names, subject=(), extra=()):
    """A certificate as an authority that was talked into anything would sign it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, value) for value in subject])
    builder = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key(), serial_number=7)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extra:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


URI = x509.UniformResourceIdentifier


_WHOLE = forged(URI("muster://job-1/p"))


def _of_a_version_that_never_was(pem):
    der = (
        x509.load_pem_x509_certificate(pem)
        .public_bytes(Encoding.DER)
        .replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01")
    )
    return b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % base64.encodebytes(der)


@pytest.mark.parametrize(
    ("pem", "words"),
    [
        (forged(), "this one has 0"),
        (forged(URI("muster://job-1/p"), URI("muster://job-1/q")), "this one has 2"),
        (forged(URI("muster://job-1/p"), x509.DNSName("localhost")), "this one has 2"),
        (forged(x509.DNSName("localhost")), "a URI"),
        (forged(x509.RFC822Name("p@job-1")), "a URI"),
        (forged(URI("https://job-1/p")), "is not an identity"),
        (forged(URI("muster://job-1/" + "p" * 40_000)), "is not an identity"),
        (forged(URI("muster://job-1/p/" + "9," * 5_000 + "9")), "is not an identity"),
        (forged(URI("muster://job-1/p"), subject=["not hex"]), "not hexadecimal"),
        (b"x" * (MAX_PEM_BYTES + 1), "longer than anybody needs"),
        (b"", "not a certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a certificate"),
        (_of_a_version_that_never_was(_WHOLE), "not a valid X509 version"),
    ],
)
def test_a_strangers_certificate_is_refused_with_a_reason(pem, words):
    with pytest.raises(TrustError, match=words) as refused:
        read_certificate(pem)
    assert len(refused.value.reason) < 500


@given(st.integers(0, 800), st.integers(1, 255))
def test_a_damaged_certificate_never_raises_anything_else(at, change):
    pem = bytearray(_WHOLE)
    pem[at % len(pem)] ^= change
    with contextlib.suppress(TrustError):
        read_certificate(bytes(pem))


# --- bundles ----------------------------------------------------------------------------------------------------------


def test_a_bundle_reads_the_same_from_a_file_and_from_a_variable(authority):
    joiner = name_identity(Role.JOINER, "job-1", "p")
    bundle = make_bundle(authority, "example.org:443", joiner, NOW, 3 * 86_400, "coordinator.internal")
    assert read_bundle(bundle.to_json()) == read_bundle(bundle.to_line() + "\n") == bundle
    assert "\n" not in bundle.to_line()
    assert read_certificate(bundle.pair.chain).identity == joiner
    assert key_to_pem(key_from_pem(bundle.pair.key)) == bundle.pair.key


@pytest.mark.parametrize("text", ["", "{", "{}", "é", "bm90IGpzb24=", "x" * 300_000, '{"coordinator": 1}'])
def test_what_is_no_bundle_is_refused(text):
    with pytest.raises(TrustError, match="join bundle"):
        read_bundle(text)


def test_a_bundle_holds_nothing_unknown(authority):
    bundle = make_bundle(authority, "h:1", name_identity(Role.JOINER, "job-1", "p"), NOW, HOUR)
    with pytest.raises(TrustError, match="unknown field"):
        read_bundle(msgspec.json.encode({**msgspec.structs.asdict(bundle), "more": 1}).decode())


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_used_are_named(tmp_path, authority):
    pair, other = client(authority), client(authority)
    chain, key, none = (tmp_path / name for name in ("chain.pem", "key.pem", "none.pem"))
    chain.write_bytes(pair.chain)
    key.write_bytes(pair.key)
    files = ("--cert", chain), ("--key", key)
    assert read_pair(*files, NOW) == pair
    for now, words in [
        (NOW + HOUR, f"--cert {chain}: expired at 2026-06-01 01:00:00 UTC; renew"),
        (NOW - HOUR, "clock"),
    ]:
        with pytest.raises(TrustError, match=words):
            read_pair(*files, now)
    key.write_bytes(other.key)
    with pytest.raises(TrustError, match=f"--key {key}: not the key of the certificate in {chain}"):
        read_pair(*files, NOW)
    key.write_bytes(b"nonsense")
    with pytest.raises(TrustError, match=f"--key {key}: not an unencrypted private key"):
        read_pair(*files, NOW)
    with pytest.raises(TrustError, match=f"--ca {none}: No such file"):
        read_file(("--ca", none))
    with pytest.raises(TrustError, match=f"--ca {tmp_path}: Is a directory"):
        read_file(("--ca", tmp_path))
    with pytest.raises(TrustError, match=f"--ca {key}: no certificates"):
        read_authorities(("--ca", key))
    none.write_bytes(bytes(2 * 2**20))
    with pytest.raises(TrustError, match="can't be what it should be"):
        read_file(("--ca", none))


def test_a_private_file_is_private_and_whole(tmp_path):
    path = tmp_path / "key.pem"
    path.write_text("old and open")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        write_private(path, b"new")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["key.pem"]


def test_a_changed_file_is_noticed_once(tmp_path):
    path = tmp_path / "cert.pem"
    path.write_text("one")
    watched = Watched([path])
    assert not watched.changed()
    write_private(path, b"two")
    assert [watched.changed(), watched.changed()] == [True, False]
    path.unlink()
    assert [watched.changed(), watched.changed()] == [True, False]


# --- keepalive --------------------------------------------------------------------------------------------------------


def test_neither_side_pings_more_often_than_the_other_allows():
    client_options, server_options = dict(keepalive.CLIENT_OPTIONS), dict(keepalive.SERVER_OPTIONS)
    allowed = server_options["grpc.http2.min_recv_ping_interval_without_data_ms"]
    assert client_options["grpc.keepalive_time_ms"] >= 2 * allowed
    assert server_options["grpc.keepalive_time_ms"] >= 10_000  # grpc's own floor
    assert (
        client_options["grpc.keepalive_permit_without_calls"] == server_options["grpc.keepalive_permit_without_calls"]
    )
    assert client_options["grpc.keepalive_time_ms"] <= 60_000  # some gateways forget after a minute
