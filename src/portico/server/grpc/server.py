"""A gRPC server: the services that it is given, behind the keys, with health (grpc.health.v1) and reflection.

    keys                in the metadata, as ``authorization: Bearer KEY`` or ``x-api-key: KEY``; health needs none
    what goes wrong     a status code: INVALID_ARGUMENT also for bytes that are no such message, UNIMPLEMENTED for an
                        unknown call, RESOURCE_EXHAUSTED for a message over the limit, UNAUTHENTICATED for no key
    stopping            new calls are refused as UNAVAILABLE while those in flight finish, as on HTTP

Needs the extra ``portico[grpc]``; nothing imports this module where no gRPC is served.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import unquote

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from portico.errors import BadRequestError, MethodNotAllowedError, PorticoError
from portico.keys import KEY, enter
from portico.keys.audit import Audit
from portico.protocols.grpc.status import error_metadata, status_name
from portico.server.http.auth import Keys, given_key
from portico.server.http.browsers import with_port
from portico.server.observe.audit import REFUSALS

__all__ = ["GrpcServer", "Handlers", "Service", "Tls", "encode", "tell_refusal"]

log = logging.getLogger("portico")

Handlers: TypeAlias = Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]

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


class Service(NamedTuple):
    """What a server offers under a name. ``idle`` waits until none of its calls runs, at most so many seconds."""

    name: str
    handlers: Handlers
    idle: Callable[[float], Awaitable[None]]


class GrpcServer:
    """Serves ``services`` on ``host`` and ``port`` (0 picks a free one; ``port`` then says which), and tells whether
    they are ``healthy``.

    ``share_port`` lets other processes' servers have the same port; without it a taken port is an error.
    """

    def __init__(
        self,
        services: Sequence[Service],
        keys: Keys,
        healthy: Callable[[], bool],
        *,
        host: str,
        port: int,
        max_message: int,
        tls: Tls | None = None,
        share_port: bool = False,
        audit: Audit | None = None,
    ) -> None:
        self._services = services
        self._healthy = healthy
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[_Door(keys, audit or Audit(None))],
            options=[
                *_OPTIONS,
                ("grpc.max_receive_message_length", max_message),
                ("grpc.so_reuseport", int(share_port)),
            ],
        )
        for service in services:
            self._server.add_generic_rpc_handlers(
                [grpc.method_handlers_generic_handler(service.name, dict(service.handlers))]
            )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._names = ["", *(service.name for service in services)]
        reflection.enable_server_reflection(
            [*self._names[1:], health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
        )
        address = with_port(host, port)
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
        """Wait up to ``grace`` seconds for the calls in flight, then end what is left. Whoever takes work must have
        been told to take no more."""
        await self._tell_health()
        await asyncio.gather(*(service.idle(grace) for service in self._services))
        if self._watching is not None:
            self._watching.cancel()
        await self._server.stop(0.2)  # what is left are watchers of health, and calls that are being told their end

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            await self._tell_health()

    async def _tell_health(self) -> None:
        status = health_pb2.HealthCheckResponse
        now = status.SERVING if self._healthy() else status.NOT_SERVING
        for name in self._names:
            await self._health.set(name, now)


def encode(message: Any) -> bytes:
    """The bytes of a message."""
    data: bytes = message.SerializeToString()
    return data


class _Door(grpc.aio.ServerInterceptor):
    """Lets calls through that bring a key and are known here; health needs no key, as on HTTP."""

    def __init__(self, keys: Keys, audit: Audit) -> None:
        self._keys = keys
        self._audit = audit

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        call: str = handler_call_details.method
        if not call.startswith(f"/{health.SERVICE_NAME}/"):
            try:
                enter(self._keys.verify(given_key(_headers(handler_call_details.invocation_metadata))))
            except PorticoError as error:
                return _refusal(error, partial(tell_refusal, self._audit, error, call[:200]))
        known = await continuation(handler_call_details)
        return known or _refusal(
            MethodNotAllowedError(f"This server has no call '{call[:200]}'; reflection lists those that it has.")
        )


def _headers(metadata: Sequence[tuple[str, str | bytes]]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() if isinstance(value, str) else value for name, value in metadata or ()}


def tell_refusal(audit: Audit, error: PorticoError, route: str, context: Any) -> None:
    """Note in the audit log that a call was refused for who asks."""
    if error.status in REFUSALS:
        peer: str = context.peer()  # ipv4:HOST:PORT, ipv6:[HOST]:PORT
        address = unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]")
        who = KEY.get().shown
        audit.note("refused", who, cause=error.code or error.type, method="gRPC", route=route, address=address)


def _refusal(
    error: PorticoError, told: Callable[[Any], None] = lambda context: None
) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that refuses whatever it is called with."""

    async def refuse(messages: Any, context: Any) -> None:
        told(context)
        await context.abort(getattr(grpc.StatusCode, status_name(error)), error.message, error_metadata(error))

    return grpc.stream_stream_rpc_method_handler(refuse, bytes, encode)  # one that waits for no message first
