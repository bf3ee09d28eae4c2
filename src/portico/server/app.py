"""The ASGI application: request -> exchange -> key -> route -> handler; one place where errors become responses."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from portico.errors import MethodNotAllowedError, NotFoundError, PorticoError
from portico.protocols.openai import errors as openai_errors
from portico.server.auth import Keys
from portico.server.exchange import ClientGoneError, Exchange, Handler, Receive, Scope, Send

__all__ = ["Methods", "build_app"]

log = logging.getLogger("portico")

Methods = Mapping[str, Handler]  # HTTP method -> handler


class Endpoint:
    """The handlers of one path, one per method. An ASGI app, so that the router adds no layer of its own."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods
        self._allowed = ", ".join(sorted(methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["portico.exchange"]
        exchange.scope = scope
        handler = self._methods.get(exchange.method)
        if handler is None:
            exchange.response_headers.append((b"allow", self._allowed.encode()))
            raise MethodNotAllowedError(f"{exchange.path} takes {self._allowed}, not {exchange.method[:16]}.")
        await handler(exchange)


async def _no_route(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotFoundError("There is no such path on this server.")


class Front:
    """The outermost layer of every request: its id, its key, its errors, its line in the log."""

    def __init__(self, routes: Mapping[str, Methods], keys: Keys, max_body: int) -> None:
        self._router = Router(
            [Route(path, Endpoint(methods)) for path, methods in routes.items()],
            default=_no_route,
            redirect_slashes=False,
        )
        self._keys = keys
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":  # the lifespan protocol is not used: the server starts and stops the line
            return
        exchange = Exchange(scope, receive, send, self._max_body)
        scope["portico.exchange"] = exchange
        started = time.perf_counter()
        try:
            self._keys.check(exchange)
            await self._router(scope, receive, send)
        except ClientGoneError:
            pass
        except PorticoError as error:
            await self._refuse(exchange, error)
        except Exception:
            log.exception("%s %s failed", exchange.method, exchange.path)
            await self._refuse(exchange, PorticoError("The server failed on this request; the error has been logged."))
        if log.isEnabledFor(logging.INFO):
            milliseconds = (time.perf_counter() - started) * 1000
            status = exchange.status or "gone"
            log.info("%s %s %s %.0f ms %s", exchange.method, exchange.path, status, milliseconds, exchange.request_id)

    async def _refuse(self, exchange: Exchange, error: PorticoError) -> None:
        if exchange.status:  # too late for a status; the stream's own end tells the client
            return
        if error.retry_after is not None:
            exchange.response_headers.append((b"retry-after", b"%d" % error.retry_after))
        if error.status == 401:
            exchange.response_headers.append((b"www-authenticate", b"Bearer"))
        await exchange.respond(error.status, openai_errors.body(error))


def build_app(routes: Mapping[str, Methods], keys: Keys, *, max_body: int, cors_origins: Sequence[str] = ()) -> ASGIApp:
    """The whole application over ``routes`` (path -> method -> handler)."""
    app: Any = Front(routes, keys, max_body)
    if cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id"],
        )
    return app
