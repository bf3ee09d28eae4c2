"""From start to end: bind, load, say what is served, run, drain, close."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial

import uvicorn

from portico.config import Settings
from portico.engines import Engine
from portico.keys.accounts import Accounts
from portico.keys.audit import Audit
from portico.server.batches.runner import Runner
from portico.server.http.app import build_app
from portico.server.http.auth import OPEN_PATHS, Keys
from portico.server.http.connection import connections
from portico.server.http.fronted import fronted
from portico.server.http.gate import Gate
from portico.server.http.pages import PAGES, Pages
from portico.server.observe.access import AccessLog
from portico.server.observe.audit import AuditObserver
from portico.server.observe.ledger import Ledger
from portico.server.observe.metrics import Metrics
from portico.server.process import announcement, systemd
from portico.server.process.accounting import Accounting
from portico.server.process.assemble import assemble, change, release
from portico.server.process.beside import grpc_beside, inspecting, sending_spans
from portico.server.process.certificates import Certificates
from portico.server.process.draining import DrainingServer
from portico.server.process.key_watch import KeyWatch
from portico.server.process.listener import listening, placed, refuse_to_be_open
from portico.server.process.reloading import OF_A_SERVER, Live, Reloading
from portico.server.process.running import give_back, loading, run, start_logging
from portico.server.process.settling import Settling
from portico.server.routes.paths import routes

__all__ = ["serve", "serve_on"]

log = logging.getLogger("portico")

BACKLOG = 2048  # connections that may wait to be accepted


def serve(settings: Settings, again: Callable[[], Settings] | None = None) -> None:
    """Run a server until it is told to stop; at SIGHUP ``again`` reads its settings anew, raising ``PorticoError`` for
    bad ones. Raises ``PorticoError`` when it cannot start."""
    with listening(settings) as (settings, listener):
        refuse_to_be_open(settings)
        start_logging(settings)
        reading = None if again is None else lambda: placed(again(), listener)
        if settings.workers > 1:
            from portico.server.process.workers import supervise

            run(supervise(settings, listener, reading))
        else:
            live = Live(settings)
            ready = partial(systemd.notify, "READY=1")
            reloading = Reloading(settings, reading, live.change, OF_A_SERVER)
            run(_serve(settings, listener, live, reloading, ready=ready))


def serve_on(
    settings: Settings,
    listener: socket.socket,
    live: Live,
    shared: Sequence[Engine],
    *,
    announce: bool,
    ready: Callable[[], None],
    accounts: Accounts,
    ledger: Ledger,
) -> None:
    """Run a server on a socket that is already bound, over engines that another process has.

    ``live`` hands on what of the settings changes; ``ready`` is called when requests are taken. ``accounts`` is where
    what each API key uses is counted over all workers, ``ledger`` where their metrics come together.
    """
    start_logging(settings)
    with listener:
        run(
            _serve(
                settings, listener, live, None, shared, announce=announce, ready=ready, accounts=accounts, ledger=ledger
            )
        )


async def _serve(
    settings: Settings,
    listener: socket.socket,
    live: Live,
    reloading: Reloading | None,
    shared: Sequence[Engine] = (),
    *,
    announce: bool = True,
    ready: Callable[[], None],
    accounts: Accounts | None = None,
    ledger: Ledger | None = None,
) -> None:
    if reloading is not None:
        reloading.begin()
    telemetry = sending_spans(settings)
    metrics = Metrics(ledger, of_keys=settings.metrics_per_key)
    with nullcontext() if shared else loading(settings):
        served = await assemble(settings, metrics, shared)
    metrics.loads.served = served
    batches: Runner | None = None
    tasks = [asyncio.create_task(work) for work in (metrics.keep(), systemd.keep_alive(), served.offers.keep_tidy())]
    accounts = accounts or Accounts()
    settling: Settling | None = None
    accounting: Accounting | None = None
    try:
        inspector = inspecting(settings, served)
        keys = Keys((), OPEN_PATHS | PAGES)
        certificates = Certificates(settings)
        gate = Gate(settings.in_flight, settings.max_per_key, accounts)
        live.begin(keys, certificates, gate, lambda changed: change(served, changed, metrics))
        if served.store is not None:
            watch = KeyWatch(served.store, keys)
            await watch.look()
            settling = Settling(served.store, accounts)
            await settling.settle()
            accounting = Accounting(served.store, metrics.usage)
            for work in (watch.keep_looking(), settling.keep_settling(), accounting.keep_writing()):
                tasks.append(asyncio.create_task(work))
        audit = AuditObserver(Audit(settings.audit_log)) if settings.audit_log is not None else None
        app = build_app(
            routes(served, metrics, Pages(inspect=settings.inspect), inspector.routes() if inspector else None),
            keys,
            gate,
            max_body=settings.max_body,
            host=settings.host,
            cors_origins=settings.cors_origins,
            observers=[one for one in (metrics, inspector, telemetry, AccessLog(), audit) if one is not None],
        )
        if served.store is not None:
            batches = Runner(served.store, app, served, lambda: keys.callers or [""], settings.batch_lines, metrics)
            batches.start()
        config = uvicorn.Config(
            fronted(app, settings.root_path, settings.trusted_proxies),
            http=connections(
                max_head=settings.max_header, max_body=settings.max_body, client_timeout=settings.client_timeout
            ),
            ws="none",  # those connections become WebSockets by themselves
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # those that are trusted are in front of the application
            timeout_keep_alive=settings.idle_timeout,  # type: ignore[arg-type]  # a delay of the loop, so a float will do
            timeout_graceful_shutdown=None,  # our own drain ends every stream in-band
        )
        grpc_server = grpc_beside(settings, served, keys, metrics, gate)
        if grpc_server is not None:
            await grpc_server.start()
        listener.listen(BACKLOG)  # who comes between the announcement and the first accept waits, and is not refused
        if announce:
            announcement.announce(settings, served, listener, grpc_server.port if grpc_server is not None else None)
        give_back()
        ready()
        config.load()
        config.ssl = certificates.context
        server = DrainingServer(config, served, settings.drain_timeout, batches)
        await server.serve([listener])
        if left := await served.endings.wait(server.time_left()):
            log.error("%d answers were not kept in time", left)
        if grpc_server is not None:
            await grpc_server.stop(server.time_left())
    finally:
        if batches is not None:
            await batches.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if settling is not None:
            await settling.close()
        if accounting is not None:
            await accounting.write()
        await release(served)
        if telemetry is not None:
            await telemetry.close()
