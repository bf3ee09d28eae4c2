"""What surrounds every call that goes through the line: decoding, a place, errors, counting."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Any, Final, Protocol, cast

import grpc
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from portico.errors import BadRequestError, PorticoError
from portico.keys import KEY
from portico.keys.audit import Audit
from portico.protocols.bounds import LARGE
from portico.protocols.grpc.status import error_metadata, status_name
from portico.protocols.grpc.wire import check_bounds
from portico.server.grpc.answers import ABOUT, LARGE_REQUEST, off_loop
from portico.server.grpc.server import Service, encode, tell_refusal
from portico.server.http.app import Outcome
from portico.server.http.gate import Gate
from portico.server.observe.metrics import Metrics

__all__ = ["Calls"]

log = logging.getLogger("portico")

WORK: Final = frozenset({"Chat", "Complete", "CountTokens", "Embed", "Generate"})  # calls that take a place


class Called(Protocol):
    """A service as ``answers`` describes it: a method for each call of its description."""

    @property
    def descriptor(self) -> ServiceDescriptor: ...


class Calls:
    """What surrounds every call: decoding, errors, counting."""

    def __init__(self, metrics: Metrics, gate: Gate, audit: Audit) -> None:
        self._metrics = metrics
        self._gate = gate
        self._audit = audit
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self, timeout: float) -> None:
        """Wait until no call is running, at most so many seconds."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            pass

    def service(self, service: Called) -> Service:
        """The service with its handlers, for the server."""
        handlers = {
            method.name: self._handler(method, getattr(service, method.name)) for method in service.descriptor.methods
        }
        return Service(service.descriptor.full_name, handlers, self.idle)

    def _place(self, route: str) -> AbstractContextManager[None]:
        """Work takes a place; to look at the server does not."""
        return self._gate.passing(KEY.get()) if route.rpartition("/")[2] in WORK else nullcontext()

    def _handler(
        self, method: MethodDescriptor, work: Callable[[Any], Awaitable[Any]]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of one call over ``work``, a method of a service."""
        route = f"/{method.containing_service.full_name}/{method.name}"
        message = GetMessageClass(method.input_type)

        async def unary(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            return await self._guarded(route, context, self._unary(work, message, data))

        async def streaming(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            await self._guarded(route, context, self._streaming(work, message, data, context))

        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(streaming, bytes, encode)
        return grpc.unary_unary_rpc_method_handler(unary, bytes, encode)

    @staticmethod
    async def _unary(work: Callable[[Any], Awaitable[Any]], message: type[Message], data: bytes) -> Any:
        return await work(await _decoded(message, data))

    @staticmethod
    async def _streaming(
        work: Callable[[Any], Awaitable[Any]], message: type[Message], data: bytes, context: Any
    ) -> None:
        async with aclosing(await work(await _decoded(message, data))) as messages:
            warnings = (("x-portico-warning", one) for one in getattr(messages, "warnings", ()))
            await context.send_initial_metadata((("portico-accepted", "1"), *warnings))  # clients may wait for that
            async for message in messages:
                await context.write(message)

    async def _guarded(self, route: str, context: Any, work: Coroutine[Any, Any, Any]) -> Any:
        started = time.perf_counter()
        outcome: Outcome = "ok"
        cause = ""
        refusal: PorticoError | None = None
        self._active += 1
        self._idle.clear()
        try:
            with self._place(route):
                return await work
        except asyncio.CancelledError:
            outcome = "gone"
            raise
        except PorticoError as error:
            outcome, cause = "refused" if error.status < 500 else "failed", error.code or error.type
            refusal = error
        except Exception:
            outcome, cause = "failed", "internal_error"
            log.exception("%s failed", route)
            refusal = PorticoError("The server failed on this request; the error has been logged.")
        finally:
            work.close()  # where there was no place for it
            self._active -= 1
            if not self._active:
                self._idle.set()
            seconds = time.perf_counter() - started
            self._metrics.count("grpc", route, ABOUT.get(), outcome, cause, seconds)
            log.info("%s %s %.0f ms", route, outcome, seconds * 1000)
        tell_refusal(self._audit, refusal, route, context)
        code = getattr(grpc.StatusCode, status_name(refusal))
        await context.abort(code, refusal.message, error_metadata(refusal))


async def _decoded(message: type[Message], data: bytes) -> Message:
    """The request in ``data``. Raises ``BadRequestError`` where it is none, or holds more than it may."""

    def decode() -> Message:
        check_bounds(data, cast(Descriptor, message.DESCRIPTOR))
        try:
            return message.FromString(data)
        except DecodeError:
            raise BadRequestError("The bytes of this request are not the message that the call takes.") from None

    LARGE_REQUEST.set(len(data) > LARGE)
    return await off_loop(decode)
