"""What systemd and a service tell each other: sockets that it has opened (sd_listen_fds), and states (sd_notify).

Both are a few variables, and a datagram. Without systemd there is nothing to tell and nobody to tell it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

from portico.errors import BadRequestError

__all__ = ["VARIABLES", "inherited", "is_activated", "keep_alive", "notify"]

FIRST: Final = 3  # the descriptor of the first socket
VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def inherited() -> socket.socket | None:
    """The socket that systemd has opened for this process, if it has; to be asked for once. Raises ``BadRequestError``
    for several."""
    if not is_activated():
        return None
    if os.environ["LISTEN_FDS"] != "1":
        raise BadRequestError("The socket unit opens several sockets; give it one ListenStream= for HTTP.")
    return socket.socket(fileno=FIRST)


def is_activated() -> bool:
    """Whether systemd has opened the sockets of this process."""
    return os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "0") != "0"


def notify(state: str) -> None:
    """Tell systemd, if it wants to know. What cannot be told is not told: it is no reason to end."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if where[:1] not in ("/", "@"):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.sendto(state.encode(), "\0" + where[1:] if where[0] == "@" else where)
    except OSError:
        pass


async def keep_alive() -> None:
    """Tell a watchdog that this process's loop goes round, until cancelled; nothing where none watches."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    seconds = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    while seconds:
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds / 3)
