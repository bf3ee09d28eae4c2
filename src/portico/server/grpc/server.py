"""The gRPC server beside HTTP: same process, same event loop, same line, same keys.

    calls               those of ``grpc.vllm_engine`` and ``grpc.inference``, health (grpc.health.v1) and reflection
    keys                in the metadata, as ``authorization: Bearer KEY`` or ``x-api-key: KEY``; health needs none
    what goes wrong     a status code: INVALID_ARGUMENT also for bytes that are no such message, UNIMPLEMENTED for an
                        unknown call, RESOURCE_EXHAUSTED for a message over the limit, UNAUTHENTICATED for no key
    stopping            new calls are refused as UNAVAILABLE while those in flight finish, as on HTTP

Needs the extra ``portico[grpc]``; nothing imports this module where no gRPC is served.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from pathlib import Path
from typing import Any, Final, cast

import grpc
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from portico.errors import BadRequestError, MethodNotAllowedError, PorticoError
from portico.keys import KEY, enter
from portico.protocols.bounds import LARGE
from portico.protocols.grpc.status import error_metadata, status_name
from portico.protocols.grpc.wire import check_bounds
from portico.server.grpc.inference import InferenceService
from portico.server.grpc.vllm_engine import VllmEngineService
from portico.server.http.app import Outcome
from portico.server.http.auth import Keys, given_key
from portico.server.http.gate import Gate
from portico.server.line.served import Served
from portico.server.observe.metrics import Metrics
from portico.threads import Threads

__all__ = ["GrpcServer", "Tls"]

log = logging.getLogger("portico")

WORK: Final = frozenset({"Chat", "Complete", "CountTokens", "Embed", "Generate"})  # calls that take a place

_LARGE_MESSAGES: Final = Threads("messages", 2, waiting=64)
HEALTH_SECONDS: Final = 1.0  # between looks at whether the engines are alive

_OPTIONS: Final = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 1024),  # of one connection
    # Clients may ping every few seconds, also between calls: it is how they notice a dead connection.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 4_000),
    ("grpc.http2.max_ping_strikes", 0),
    # The server's own pings find clients that are gone without a word.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]


class Tls:
    """Certificate chain and private key in PEM form; ``client_ca`` demands clients' certificates signed by it."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        try:
            chain, private = certificate.read_bytes(), key.read_bytes()
            trusted = client_ca.read_bytes() if client_ca is not None else None
        except OSError as error:
            raise BadRequestError(f"A TLS file of the gRPC server cannot be read: {error.strerror}.") from None
        self.credentials = grpc.ssl_server_credentials([(private, chain)], trusted, trusted is not None)


class GrpcServer:
    """Serves ``served`` on ``host`` and ``port`` (0 picks a free one; ``port`` then says which).

    ``share_port`` lets other processes' servers have the same port; without it a taken port is an error.
    """

    def __init__(
        self,
        served: Served,
        keys: Keys,
        metrics: Metrics,
        gate: Gate,
        *,
        host: str,
        port: int,
        max_message: int,
        tls: Tls | None = None,
        share_port: bool = False,
    ) -> None:
        self._served = served
        self._calls = _Calls(metrics, gate)
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[_Door(keys)],
            options=[
                *_OPTIONS,
                ("grpc.max_receive_message_length", max_message),
                ("grpc.so_reuseport", int(share_port)),
            ],
        )
        services: list[VllmEngineService | InferenceService] = [VllmEngineService(served), InferenceService(served)]
        for service in services:
            handlers = {
                method.name: self._calls.handler(method, getattr(service, method.name))
                for method in service.descriptor.methods
            }
            self._server.add_generic_rpc_handlers(
                [grpc.method_handlers_generic_handler(service.descriptor.full_name, handlers)]
            )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._names = ["", *(service.descriptor.full_name for service in services)]
        reflection.enable_server_reflection(
            [*self._names[1:], health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, tls.credentials)
        except RuntimeError:
            raise BadRequestError(
                f"Cannot serve gRPC on {host} port {port}: it is taken, not allowed, or the TLS files do not fit. "
                "Choose another with --grpc-port.",
                param="grpc_port",
            ) from None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve from now on."""
        await self._tell_health()
        await self._server.start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self, grace: float) -> None:
        """Wait up to ``grace`` seconds for the calls in flight, then end what is left. The line must be draining."""
        await self._tell_health()
        await self._calls.idle(grace)
        if self._watching is not None:
            self._watching.cancel()
        await self._server.stop(0.2)  # what is left are watchers of health, and calls that are being told their end

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            await self._tell_health()

    async def _tell_health(self) -> None:
        status = health_pb2.HealthCheckResponse
        now = status.SERVING if self._served.healthy else status.NOT_SERVING
        for name in self._names:
            await self._health.set(name, now)


class _Calls:
    """What surrounds every call: decoding, errors, counting."""

    def __init__(self, metrics: Metrics, gate: Gate) -> None:
        self._metrics = metrics
        self._gate = gate
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self, timeout: float) -> None:
        """Wait until no call is running, at most so many seconds."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            pass

    def _place(self, route: str) -> AbstractContextManager[None]:
        """Work takes a place; to look at the server does not."""
        return self._gate.passing(KEY.get()) if route.rpartition("/")[2] in WORK else nullcontext()

    def handler(
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
            return grpc.unary_stream_rpc_method_handler(streaming, bytes, _encode)
        return grpc.unary_unary_rpc_method_handler(unary, bytes, _encode)

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
            self._metrics.count("grpc", route, "", outcome, cause, seconds)
            log.info("%s %s %.0f ms", route, outcome, seconds * 1000)
        code = getattr(grpc.StatusCode, status_name(refusal))
        await context.abort(code, refusal.message, error_metadata(refusal))


def _encode(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


async def _decoded(message: type[Message], data: bytes) -> Message:
    """The request in ``data``. Raises ``BadRequestError`` where it is none, or holds more than it may."""

    def decode() -> Message:
        check_bounds(data, cast(Descriptor, message.DESCRIPTOR))
        try:
            return message.FromString(data)
        except DecodeError:
            raise BadRequestError("The bytes of this request are not the message that the call takes.") from None

    return await _LARGE_MESSAGES.run(decode) if len(data) > LARGE else decode()


class _Door(grpc.aio.ServerInterceptor):
    """Lets calls through that bring a key and are known here; health needs no key, as on HTTP."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        call: str = handler_call_details.method
        if not call.startswith(f"/{health.SERVICE_NAME}/"):
            try:
                enter(self._keys.verify(given_key(_headers(handler_call_details.invocation_metadata))))
            except PorticoError as error:
                return _refusal(error)
        known = await continuation(handler_call_details)
        return known or _refusal(
            MethodNotAllowedError(f"This server has no call '{call[:200]}'; reflection lists those that it has.")
        )


def _headers(metadata: Sequence[tuple[str, str | bytes]]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() if isinstance(value, str) else value for name, value in metadata or ()}


def _refusal(error: PorticoError) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that refuses whatever it is called with."""

    async def refuse(request: Any, context: Any) -> None:
        await context.abort(getattr(grpc.StatusCode, status_name(error)), error.message, error_metadata(error))

    return grpc.unary_unary_rpc_method_handler(refuse, bytes, _encode)
