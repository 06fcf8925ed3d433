"""What a coordinator's command line may say about who may talk to it."""

import pytest

from coordinating import write_job
from muster_coordinator.errors import InputError
from muster_coordinator.settings import read_settings

SERVER = ["--tls-cert", "cert", "--tls-key", "key"]
MUTUAL = [*SERVER, "--client-ca", "ca"]


@pytest.fixture
def read(tmp_path):
    (tmp_path / "token").write_text("a-token-that-is-long-enough\n")
    (tmp_path / "short").write_text("short")
    job = write_job(tmp_path)

    def read(*flags, listen="127.0.0.1:0", token=None):
        given = ["--token-file", str(tmp_path / token)] if token else []
        return read_settings(["--job", str(job), "--storage", str(tmp_path), "--listen", listen, *given, *flags], {})

    return read


def test_each_way_of_proving_who_one_is(read):
    plain = read(token="token").security  # noqa: S106 - a file's name
    assert (plain.token, plain.tls, plain.is_mutual) == ("a-token-that-is-long-enough", None, False)
    one_sided = read(*SERVER, token="token", listen="0.0.0.0:8443").security  # noqa: S106
    assert (one_sided.is_mutual, str(one_sided.tls.certificate)) == (False, "cert")
    mutual = read(*MUTUAL, listen="0.0.0.0:8443").security
    assert (mutual.token, mutual.is_mutual, mutual.enrolment) == (None, True, None)
    enrolling = read(*MUTUAL, "--enrol-key", "ca-key", "--enrol-minutes", "5", "--deny-list", "denied").security
    assert (enrolling.enrolment.valid_s, str(enrolling.enrolment.client_ca), str(enrolling.deny_list)) == (
        300.0,
        "ca",
        "denied",
    )


@pytest.mark.parametrize(
    ("flags", "listen", "token", "words"),
    [
        ([], "127.0.0.1:0", None, "--token-file: needed"),
        (SERVER, "127.0.0.1:0", None, "--token-file: needed"),
        ([], "127.0.0.1:0", "short", "at least 16 printable"),
        (SERVER[:2], "127.0.0.1:0", "token", "--tls-cert and --tls-key: give both"),
        (["--client-ca", "ca"], "127.0.0.1:0", None, "--client-ca: mutual TLS also needs"),
        ([*SERVER, "--enrol-key", "k"], "127.0.0.1:0", "token", "--enrol-key: also give"),
        ([*SERVER, "--deny-list", "d"], "127.0.0.1:0", "token", "--deny-list: without mutual TLS"),
        (
            [*MUTUAL, "--pool-authorities", "d"],
            "127.0.0.1:0",
            None,
            "--pool-authorities: workers of External",
        ),
        ([*MUTUAL, "--enrol-minutes", "0"], "127.0.0.1:0", None, "--enrol-minutes 0: from 1"),
        ([*MUTUAL, "--enrol-minutes", "99999"], "127.0.0.1:0", None, "--enrol-minutes 99999: from 1"),
        ([], "0.0.0.0:0", "token", "--listen 0.0.0.0:0: a port that other machines can reach"),
        ([], "[::]:0", "token", "can reach needs --tls-cert"),
        ([], "example.org:0", "token", "can reach needs --tls-cert"),
    ],
)
def test_what_cannot_work_is_refused(read, flags, listen, token, words):
    with pytest.raises(InputError) as refused:
        read(*flags, listen=listen, token=token)
    assert words in str(refused.value)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.8.0.1:0", "[::1]:0", "localhost:0"])
def test_a_plain_port_on_this_machine_is_fine(read, listen):
    assert read(listen=listen, token="token").listen == listen  # noqa: S106
    assert "a-token" not in repr(read(listen=listen, token="token").security)  # noqa: S106
