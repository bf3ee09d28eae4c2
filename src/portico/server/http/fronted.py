"""What stands in front: proxies whose word on the client is taken, and the path under which they serve this server.

A proxy that is not named is a client like any other: what it forwards is not believed. One that is named appends the
address of who asked it to ``X-Forwarded-For``; so the client is the last address in it that is no proxy's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from portico.server.http.exchange import ROOT, Receive, Scope, Send

__all__ = ["fronted"]

UNIX = "unix"  # stands for the address of who comes by a Unix socket
MAPPED = "::ffff:"  # before an IPv4 address where the socket is of IPv6


def fronted(app: ASGIApp, root: str, proxies: Sequence[str]) -> ASGIApp:
    """``app`` as it is seen from outside. ``proxies`` are networks, or ``unix``. Paths may come with ``root`` before
    them or without: some proxies cut it off."""
    inner: Any = _Rooted(app, root) if root else app
    return _Addressed(ProxyHeadersMiddleware(inner, list(proxies))) if proxies else inner


class _Addressed:
    """Gives every connection an address that can be looked up among networks."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host, port = scope.get("client") or (UNIX, 0)
        await self._app({**scope, "client": (host.removeprefix(MAPPED), port)}, receive, send)


class _Rooted:
    """Takes ``root`` from the paths."""

    def __init__(self, app: ASGIApp, root: str) -> None:
        self._app = app
        self._root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, ROOT: self._root}
        path = scope["path"]
        if path == self._root or path.startswith(f"{self._root}/"):
            scope["path"] = path[len(self._root) :] or "/"
            scope["raw_path"] = scope["raw_path"].removeprefix(self._root.encode()) or b"/"
        await self._app(scope, receive, send)
