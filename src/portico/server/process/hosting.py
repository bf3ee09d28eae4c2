"""``portico engine``: an engine and no front door. Front doors on other machines use it (``--engine portico://…``).

SIGTERM and SIGINT begin a drain: front doors are told, take what they can elsewhere, and the rest gets
``drain_timeout`` seconds. A second signal ends at once. SIGHUP reads the keys and the log level anew.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Callable
from functools import partial
from typing import Final

from rich.markup import escape

from portico import __version__
from portico.config import Settings
from portico.engines.shared import Hub
from portico.errors import BadRequestError
from portico.extras import installing
from portico.keys import Key, hash_of
from portico.prompting import load_tokenizer
from portico.server.http.auth import Keys
from portico.server.http.browsers import is_loopback, with_port
from portico.server.process.beside import grpc_tls
from portico.server.process.engines import engine_of, resolved_model
from portico.server.process.reloading import OF_AN_ENGINE, Reloading
from portico.server.process.running import give_back, loading, run, start_logging
from portico.terminal import Terminal, echo

__all__ = ["host"]

log = logging.getLogger("portico")

PORT: Final = 50051
MOST_MESSAGE: Final = 256 << 20  # bytes: a prompt with its pictures as they are computed


def host(settings: Settings, again: Callable[[], Settings] | None = None) -> None:
    """Run the engine until it is told to stop; at SIGHUP ``again`` reads its settings anew. Raises ``PorticoError``
    when it cannot start."""
    if settings.elsewhere:
        raise BadRequestError(
            "This engine is elsewhere already: name it to 'portico serve --engine', or choose another.", param="engine"
        )
    if not (settings.api_key or settings.insecure or is_loopback(settings.host)):
        raise BadRequestError(
            f"Binding {settings.host} would let everybody compute who can reach this machine. Set --api-key (or "
            "PORTICO_API_KEY), bind 127.0.0.1, or say --insecure."
        )
    start_logging(settings)
    run(_host(settings, again))


async def _host(settings: Settings, again: Callable[[], Settings] | None) -> None:
    try:
        from portico.server.grpc.server import GrpcServer
        from portico.server.grpc.steps import StepsService
    except ImportError as error:
        raise BadRequestError(f"gRPC needs more packages ({error.name} is missing): {installing('grpc')}.") from None
    resolved = resolved_model(settings)
    tokenizer = load_tokenizer(settings.tokenizer or resolved.tokenizer_path or resolved.path)
    engine = engine_of(settings, resolved)
    try:
        with loading(settings):
            await engine.start()
        hub = Hub(engine)
        keys = Keys()
        accept = partial(_accept, keys)
        accept(settings)
        Reloading(settings, again, accept, OF_AN_ENGINE).begin()
        server = GrpcServer(
            [StepsService(hub, tokenizer).service],
            keys,
            lambda: engine.healthy and not hub.leaving,
            host=settings.host,
            port=PORT if settings.grpc_port is None else settings.grpc_port,
            max_message=MOST_MESSAGE,
            tls=grpc_tls(settings),
        )
        told = _signals()
        await server.start()
        _announce(settings, server.port, engine.info.model, engine.info.context_length)
        give_back()
        await told.get()
        if hub.running:
            log.warning("stopping: %d answers get %g s to finish", hub.running, settings.drain_timeout)
        hub.drain()
        stopping = asyncio.create_task(server.stop(settings.drain_timeout))
        at_once = asyncio.create_task(told.get())
        await asyncio.wait((stopping, at_once), return_when=asyncio.FIRST_COMPLETED)
        await hub.close()
        at_once.cancel()
        stopping.cancel()
        await asyncio.gather(stopping, at_once, return_exceptions=True)
    finally:
        await engine.close()


def _accept(keys: Keys, settings: Settings) -> None:
    keys.accept(Key(hash=hash_of(key.get_secret_value())) for key in settings.api_key)


def _signals() -> asyncio.Queue[None]:
    """Gets an item for every signal to stop."""
    told: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, told.put_nowait, None)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(told.put_nowait, None))
    return told


def _announce(settings: Settings, port: int, model: str, context_length: int) -> None:
    """A few lines on stdout: what, where, and how it is used. Where the log is JSON, all of it as one line of that."""
    shown = with_port(settings.host, port)
    scheme = "porticos" if settings.grpc_tls_cert else "portico"
    if settings.log_format == "json":
        facts = {"portico": __version__, "engine": f"{scheme}://{shown}", "model": model}
        echo(json.dumps({**facts, "context_length": context_length}))
        return
    console = Terminal(highlight=False, soft_wrap=True)
    console.print(f"[bold]portico {__version__}[/bold] engine at [bold cyan]{scheme}://{escape(shown)}[/bold cyan]")
    console.print(f"  [green]{escape(model)}[/green]  {context_length} tokens of context")
    console.print(f"Use it: portico serve --engine {scheme}://{escape(shown)}", markup=False)
