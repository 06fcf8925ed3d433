"""A worker whose clock disagrees with the coordinator's certificate hears of its clock, not of a wrong authority."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from muster.channel import enrol
from muster.credentials import Material
from muster.errors import ConnectionBrokenError
from muster_wire.trust.authority import make_authority

DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("issued_s", "hint"),
    [(-3 * DAY_S, "or this machine's clock is wrong"), (2 * DAY_S, "this machine's clock is behind")],
)
def test_a_worker_at_another_time_is_told_of_its_clock(issued_s, hint):
    now = time.time()
    authority = make_authority("job", min(now, now + issued_s), 30 * DAY_S)
    pair = authority.issue_server(["localhost"], now + issued_s, DAY_S)
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(pair.key, pair.chain)]))
    server.start()
    try:
        with pytest.raises(ConnectionBrokenError, match=hint):
            enrol(f"localhost:{port}", Material(ca=authority.pem), b"")
    finally:
        server.stop(None)
