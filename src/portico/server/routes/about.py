"""The paths about the server: health, version, metrics and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from portico import __version__
from portico.errors import EngineDeadError
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.http.openapi import openapi_document
from portico.server.line.served import Served
from portico.server.observe.metrics import CONTENT_TYPE, Metrics

__all__ = ["AboutHandlers"]


class AboutHandlers:
    """The handlers, over what is served and what was counted."""

    def __init__(self, served: Served, metrics: Metrics, page: str | None = None) -> None:
        self._served = served
        self._metrics = metrics
        self._page = page  # where people are sent
        self._paths: Mapping[str, Methods] = {}
        self._bodies: Mapping[tuple[str, str], type[BaseModel]] = {}

    def describe(self, paths: Mapping[str, Methods], bodies: Mapping[tuple[str, str], type[BaseModel]]) -> None:
        """What the OpenAPI document is to tell: all the server's paths, and the models of what they take."""
        self._paths, self._bodies = paths, bodies

    def routes(self) -> dict[str, Methods]:
        """The paths, with their handlers."""
        return {
            "/": {"GET": self.root},
            "/livez": {"GET": self.live},
            "/readyz": {"GET": self.ready},
            "/health": {"GET": self.health},
            "/ping": {"GET": self.health, "POST": self.health},
            "/version": {"GET": self.version},
            "/openapi.json": {"GET": self.openapi},
            "/metrics": {"GET": self.metrics},
        }

    async def root(self, exchange: Exchange) -> None:
        """What this is; browsers are sent to the playground, where there is one."""
        if self._page is not None and "text/html" in (exchange.header(b"accept") or ""):
            exchange.response_headers.append((b"location", (exchange.root + self._page).encode()))
            await exchange.respond(307, b"", b"text/html")
        else:
            root = exchange.root
            await exchange.respond_json({"server": "portico", "api": f"{root}/v1", "openapi": f"{root}/openapi.json"})

    async def live(self, exchange: Exchange) -> None:
        """200 as long as the process answers at all, also while it drains or has no engine."""
        await exchange.respond_json({"status": "ok"})

    async def ready(self, exchange: Exchange) -> None:
        """200 while requests are taken, else 503 with the reason."""
        self._served.check_ready()
        await exchange.respond_json({"status": "ok"})

    async def health(self, exchange: Exchange) -> None:
        """200 while every engine can take requests, else 503."""
        if not self._served.healthy:
            raise EngineDeadError("The server cannot take requests now.", retry_after=1)
        await exchange.respond_json({"status": "ok"})

    async def version(self, exchange: Exchange) -> None:
        """Portico's version."""
        await exchange.respond_json({"version": __version__})

    async def openapi(self, exchange: Exchange) -> None:
        """This document."""
        servers = {"servers": [{"url": exchange.root}]} if exchange.root else {}
        await exchange.respond_json({**self._document(), **servers})

    @cache  # noqa: B019  (one instance per process)
    def _document(self) -> dict[str, Any]:
        paths = {
            path: {method: (handler.__doc__ or "").splitlines()[0] for method, handler in methods.items()}
            for path, methods in self._paths.items()
        }
        return openapi_document(paths, self._bodies)

    async def metrics(self, exchange: Exchange) -> None:
        """Prometheus' text format."""
        await exchange.respond(200, self._metrics.render(), CONTENT_TYPE)
