"""Pings, agreed between both sides: often enough for NAT gateways, and never so often that the other side hangs up.

Gateways forget a silent connection after minutes, some after one. A worker beats every few seconds, which keeps its
connection in their memory; pings are there to notice, in less than a minute, a peer that is gone without a word.
A gRPC server hangs up (GOAWAY, too_many_pings) on a client that pings more often than it allows, so the interval of one
side and the limit of the other stand here together.
"""

from __future__ import annotations

CLIENT_PING_MS = 30_000
SERVER_PING_MS = 20_000
TIMEOUT_MS = 10_000
SHORTEST_ALLOWED_MS = 10_000  # a client that pings more often than this, more than twice in a row, is hung up on

CLIENT_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", CLIENT_PING_MS),
    ("grpc.keepalive_timeout_ms", TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),  # as many as it takes: a long training sends nothing else
)
SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", SERVER_PING_MS),
    ("grpc.keepalive_timeout_ms", TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", SHORTEST_ALLOWED_MS),
)
