"""From start to end: bind, load, say what is served, run, drain, close.

SIGTERM and SIGINT stop accepting; requests in flight get ``drain_timeout`` seconds, then an in-band error. A second
signal ends at once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
import time
from collections.abc import Coroutine, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from portico import __version__
from portico.config import Settings
from portico.engines import Engine
from portico.errors import BadRequestError, OverloadedError
from portico.server.app import build_app
from portico.server.assemble import assemble
from portico.server.auth import OPEN_PATHS, Keys, is_loopback
from portico.server.connection import connections
from portico.server.export import about
from portico.server.gate import Gate
from portico.server.routes import routes
from portico.server.served import Served
from portico.trace import Recorder

if TYPE_CHECKING:
    from portico.server.grpc_server import GrpcServer
    from portico.server.inspector import Inspector
    from portico.server.telemetry import Telemetry

__all__ = ["serve", "serve_on"]

log = logging.getLogger("portico")

OTLP_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

BACKLOG = 2048  # connections that may wait to be accepted


def serve(settings: Settings) -> None:
    """Run a server until it is told to stop. Raises ``PorticoError`` when it cannot start."""
    _refuse_to_be_open(settings)
    _start_logging(settings.log_level)
    listener = _bind(settings.host, settings.port)
    if settings.workers > 1:
        from portico.server.workers import supervise

        _run(supervise(settings, listener), listener)
    else:
        _run(_serve(settings, listener), listener)


def serve_on(settings: Settings, listener: socket.socket, shared: Sequence[Engine], *, announce: bool) -> None:
    """Run a server on a socket that is already bound, over engines that another process has."""
    _start_logging(settings.log_level)
    _run(_serve(settings, listener, shared, announce=announce), listener)


def _run(work: Coroutine[Any, Any, None], listener: socket.socket) -> None:
    loop = _new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(work)
    finally:
        listener.close()
        loop.close()


def _start_logging(level: str) -> None:
    """Colours for people, one plain line per event for files and collectors."""
    handler: logging.Handler
    if sys.stderr.isatty():
        handler, layout = (
            RichHandler(console=Console(stderr=True), show_path=False, log_time_format="[%X]"),
            "%(message)s",
        )
    else:
        handler, layout = logging.StreamHandler(), "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=logging.WARNING, format=layout, handlers=[handler])
    log.setLevel(level.upper())


async def _serve(
    settings: Settings, listener: socket.socket, shared: Sequence[Engine] = (), *, announce: bool = True
) -> None:
    telemetry = _telemetry(settings)
    served = await assemble(settings, shared)
    try:
        inspector = _inspector(settings, served)
        keys = Keys(
            (key.get_secret_value() for key in settings.api_key), OPEN_PATHS | (inspector.pages if inspector else set())
        )
        app = build_app(
            {**routes(served), **(inspector.routes() if inspector else {})},
            keys,
            Gate(settings.max_in_flight, settings.max_per_key),
            served.metrics,
            max_body=settings.max_body,
            cors_origins=settings.cors_origins,
            observers=[one for one in (inspector, telemetry) if one is not None],
        )
        config = uvicorn.Config(
            app,
            http=connections(max_head=settings.max_header, client_timeout=settings.client_timeout),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here depends on who a proxy says is asking
            timeout_keep_alive=65,  # longer than the 60 s that common proxies keep a connection
            timeout_graceful_shutdown=None,  # our own drain ends every stream in-band
        )
        grpc_server = _grpc_server(settings, served, keys)
        if grpc_server is not None:
            await grpc_server.start()
        listener.listen(BACKLOG)  # who comes between the announcement and the first accept waits, and is not refused
        if announce:
            _announce(settings, served, listener, grpc_server)
        gc.collect()
        gc.freeze()  # what start-up made lives as long as the process: no need to look at it again
        server = _Server(config, served, settings.drain_timeout)
        await server.serve([listener])
        if grpc_server is not None:
            await grpc_server.stop(server.time_left())
    finally:
        for one in served.models:
            await one.line.close()
            one.model.prompter.close()
        if telemetry is not None:
            await telemetry.close()


def _inspector(settings: Settings, served: Served) -> Inspector | None:
    """Who records requests, where the settings want any recorded."""
    if not settings.inspect and not settings.trace_header:
        return None
    from portico.server.inspector import Inspector  # it has the files of its pages in memory

    recorder = Recorder(time.perf_counter, time.time, keep=settings.inspect_keep, redact=settings.inspect_redact)
    return Inspector(recorder, served, everything=settings.inspect, keyed=bool(settings.api_key), about=about(settings))


def _telemetry(settings: Settings) -> Telemetry | None:
    """Who sends spans, where the settings or OpenTelemetry's own variables ask for it."""
    asked = settings.otlp_endpoint is not None
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    if not asked and not any(os.environ.get(name) for name in OTLP_VARIABLES):
        return None
    try:
        from portico.server.telemetry import Telemetry
    except ImportError as error:
        missing = f"OpenTelemetry needs more packages ({error.name} is missing): pip install 'portico[otel]'."
        if asked:
            raise BadRequestError(missing, param="otlp_endpoint") from None
        log.warning("no spans are sent: %s", missing)
        return None
    return Telemetry(settings.otlp_endpoint)


def _grpc_server(settings: Settings, served: Served, keys: Keys) -> GrpcServer | None:
    """The gRPC server that the settings ask for, if any. Raises ``BadRequestError`` where it cannot be had."""
    if settings.grpc_port is None:
        return None
    try:
        from portico.server.grpc_server import GrpcServer, Tls
    except ImportError as error:
        raise BadRequestError(
            f"gRPC needs more packages ({error.name} is missing): pip install 'portico[grpc]'.", param="grpc_port"
        ) from None
    tls = None
    if settings.grpc_tls_cert is not None and settings.grpc_tls_key is not None:
        tls = Tls(settings.grpc_tls_cert, settings.grpc_tls_key, settings.grpc_tls_client_ca)
    elif settings.grpc_tls_cert or settings.grpc_tls_key or settings.grpc_tls_client_ca:
        raise BadRequestError("TLS for gRPC takes both --grpc-tls-cert and --grpc-tls-key.", param="grpc_tls_cert")
    return GrpcServer(
        served,
        keys,
        host=settings.host,
        port=settings.grpc_port,
        max_message=settings.max_body,
        tls=tls,
        share_port=settings.workers > 1,
    )


class _Server(uvicorn.Server):
    """Uvicorn, with a drain that tells streams why they end."""

    def __init__(self, config: uvicorn.Config, served: Served, drain_timeout: float) -> None:
        super().__init__(config)
        self._served = served
        self._drain_timeout = drain_timeout
        self._loop = asyncio.get_running_loop()
        self._end = 0.0  # of the drain, in the loop's time

    def time_left(self) -> float:
        """Seconds of the drain that are left, and one for what was cut off to be told."""
        return max(0.0, self._end - self._loop.time()) + 1.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Uvicorn would raise the signal again when done and die of it; a drained server ends with status 0."""
        again, self.should_exit = self.should_exit, True
        self.force_exit = again
        self._loop.call_soon_threadsafe(self._cut_off if again else self._drain)

    def _drain(self) -> None:
        working = sum(one.line.in_flight for one in self._served.models)
        if working:
            log.warning("stopping: %d requests get %g s to finish", working, self._drain_timeout)
        for one in self._served.models:
            one.line.drain()
        self._end = self._loop.time() + self._drain_timeout
        self._loop.call_at(self._end, self._cut_off)

    def _cut_off(self) -> None:
        for one in self._served.models:
            one.line.fail_all(OverloadedError("The server is shutting down.", code="shutting_down", retry_after=1))


def _refuse_to_be_open(settings: Settings) -> None:
    """A server that others can reach needs a key, unless the operator says that it does not."""
    if (settings.inspect or settings.trace_header) and not settings.api_key and not is_loopback(settings.host):
        raise BadRequestError(
            f"Recorded requests would be shown to everybody who can reach {settings.host}: set --api-key "
            "(or PORTICO_API_KEY), bind 127.0.0.1, or leave --inspect and --trace-header out."
        )
    if (settings.inspect or settings.trace_header) and settings.workers > 1:
        raise BadRequestError("Each worker would record its own requests: inspect with --workers 1.", param="workers")
    if settings.api_key or settings.insecure or is_loopback(settings.host):
        return
    raise BadRequestError(
        f"Binding {settings.host} would serve everybody who can reach this machine. "
        "Set --api-key (or PORTICO_API_KEY), bind 127.0.0.1, or say --insecure."
    )


def _bind(host: str, port: int) -> socket.socket:
    """Bind before loading: a taken port should be told at once, not after the model is in memory."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: only then asyncio switches Nagle's delay (some 40 ms) off on what is accepted.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, UnicodeError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "not a valid host"
        raise BadRequestError(f"Cannot bind {host} port {port}: {reason}. Choose another with --port.") from None
    return listener


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # Windows has no uvloop
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _announce(settings: Settings, served: Served, listener: socket.socket, grpc_server: GrpcServer | None) -> None:
    """A few lines on stdout: what, where, and something to try."""
    host, port = listener.getsockname()[:2]
    base = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]portico {__version__}[/bold] at [bold cyan]{base}/v1[/bold cyan]")
    if settings.inspect:
        console.print(f"  inspector at [bold cyan]{base}/inspect[/bold cyan], playground at [cyan]{base}/play[/cyan]")
    if grpc_server is not None:
        console.print(f"  gRPC at [bold cyan]{f'[{host}]' if ':' in host else host}:{grpc_server.port}[/bold cyan]")
    for one in served.models:
        model = one.model
        facts = [f"{model.context_length} tokens of context"]
        if "generate" not in model.capabilities:
            facts = [f"embeddings of {model.embedding_size} numbers", *facts]
        if model.tool_parser:
            facts.append(f"tools: {model.tool_parser}")
        if model.reasoning_parser:
            facts.append(f"reasoning: {model.reasoning_parser}")
        console.print(f"  [green]{escape(', '.join(one.names))}[/green]  {escape(', '.join(facts))}")
        if model.prompter.renderer is not None and model.tool_parser is None and settings.tool_parser != "none":
            lacking = "tool-call format" if model.reasoning_parser else "tool-call or reasoning format"
            console.print(f"  no {lacking} known from its chat template: --tool-parser NAME, see 'portico formats'")
    key = ' -H "Authorization: Bearer $PORTICO_API_KEY"' if settings.api_key else ""
    first = served.models[0].model
    if "generate" in first.capabilities:
        body = f'{{"model": "{first.name}", "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'
        path = "chat/completions"
    else:
        body, path = f'{{"model": "{first.name}", "input": "Hello!"}}', "embeddings"
    console.print("Try:")
    console.print(f"  curl -N {base}/v1/{path} -H 'Content-Type: application/json'{key} \\", markup=False)
    console.print(f"    -d '{body}'", markup=False)
