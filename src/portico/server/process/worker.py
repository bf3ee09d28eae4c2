"""One worker: ``python -m portico.server.process.worker announce|quiet none|TABLE_FD:ROW LISTENER_FD [ENGINE_FD…]``.

An ordinary server on an inherited socket, with its settings on standard input, over its parent's engine. It ends when
its parent does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

from portico.engines.shared import SharedEngine
from portico.errors import PorticoError
from portico.server.process.lifecycle import serve_on
from portico.server.process.workers import REFUSED, unpack

__all__ = ["main"]


def main() -> None:
    """Serve until SIGTERM, or until the parent is gone."""
    announce, counts, listener, *connections = sys.argv[1:]
    with open(0, "rb", closefd=False) as pipe:
        settings = unpack(pipe.readline())
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    shared = [
        SharedEngine(socket.socket(fileno=int(number)), leader=os.getppid(), silence=settings.engine_silence)
        for number in connections
    ]
    try:
        serve_on(settings, socket.socket(fileno=int(listener)), shared, announce=announce == "announce", counts=counts)
    except PorticoError as error:
        sys.stderr.write(f"portico: {error.message}\n")
        sys.exit(REFUSED)


def _end_with_parent() -> None:
    """Standard input is open as long as the parent lives; without it there is no engine, so nothing to drain for."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
