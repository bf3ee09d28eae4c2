"""The socket that clients come to: whether it may be open, and binding it."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portico.config import Settings
from portico.errors import BadRequestError
from portico.server.http.browsers import is_loopback
from portico.server.process import systemd
from portico.server.process.kept import has_keys

__all__ = ["bind", "listening", "placed", "refuse_to_be_open"]


def refuse_to_be_open(settings: Settings) -> None:
    """A server that others can reach needs a key, unless the operator says that it does not."""
    closed = bool(settings.api_key or settings.keys_file) or _is_hidden(settings) or has_keys(settings)
    if (settings.inspect or settings.trace_header) and not closed:
        raise BadRequestError(
            f"Recorded requests would be shown to everybody who can reach {settings.host}: set --api-key "
            "(or PORTICO_API_KEY), bind 127.0.0.1, or leave --inspect and --trace-header out."
        )
    if settings.resume_grace and settings.workers > 1:
        raise BadRequestError(
            "A client that comes back may reach another worker, which does not know its answer: "
            "--resume-grace needs --workers 1.",
            param="resume_grace",
        )
    if closed or settings.insecure:
        return
    raise BadRequestError(
        f"Binding {settings.host} would serve everybody who can reach this machine. "
        "Set --api-key (or PORTICO_API_KEY) or --keys-file, make a key with 'portico keys add', bind 127.0.0.1, or say "
        "--insecure."
    )


def _is_hidden(settings: Settings) -> bool:
    """Whether nobody reaches the server who is not on this machine, or has no certificate."""
    http = settings.uds is not None or settings.tls_client_ca is not None
    grpc = settings.grpc_port is None or settings.grpc_tls_client_ca is not None
    return is_loopback(settings.host) or (http and grpc)


@contextmanager
def listening(settings: Settings) -> Iterator[tuple[Settings, socket.socket]]:
    """The socket to serve on while the block runs (systemd's, a Unix socket, a port), and the settings with its
    address. Raises ``BadRequestError`` where it cannot be had.

    It is bound before the model is loaded: a taken port should be told at once, not after minutes.
    """
    given = systemd.inherited()
    ours = settings.uds if given is None else None
    listener = given or (bind_unix(ours) if ours is not None else bind(settings.host, settings.port))
    try:
        yield placed(settings, listener), listener
    finally:
        listener.close()
        if ours is not None:
            ours.unlink(missing_ok=True)


def placed(settings: Settings, listener: socket.socket) -> Settings:
    """The settings as if they had named what systemd has bound ``listener`` to, if it has."""
    if not systemd.is_activated():
        return settings
    address = listener.getsockname()
    if listener.family == getattr(socket, "AF_UNIX", None):
        return settings.model_copy(update={"uds": Path(address)})
    return settings.model_copy(update={"uds": None, "host": address[0], "port": address[1]})


def bind(host: str, port: int) -> socket.socket:
    """Raises ``BadRequestError`` for a port that is taken, and for no host."""
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


def bind_unix(path: Path) -> socket.socket:
    """A socket that its owner and group may connect to. One that nobody listens on any more is replaced. Raises
    ``BadRequestError``."""
    if not hasattr(socket, "AF_UNIX"):
        raise BadRequestError("This system has no Unix sockets; leave --uds out.", param="uds")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if stat.S_ISSOCK(path.lstat().st_mode) and not _answers(path):
            path.unlink()
    except FileNotFoundError:
        pass
    mask = os.umask(0o117)
    try:
        listener.bind(os.fspath(path))
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise BadRequestError(f"Cannot bind {path}: {reason}. Choose another with --uds.", param="uds") from None
    finally:
        os.umask(mask)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        return caller.connect_ex(os.fspath(path)) == 0
