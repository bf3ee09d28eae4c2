"""The socket that clients come to: whether it may be open, and binding it."""

from __future__ import annotations

import socket

from portico.config import Settings
from portico.errors import BadRequestError
from portico.server.http.browsers import is_loopback
from portico.server.process.kept import has_keys

__all__ = ["bind", "refuse_to_be_open"]


def refuse_to_be_open(settings: Settings) -> None:
    """A server that others can reach needs a key, unless the operator says that it does not."""
    closed = bool(settings.api_key or settings.keys_file) or is_loopback(settings.host) or has_keys(settings)
    if (settings.inspect or settings.trace_header) and not closed:
        raise BadRequestError(
            f"Recorded requests would be shown to everybody who can reach {settings.host}: set --api-key "
            "(or PORTICO_API_KEY), bind 127.0.0.1, or leave --inspect and --trace-header out."
        )
    if (settings.inspect or settings.trace_header) and settings.workers > 1:
        raise BadRequestError("Each worker would record its own requests: inspect with --workers 1.", param="workers")
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


def bind(host: str, port: int) -> socket.socket:
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
