"""The paths of models: which there are, and loading and unloading them."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from portico.keys import check_operator
from portico.protocols.openai import models
from portico.protocols.responses.catalogue import catalogue
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.line.served import Served

__all__ = ["ModelHandlers"]


class ModelHandlers:
    """The handlers, over what is served. An operator's key may load and unload the models that it may use."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> dict[str, Methods]:
        """The paths, with their handlers, but those that another API has, too."""
        return {
            "/v1/models/{model:path}/load": {"POST": self.load},
            "/v1/models/{model:path}/unload": {"POST": self.unload},
        }

    async def list_models(self, exchange: Exchange) -> None:
        """Every model on offer; to a client that tells its version also as Codex reads them."""
        body = models.model_list(self._served.cards)
        if "client_version" in exchange.query:
            body["models"] = await asyncio.to_thread(catalogue, list(self._served.loaded))
        await exchange.respond_json(body)

    async def get_model(self, exchange: Exchange) -> None:
        """One model."""
        await exchange.respond_json(models.card(self._served.card(exchange.path_params["model"])))

    async def load(self, exchange: Exchange) -> None:
        """POST /v1/models/{model}/load: load a model; answers when it is loaded."""
        check_operator()
        wanted = self._served.model(exchange.path_params["model"])
        with ExitStack() as held:
            await exchange.while_there(wanted.get(held))
        await self.get_model(exchange)

    async def unload(self, exchange: Exchange) -> None:
        """POST /v1/models/{model}/unload: unload a model once its answers have ended; answers when that is done."""
        check_operator()
        wanted = self._served.model(exchange.path_params["model"])
        await exchange.while_there(wanted.offers.unload(wanted.offer))
        await self.get_model(exchange)
