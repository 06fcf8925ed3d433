"""The proxy that tests cut with and benchmarks count with: it must count every byte, and cut where it is told to."""

import socket
import ssl
import threading
import time

import pytest

from proxying import Direction, Proxy, Weather
from trusting import Trust

PATIENCE_S = 10


@pytest.fixture
def echo():
    """A server that answers each connection with its own bytes, and says goodbye when it hears that."""
    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, args=(server,))
    thread.start()
    yield f"127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE_S)
    server.close()


def serve(server):
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection):
    with connection:
        try:
            while data := connection.recv(1000):
                connection.sendall(data)
        except OSError:
            return


def dial(proxy):
    host, _, port = proxy.address.rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE_S)


def say(connection, data):
    """Everything that comes back until goodbye, and whether that was a reset, as far as the sending hasn't met it."""
    sender = threading.Thread(target=send_all, args=(connection, data))
    sender.start()
    try:
        return hear(connection)
    finally:
        sender.join(PATIENCE_S)


def hear(connection):
    """Everything that comes until goodbye, and whether that was a reset."""
    heard = bytearray()
    try:
        while piece := connection.recv(65536):
            heard += piece
    except ConnectionResetError:
        return bytes(heard), True
    return bytes(heard), False


def send_all(connection, data):
    try:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_every_byte_is_passed_on_and_counted(echo):
    data = bytes(range(256)) * 12_000  # of all windows and buffers on the way several times over
    with Proxy(echo) as proxy:
        for _ in range(3):
            with dial(proxy) as connection:
                assert say(connection, data) == (data, False)
        assert (proxy.up_bytes, proxy.down_bytes, proxy.connections) == (3 * len(data), 3 * len(data), 3)
        assert proxy.cuts == []


def test_sixty_connections_at_once(echo):
    with Proxy(echo) as proxy:
        connections = [dial(proxy) for _ in range(60)]
        for number, connection in enumerate(connections):
            connection.sendall(bytes([number]))
        for number, connection in enumerate(connections):
            assert connection.recv(1) == bytes([number])
            connection.close()
        assert (proxy.up_bytes, proxy.down_bytes) == (60, 60)


@pytest.mark.parametrize("at", [1, 777, 100_001])
@pytest.mark.parametrize("direction", list(Direction))
def test_a_cut_lands_on_its_byte(echo, direction, at):
    def forecast(connection, way):
        return Weather(cut_at=at, by_reset=False) if (connection, way) == (0, direction) else Weather()

    data = bytes(200_000)
    with Proxy(echo, forecast) as proxy:
        with dial(proxy) as connection:
            heard, _ = say(connection, data)
        assert len(heard) <= at
        (cut,) = proxy.cuts
        assert (cut.connection, cut.direction, cut.at) == (0, direction, at)
        assert at == (proxy.up_bytes if direction is Direction.UP else proxy.down_bytes)
        with dial(proxy) as connection:
            assert say(connection, data) == (data, False)


def test_a_cut_by_reset_is_one(echo):
    with Proxy(echo, lambda _, way: Weather(cut_at=5) if way is Direction.DOWN else Weather()) as proxy:
        with dial(proxy) as connection:
            connection.sendall(b"12345678")
            assert hear(connection)[1]
        assert proxy.cuts[0].withheld == 3


def test_what_stalls_or_is_late_comes_whole(echo):
    def forecast(_, way):
        return Weather(stall_at=3, stall_s=0.5) if way is Direction.UP else Weather(delay_s=0.1)

    with Proxy(echo, forecast) as proxy, dial(proxy) as connection:
        connection.sendall(b"123456")
        first = connection.recv(10)
        assert first == b"123"
        connection.shutdown(socket.SHUT_WR)
        assert say(connection, b"") == (b"456", False)


def test_a_target_that_is_gone_is_a_closed_connection():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Proxy(f"127.0.0.1:{nobody.getsockname()[1]}") as proxy, dial(proxy) as connection:
            assert say(connection, b"")[0] == b""


def test_tls_passes_as_it_is(tmp_path):
    trust = Trust(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(trust.cert, trust.key)
    client = ssl.create_default_context(cafile=trust.ca)
    listening = socket.create_server(("127.0.0.1", 0))

    def greet():
        with listening, server.wrap_socket(listening.accept()[0], server_side=True) as connection:
            connection.sendall(b"through " + connection.recv(100))

    thread = threading.Thread(target=greet)
    thread.start()
    with Proxy(f"127.0.0.1:{listening.getsockname()[1]}") as proxy:
        with client.wrap_socket(dial(proxy), server_hostname="127.0.0.1") as connection:
            connection.sendall(b"and through")
            assert connection.recv(100) == b"through and through"
        thread.join(PATIENCE_S)
        assert proxy.up_bytes > 500
        assert proxy.down_bytes > 500  # certificates and all


def test_a_line_with_a_rate_takes_its_time(echo):
    """It may be slower on a busy machine, never faster."""
    payload, rates = bytes(100_000), {Direction.UP: 200_000.0, Direction.DOWN: None}
    with Proxy(echo, lambda _, way: Weather(bytes_per_s=rates[way])) as proxy, dial(proxy) as connection:
        began = time.monotonic()
        assert say(connection, payload) == (payload, False)
        assert time.monotonic() - began > 0.35


def test_an_outage_breaks_what_is_open_and_lets_nobody_through_until_it_is_over(echo):
    with Proxy(echo) as proxy:
        with dial(proxy) as first:
            first.sendall(b"one")
            assert first.recv(10) == b"one"
            assert proxy.go_down() == 1
            with pytest.raises(ConnectionResetError):
                first.recv(10)
        with pytest.raises(ConnectionResetError), dial(proxy) as second:
            second.recv(10)
        assert proxy.turned_away == 1
        proxy.come_back()
        with dial(proxy) as third:
            third.sendall(b"two")
            assert third.recv(10) == b"two"
