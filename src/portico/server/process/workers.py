"""``--workers N``: N front-door processes accept from one socket, over one engine.

The process that was started has the engine and serves nothing itself: it deals out steps (``engines.shared``), starts
the workers, starts another when one dies, and passes SIGTERM and changed settings on. Each worker is an ordinary server
that inherits the listening socket, so the kernel hands a connection to whichever is free. A worker whose parent is gone
ends.

An engine that is elsewhere (``portico://``, ``grpc://``) needs no sharing: each worker has its own connections to it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from prometheus_client.metrics_core import CounterMetricFamily
from pydantic import BaseModel, SecretStr

from portico.config import ModelSettings, Settings
from portico.engines import Engine
from portico.engines.restarts import Backoff
from portico.engines.shared import Hub
from portico.errors import BadRequestError, EngineError
from portico.server.observe.ledger import WRITE_SECONDS, Ledger, rows
from portico.server.process import systemd
from portico.server.process.engines import engines
from portico.server.process.places import shared_table
from portico.server.process.reloading import OF_WORKERS, Reloading
from portico.server.process.running import loading

__all__ = ["REFUSED", "pack", "supervise", "unpack"]

log = logging.getLogger("portico")

LEAVING: Final = 2.0  # seconds that a worker gets to end after its drain
REFUSED: Final = 3  # the exit status of a worker that cannot start as it is told to


async def supervise(settings: Settings, listener: socket.socket, again: Callable[[], Settings] | None = None) -> None:
    """Run the workers until SIGTERM or SIGINT, then until they have drained; at SIGHUP they get the settings that
    ``again`` reads. Raises when the engine cannot start."""
    # Open by everyone before anyone serves: a connection that comes early waits in the kernel for the first worker.
    listener.listen(2048)
    changes: dict[str, Any] = {
        "max_in_flight": -(-settings.in_flight // settings.workers),
        "batch_concurrency": -(-settings.batch_lines // settings.workers),
        "models": [one.model_copy(update=_shares(one, settings.workers)) for one in settings.models],
    }
    if settings.signing_key is None:
        changes["signing_key"] = SecretStr(secrets.token_hex(32))  # what one worker signs, another accepts
    between = ExitStack()
    if (settings.inspect or settings.trace_header) and settings.inspect_log is None:
        changes["inspect_log"] = Path(between.enter_context(TemporaryDirectory(prefix="portico-traces-")))
    placeholder = None
    if settings.grpc_port is not None:
        placeholder, changes["grpc_port"] = _reserve(settings.host, settings.grpc_port)
    heard, ready = os.pipe()
    table = shared_table(settings.workers)
    ledger = rows(settings.workers + 1)  # the last is this process's
    shared = engines(settings)
    hubs: list[Hub] = []
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    crew = _Crew(settings.model_copy(update=changes), listener, hubs, stop, ready, table, ledger)
    loop.add_reader(heard, _tell_ready, heard)
    watched = asyncio.create_task(systemd.keep_alive())
    counted: asyncio.Task[None] | None = None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: crew.stop() if stop.is_set() else stop.set())
    Reloading(settings, again, lambda changed: crew.change(changed.model_copy(update=changes)), OF_WORKERS).begin()
    try:
        with loading(settings):
            for engine in shared:
                await engine.start()
                hubs.append(Hub(engine))
        counted = asyncio.create_task(_count_restarts(Ledger(ledger, settings.workers), settings, shared))
        tasks = [asyncio.create_task(crew.keep(index)) for index in range(settings.workers)]
        await stop.wait()
        systemd.notify("STOPPING=1")
        crew.stop()
        await asyncio.wait(tasks, timeout=settings.drain_timeout + LEAVING)
        crew.kill()
        await asyncio.gather(*tasks)
        if crew.refused:
            raise EngineError("A worker cannot start; it has said why.")
    finally:
        watched.cancel()
        if counted is not None:
            counted.cancel()
        loop.remove_reader(heard)
        between.close()
        for hub in hubs:
            await hub.close()
        await asyncio.gather(*(engine.close() for engine in shared))
        if placeholder is not None:
            placeholder.close()
        for file in (*ledger, table, heard, ready):
            os.close(file)


async def _count_restarts(ledger: Ledger, settings: Settings, engines: Sequence[Engine]) -> None:
    """Have the engines' restarts, of which workers know nothing, on the page of all of them, until cancelled."""
    here = [one for one in settings.each_model if not one.elsewhere]
    names = [[name for name in one.served_model_name if not any(sign in name for sign in "*?[")] for one in here]
    while engines:
        counted = CounterMetricFamily("portico_engine_restarts", "", labels=["model"])
        for name, engine in zip(names, engines, strict=True):
            if hasattr(engine, "restarts"):
                counted.add_metric([name[0] if name else engine.info.model], engine.restarts)
        ledger.write([counted])
        await asyncio.sleep(WRITE_SECONDS)


def _tell_ready(heard: int) -> None:
    """A worker serves."""
    os.read(heard, 1)
    systemd.notify("READY=1")


class _Crew:
    """The worker processes."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        hubs: Sequence[Hub],
        give_up: asyncio.Event,
        ready: int,
        table: int,
        ledger: Sequence[int],
    ) -> None:
        self.refused = False  # a worker would not start, and so would no other
        self._give_up = give_up
        self._settings = pack(settings)
        self._listener = listener
        self._ready = ready  # a worker writes there when it serves
        self._table = table
        self._ledger = ledger
        self._hubs = hubs
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = False
        self._announced = False

    def stop(self) -> None:
        """Tell every worker to drain and end; told again, to end at once."""
        self._stopping = True
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)

    def change(self, settings: Settings) -> None:
        """Hand these settings to every worker, and to those that come."""
        self._settings = pack(settings)
        for process in self._processes.values():
            if process.returncode is None and process.stdin is not None:
                process.stdin.write(self._settings + b"\n")

    def kill(self) -> None:
        """End who has not left."""
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()

    async def keep(self, index: int) -> None:
        """Keep one worker alive until all are stopped."""
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        while not self._stopping:
            born = loop.time()
            process = await self._start(index)
            status = await process.wait()
            if self._stopping:
                return
            if status == REFUSED:
                self.refused = True
                self._give_up.set()
                return
            log.error("worker %d ended with status %d; another is started", index, status)
            await asyncio.sleep(backoff.delay(loop.time() - born))

    async def _start(self, index: int) -> asyncio.subprocess.Process:
        pairs = [socket.socketpair() for _ in self._hubs]
        inherited = [self._listener.fileno(), *(theirs.fileno() for _, theirs in pairs)]
        announces, self._announced = not self._announced, True
        ledger = f"{','.join(map(str, self._ledger))}:{index}"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "portico.server.process.worker", "announce" if announces else "quiet"),
            *(str(self._ready), str(self._table), ledger),
            *map(str, inherited),
            pass_fds=[*inherited, *self._ledger, self._table, self._ready],
            env={name: value for name, value in os.environ.items() if name not in systemd.VARIABLES},
            stdin=asyncio.subprocess.PIPE,  # settings, which hold secrets; it is open as long as this process lives
            start_new_session=True,  # the terminal's Ctrl-C is for the parent, which tells the workers
        )
        self._processes[index] = process
        for hub, (ours, theirs) in zip(self._hubs, pairs, strict=True):
            theirs.close()
            await hub.join(ours)
        assert process.stdin is not None
        process.stdin.write(self._settings + b"\n")
        if self._stopping:
            process.send_signal(signal.SIGTERM)
        return process


def pack(settings: Settings) -> bytes:
    """Settings as one line, secrets and all: for a pipe between two processes, and nowhere else."""
    return json.dumps({name: getattr(settings, name) for name in settings.model_fields_set}, default=_plain).encode()


def unpack(line: bytes) -> Settings:
    """The settings that ``pack`` wrote."""
    return Settings(**json.loads(line))


def _shares(one: ModelSettings, workers: int) -> dict[str, int]:
    """What of an entry's limits each of the workers has."""
    return {} if one.max_in_flight is None else {"max_in_flight": -(-one.max_in_flight // workers)}


def _plain(value: object) -> str | dict[str, Any]:
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in value.model_fields_set}
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be handed to a worker")


def _reserve(host: str, port: int) -> tuple[socket.socket, int]:
    """A port that every worker's gRPC server can bind, held by a socket that never listens."""
    holder = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host, port))
    except (OSError, AttributeError) as error:
        holder.close()
        raise BadRequestError(
            f"Cannot bind {host} port {port}: {error}. Choose another with --grpc-port.", param="grpc_port"
        ) from None
    return holder, holder.getsockname()[1]
