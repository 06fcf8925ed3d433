"""A TCP proxy between workers and their coordinator, outside of both: counts what crosses the wire, and disturbs it.

It runs on a loop and a thread of its own, in a process that is neither peer, and looks at no byte: TLS passes as it is.
Peers know how many bytes of payload they move; what is counted here, less that, is overhead. Benchmarks count with it,
tests cut with it.

    with Proxy(coordinator_address) as proxy:
        run_workers(proxy.address)
    print(proxy.up_bytes, proxy.down_bytes)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Self, TypeAlias

PIECE_BYTES = 2**18
SLOW_PIECE_BYTES = 2**13  # of a line with a rate: so that it flows
OVERSLEPT_S = 0.1  # at most; a line that carried nothing for longer was idle
BACKLOG = 1024
GIVE_UP_S = 10


class Direction(Enum):
    """As the worker sees it, which dials."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Weather:
    """What befalls one direction of one connection; offsets count that direction's bytes, from 0.

    `cut_at`: so many bytes pass, then both ends are closed; `by_reset`: with a RST, as by a NAT that has forgotten the
    connection, else in order. `delay_s`: each piece comes so much later. `stall_at`: before this byte nothing moves for
    `stall_s`. `bytes_per_s`: no more than so many pass in a second.
    """

    cut_at: int | None = None
    by_reset: bool = True
    delay_s: float = 0.0
    stall_at: int | None = None
    stall_s: float = 0.0
    bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """One that happened: `withheld` of the bytes that were under way had come and were not passed on."""

    connection: int
    direction: Direction
    at: int
    withheld: int


Forecast: TypeAlias = Callable[[int, Direction], Weather]  # for a connection, counted from 0
CALM = Weather()


def calm(_connection: int, _direction: Direction) -> Weather:
    """Nothing befalls anybody."""
    return CALM


class Proxy:
    """Listens on loopback, or at another address of this machine, and dials `target` once for each connection.

    Counts are of all connections together; whoever has heard a byte finds it counted, in any thread.
    """

    def __init__(self, target: str, forecast: Forecast = calm, host: str = "127.0.0.1") -> None:
        self.target = target
        self.address = ""
        self.up_bytes = 0
        self.down_bytes = 0
        self.connections = 0
        self.cuts: list[Cut] = []
        self.is_down = False  # nobody gets through who dials now
        self.turned_away = 0
        self._forecast = forecast
        self._host = host
        self._open: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listening: socket.socket | None = None

    def __enter__(self) -> Self:
        self._listening = listening = socket.create_server((self._host, 0), backlog=BACKLOG)
        listening.setblocking(False)
        self.address = f"{self._host}:{listening.getsockname()[1]}"
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(listening), self._loop).result(GIVE_UP_S)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(GIVE_UP_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(GIVE_UP_S)
        self._loop.close()
        if self._listening is not None:
            self._listening.close()

    def go_down(self) -> int:
        """Break every connection that is open, with a RST, and let nobody through from now on; how many were broken."""
        return asyncio.run_coroutine_threadsafe(self._go_down(), self._loop).result(GIVE_UP_S)

    async def _go_down(self) -> int:
        self.is_down = True
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        return len(serving)

    def come_back(self) -> None:
        """Who dials now gets through."""
        self.is_down = False

    async def _begin(self, listening: socket.socket) -> None:
        self._hold(self._accept(listening))

    async def _end(self) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _hold(self, coroutine) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        return task

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            worker, _ = await self._loop.sock_accept(listening)
            if self.is_down:
                self.turned_away += 1
                _reset(worker)
                worker.close()
                continue
            task = self._hold(self._serve(worker, self.connections))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
            self.connections += 1

    async def _serve(self, worker: socket.socket, number: int) -> None:
        host, _, port = self.target.rpartition(":")
        with worker, socket.socket() as coordinator:
            for end in (worker, coordinator):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                await self._join(worker, coordinator, number, host, int(port))
            except asyncio.CancelledError:
                _reset(worker, coordinator)
                raise

    async def _join(self, worker: socket.socket, coordinator: socket.socket, number: int, host: str, port: int) -> None:
        with contextlib.suppress(OSError):  # either end may go at any time; the other then sees a closed connection
            await self._loop.sock_connect(coordinator, (host, port))
            up = _Way(number, Direction.UP, worker, coordinator, self._forecast(number, Direction.UP))
            down = _Way(number, Direction.DOWN, coordinator, worker, self._forecast(number, Direction.DOWN))
            await self._carry_both(up, down)

    async def _carry_both(self, up: _Way, down: _Way) -> None:
        """Until both ends have said goodbye, or one of them is gone."""
        ways = [self._loop.create_task(self._carry(way)) for way in (up, down)]
        try:
            await asyncio.gather(*ways)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(self, way: _Way) -> None:
        rate = way.weather.bytes_per_s
        while piece := await self._loop.sock_recv(way.source, SLOW_PIECE_BYTES if rate else PIECE_BYTES):
            if way.weather.delay_s:
                await asyncio.sleep(way.weather.delay_s)
            if rate:
                await self._wait_for_room(way, len(piece) / rate)
            await self._pass(way, piece)
        with contextlib.suppress(OSError):
            way.sink.shutdown(socket.SHUT_WR)

    async def _wait_for_room(self, way: _Way, seconds: float) -> None:
        """Until the line has carried so much more. What this process oversleeps the line makes up for."""
        now = self._loop.time()
        way.free_at = (way.free_at if now - way.free_at < OVERSLEPT_S else now) + seconds
        await asyncio.sleep(way.free_at - now)

    async def _pass(self, way: _Way, piece: bytes) -> None:
        weather, end = way.weather, way.passed + len(piece)
        if weather.stall_at is not None and way.passed <= weather.stall_at < end:
            before = weather.stall_at - way.passed
            await self._send(way, piece[:before])
            await asyncio.sleep(weather.stall_s)
            piece = piece[before:]
        if weather.cut_at is None or end < weather.cut_at:
            await self._send(way, piece)
        else:
            await self._send(way, piece[: weather.cut_at - way.passed])
            self.cuts.append(Cut(way.connection, way.direction, weather.cut_at, end - weather.cut_at))
            way.break_off()

    async def _send(self, way: _Way, piece: bytes) -> None:
        way.passed += len(piece)
        if way.direction is Direction.UP:
            self.up_bytes += len(piece)
        else:
            self.down_bytes += len(piece)
        await self._loop.sock_sendall(way.sink, piece)


def _reset(*ends: socket.socket) -> None:
    """Have them closed with a RST."""
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass(slots=True)
class _Way:
    """One direction of one connection."""

    connection: int
    direction: Direction
    source: socket.socket
    sink: socket.socket
    weather: Weather
    passed: int = field(default=0)
    free_at: float = 0.0  # of a line with a rate: when it has carried what it was given

    def break_off(self) -> None:
        """Have both ends closed, by whom this raises to."""
        if self.weather.by_reset:
            _reset(self.source, self.sink)
        raise ConnectionAbortedError("cut, as the weather wanted it")
