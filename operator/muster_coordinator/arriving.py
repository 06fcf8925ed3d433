"""Where an update's frames come from: a stream that goes on where the last one broke, or one message with all of it."""

from __future__ import annotations

from typing import Any, Final, NoReturn, Protocol, TypeAlias

import grpc
import grpc.aio

from muster_coordinator.meter import ByteMeter
from muster_wire.errors import FrameError
from muster_wire.received import ReceivedFrame, parse_request
from muster_wire.v1 import federation_pb2 as pb

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Source(Protocol):
    """One call that hands an update in."""

    @property
    def restarts(self) -> bool:
        """Whether it brings the update from its beginning, whatever arrived before."""

    async def begin(self, offset: int) -> None:
        """Let it send from here on."""

    async def read(self) -> bytes | ReceivedFrame | None:
        """The next frame, as `frame_of` takes it; None if there is no more."""

    async def abort(self, code: grpc.StatusCode, reason: str) -> NoReturn:
        """End the call without a verdict."""


class Stream:
    """A Submit call whose offer has been read."""

    restarts: Final = False

    def __init__(self, context: Context, meter: ByteMeter) -> None:
        self._context = context
        self._meter = meter

    async def begin(self, offset: int) -> None:
        await self._context.write(pb.SubmitReply(proceed=pb.Proceed(offset=offset)))

    async def read(self) -> bytes | None:
        request = await self._context.read()
        if not isinstance(request, bytes):  # EOF
            return None
        self._meter.add_up(len(request))
        return request

    async def abort(self, code: grpc.StatusCode, reason: str) -> NoReturn:
        await self._context.abort(code, reason)


class Whole:
    """A HandIn call: one frame, of a message of so many bytes."""

    restarts: Final = True

    def __init__(self, frame: ReceivedFrame, size: int, context: Context, meter: ByteMeter) -> None:
        self._frame: ReceivedFrame | None = frame
        self._size = size
        self._context = context
        self._meter = meter

    async def begin(self, offset: int) -> None:
        """It has sent everything already."""

    async def read(self) -> ReceivedFrame | None:
        frame, self._frame = self._frame, None
        if frame is not None:
            self._meter.add_up(self._size)
        return frame

    async def abort(self, code: grpc.StatusCode, reason: str) -> NoReturn:
        await self._context.abort(code, reason)


def frame_of(arrived: bytes | ReceivedFrame) -> ReceivedFrame:
    """What has arrived, as a frame. FrameError if it isn't one."""
    if isinstance(arrived, ReceivedFrame):
        return arrived
    frame = parse_request(arrived)
    if isinstance(frame, pb.Offer):
        raise FrameError("a submission is one offer and then frames")
    return frame
