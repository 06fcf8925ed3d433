"""What interceptors in front of the services share: handlers as gRPC types them, and one with something around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Behaviour: TypeAlias = Callable[[Any, Context], Awaitable[Any]]


def wrapped(handler: Handler, wrap: Callable[[Behaviour], Behaviour]) -> Handler:
    """The same handler with something around what it does."""
    kinds: dict[tuple[bool, bool], tuple[Callable[..., Handler], Any]] = {
        (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
        (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
        (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
    }
    make, behaviour = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(wrap(behaviour), handler.request_deserializer, handler.response_serializer)
