"""One worker: ``… worker announce|quiet READY_FD TABLE_FD LEDGER_FD,…:ROW LISTENER_FD [ENGINE_FD…]``.

An ordinary server on an inherited socket, over its parent's engine. Its settings come on standard input, a line each
time that they change. It ends when its parent does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from functools import partial
from typing import BinaryIO

from portico.engines.shared import SharedEngine
from portico.errors import PorticoError
from portico.server.observe.ledger import Ledger
from portico.server.process.lifecycle import serve_on
from portico.server.process.places import shared_accounts
from portico.server.process.reloading import Live
from portico.server.process.workers import REFUSED, unpack

__all__ = ["main"]


def main() -> None:
    """Serve until SIGTERM, or until the parent is gone."""
    announce, ready, table, ledger, listener, *connections = sys.argv[1:]
    pages, _, own = ledger.partition(":")
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the parent reads the settings
    pipe = open(0, "rb", closefd=False)  # noqa: SIM115  (as long as this process lives)
    settings = unpack(pipe.readline())
    live = Live(settings)
    threading.Thread(target=_heed_parent, args=(pipe, live), name="parent", daemon=True).start()
    shared = [
        SharedEngine(socket.socket(fileno=int(number)), leader=os.getppid(), silence=settings.engine_silence)
        for number in connections
    ]
    try:
        serve_on(
            settings,
            socket.socket(fileno=int(listener)),
            live,
            shared,
            announce=announce == "announce",
            ready=partial(_tell, int(ready)),
            accounts=shared_accounts(int(table), settings.workers, int(own)),
            ledger=Ledger([*map(int, pages.split(","))], int(own)),
        )
    except PorticoError as error:
        sys.stderr.write(f"portico: {error.message}\n")
        sys.exit(REFUSED)


def _tell(ready: int) -> None:
    os.write(ready, b".")


def _heed_parent(pipe: BinaryIO, live: Live) -> None:
    """Put changed settings in force. The pipe is open as long as the parent lives; without it there is no engine, so
    nothing to drain for."""
    for line in pipe:
        live.change(unpack(line))
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
