"""The ASGI application: request, exchange, key, gate, route, handler; and one place where errors become responses."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, Router, compile_path
from starlette.types import ASGIApp

from portico.errors import MethodNotAllowedError, NotFoundError, PorticoError
from portico.keys import Key, enter
from portico.keys.accounts import VISIT
from portico.protocols.anthropic.ids import request_id
from portico.server.http.auth import Keys
from portico.server.http.browsers import Browsers
from portico.server.http.exchange import EXCHANGE, ClientGoneError, Exchange, Handler, Receive, Scope, Send
from portico.server.http.gate import Bodies, Gate
from portico.server.http.inner import ASKED_BY
from portico.server.http.refusals import refusal, speaks_anthropic
from portico.server.http.sockets import WEBSOCKET, Socket

__all__ = ["Methods", "Observer", "Outcome", "build_app"]

log = logging.getLogger("portico")

RATES = ("limit", "remaining", "reset")
EXPOSED = (
    *("x-request-id", "request-id", "x-portico-warning", "x-portico-trace-id", "x-portico-run", "retry-after"),
    *(f"x-ratelimit-{what}-requests" for what in RATES),
    *(f"x-ratelimit-{what}-tokens" for what in RATES),
    *(f"anthropic-ratelimit-requests-{what}" for what in RATES),
    *(f"anthropic-ratelimit-tokens-{what}" for what in RATES),
)

UNREAD_BODIES = 4  # of the largest size, in memory at a time
LONGEST_HINT = 200  # characters

Methods = Mapping[str, Handler]  # HTTP method -> handler
Outcome: TypeAlias = Literal["ok", "refused", "failed", "gone"]


class Observer(Protocol):
    """Sees every request: those whose key is good begin, and all end."""

    def begun(self, exchange: Exchange) -> None:
        """Its key is good; it goes to its handler."""
        ...

    def refused(self, exchange: Exchange, error: PorticoError, raised: BaseException) -> None:
        """It will be answered with ``error``."""
        ...

    def ended(self, exchange: Exchange, outcome: Outcome, cause: str) -> None:
        """Its answer is complete, or its client is gone; ``cause`` is the code of the error, where there was one."""
        ...


class NoRoute:
    """What answers a path that is none: it names the one that was probably meant, if there is such a one in ``paths``.

    The usual mistakes are a base URL that has ``/v1`` too much or too little, and a slash too many.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = [compile_path(path)[0] for path in paths]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        meant = next((path for path in self._similar(scope["path"]) if self._exists(path)), None)
        hint = "" if meant is None else f" Did you mean {meant[:LONGEST_HINT]}?"
        raise NotFoundError(f"There is no such path on this server.{hint}")

    @staticmethod
    def _similar(path: str) -> Iterator[str]:
        tidy = re.sub("/+", "/", path).rstrip("/")
        yield tidy
        _, version, rest = tidy.rpartition("/v1/")
        if version:
            yield f"/v1/{rest}"
            yield f"/{rest}"
        else:
            yield f"/v1{tidy}"

    def _exists(self, path: str) -> bool:
        return any(pattern.match(path) for pattern in self._paths)


class Endpoint:
    """The handlers of one path, one per method. An ASGI app, so that the router adds no layer of its own."""

    def __init__(self, path: str, methods: Methods, no_route: NoRoute) -> None:
        self._no_route = no_route
        self._path = path.replace(":path}", "}")
        self._methods = dict(methods)
        self._allowed = ", ".join(sorted(set(methods) - {WEBSOCKET}))
        if "GET" in methods:
            self._methods["HEAD"] = methods["GET"]  # the connection leaves the body out

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        if "" in scope.get("path_params", {}).values():  # a trailing slash where a name belongs
            await self._no_route(scope, receive, send)
        exchange.scope = scope  # the router's copy, with the path's parameters
        exchange.route = self._path
        handler = self._methods.get(exchange.method)
        if handler is None:
            exchange.response_headers.append((b"allow", self._allowed.encode()))
            raise MethodNotAllowedError(f"{self._path} takes {self._allowed} only.")
        await handler(exchange)


class Front:
    """The outermost layer of every request: its id, its key, its place, its errors."""

    def __init__(
        self,
        routes: Mapping[str, Methods],
        keys: Keys,
        gate: Gate,
        max_body: int,
        observers: Sequence[Observer] = (),
        browsers: Browsers | None = None,
    ) -> None:
        no_route = NoRoute(routes)
        endpoints = {path: Endpoint(path, methods, no_route) for path, methods in routes.items()}
        self._router = Router(
            [Route(path, endpoint) for path, endpoint in endpoints.items()], default=no_route, redirect_slashes=False
        )
        self._fixed = {path: endpoint for path, endpoint in endpoints.items() if "{" not in path}
        self._keys = keys
        self._browsers = browsers
        self._gate = gate
        self._max_body = max_body
        self._bodies = Bodies(UNREAD_BODIES * max_body)
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or serve a WebSocket. The lifespan protocol is not used: the server starts and stops the
        line."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            socket = Socket(self, scope, receive, send)
            await self._answer(socket.handshake, receive, socket.respond)
            await socket.go_on()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, max_body=self._max_body, gate=self._gate, bodies=self._bodies)
        scope[EXCHANGE] = exchange
        if speaks_anthropic(exchange.path, exchange.headers):
            exchange.response_headers.append((b"request-id", request_id(exchange.request_id).encode("ascii")))
        outcome: Outcome = "ok"
        cause = ""
        try:
            VISIT.set(None)
            enter(self._check(exchange))
            for observer in self._observers:
                observer.begun(exchange)
            with exchange.place:
                # the router would try pattern after pattern
                await self._fixed.get(exchange.path, self._router)(scope, receive, send)
        except ClientGoneError:
            outcome = "gone"
        except PorticoError as error:
            outcome, cause = "refused" if error.status < 500 else "failed", error.code or error.type
            await self._refuse(exchange, error, error)
        except Exception as raised:
            outcome, cause = "failed", "internal_error"
            log.exception("%s %s failed", exchange.method, exchange.path)
            told = PorticoError("The server failed on this request; the error has been logged.")
            await self._refuse(exchange, told, raised)
        for observer in self._observers:
            observer.ended(exchange, outcome, cause)
        exchange.over()
        scope.pop(EXCHANGE, None)  # the router hands a copy on

    def _check(self, exchange: Exchange) -> Key:
        """Who is asking. Raises where that is nobody who may."""
        if ASKED_BY in exchange.scope:
            return self._keys.of(exchange.scope[ASKED_BY])
        if self._browsers is not None and not self._keys:
            self._browsers.check(exchange)
        return self._keys.check(exchange)

    async def _refuse(self, exchange: Exchange, error: PorticoError, raised: BaseException) -> None:
        if exchange.status:  # too late for a status; the stream's own end tells the client
            return
        for observer in self._observers:
            observer.refused(exchange, error, raised)
        if error.retry_after is not None:
            exchange.response_headers.append((b"retry-after", b"%d" % error.retry_after))
        elif error.status == 429:
            exchange.response_headers.append((b"x-should-retry", b"false"))  # SDKs try 429 again of themselves
        if error.status == 401:
            exchange.response_headers.append((b"www-authenticate", b"Bearer"))
        anthropic = speaks_anthropic(exchange.path, exchange.headers)
        await exchange.respond(*refusal(error, exchange.request_id, anthropic=anthropic))


def build_app(
    routes: Mapping[str, Methods],
    keys: Keys,
    gate: Gate,
    *,
    max_body: int,
    host: str | None = "127.0.0.1",
    cors_origins: Sequence[str] = (),
    observers: Sequence[Observer] = (),
) -> ASGIApp:
    """The whole application over ``routes`` (path -> method -> handler). ``host``: what it is bound to, if anything."""
    browsers = Browsers(host, cors_origins) if host is not None else None
    app: Any = Front(routes, keys, gate, max_body, observers, browsers)
    if cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
            allow_private_network=True,  # Chrome asks before a public page reaches into a private network
        )
    return app  # type: ignore[no-any-return]
