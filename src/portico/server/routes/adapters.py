"""The paths that load and unload LoRA adapters while the engine runs, with vLLM's names.

A client names a path of the server's, so only those in the operator's ``--lora-dir`` are looked at.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from portico.engines import TakesAdapters
from portico.errors import BadRequestError, NotFoundError, NotSupportedError
from portico.keys import check_operator
from portico.protocols.openai.adapters import LoadAdapterRequest, UnloadAdapterRequest
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.line.model import ServedModel
from portico.server.line.offers import Offer
from portico.server.line.served import Served
from portico.server.routes.answering import model_for

__all__ = ["BODIES", "AdapterHandlers"]

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"

BODIES: dict[tuple[str, str], type[BaseModel]] = {
    (LOAD, "POST"): LoadAdapterRequest,
    (UNLOAD, "POST"): UnloadAdapterRequest,
}


class AdapterHandlers:
    """The handlers, over what is served."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> dict[str, Methods]:
        """The paths, with their handlers."""
        return {LOAD: {"POST": self.load}, UNLOAD: {"POST": self.unload}}

    async def load(self, exchange: Exchange) -> None:
        """POST /v1/load_lora_adapter: a further model, which adapts one that is there."""
        check_operator()
        request = await exchange.request(LoadAdapterRequest)
        offer, served, engine = await self._adaptable(exchange, request.model)
        name, again = request.lora_name, request.lora_name in offer.adapters
        if self._served.has(name) and not (again and request.load_inplace):
            raise BadRequestError(f"There is a model '{name}' already; call it otherwise.", param="lora_name")
        path = _within(offer.lora_dir, request.lora_path)
        await engine.adapt(name, path)
        offer.gain(replace(served.model, name=name, parent=offer.names[0], shown=""), path)
        await exchange.respond(200, f"Success: LoRA adapter '{name}' added successfully.".encode(), b"text/plain")

    async def unload(self, exchange: Exchange) -> None:
        """POST /v1/unload_lora_adapter: the adapter is no model any more; answers on their way are not cut off."""
        check_operator()
        request = await exchange.request(UnloadAdapterRequest)
        name = request.lora_name
        of = request.model or (name if self._served.has(name) else None)
        offer, _, engine = await self._adaptable(exchange, of)
        if name not in offer.adapters:
            raise NotFoundError(f"There is no adapter '{name[:100]}' here.", param="lora_name")
        offer.lose(name)
        await engine.adapt(name, None)
        await exchange.respond(200, f"Success: LoRA adapter '{name}' removed successfully.".encode(), b"text/plain")

    async def _adaptable(self, exchange: Exchange, name: str | None) -> tuple[Offer, ServedModel, TakesAdapters]:
        wanted = self._served.generating(name)
        offer = wanted.offer
        if offer.lora_dir is None:
            raise NotSupportedError("This server loads no adapters while it runs: it has no --lora-dir.", param="model")
        if offer.stays:
            raise NotSupportedError("With --workers adapters are those of --lora.", param="model")
        await model_for(exchange, wanted)
        served = offer.served
        assert served is not None
        engine = served.line.engine
        if not isinstance(engine, TakesAdapters):
            raise NotSupportedError("This model's engine takes no adapters while it runs.", param="model")
        return offer, served, engine


def _within(directory: Path | None, wanted: str) -> str:
    """The path that a client names, which is the operator's to give. Raises ``BadRequestError``."""
    assert directory is not None
    root = directory.resolve()
    try:
        path = (root / wanted).resolve()
        if path != root and path.is_relative_to(root) and path.exists():
            return str(path)
    except (OSError, ValueError):  # no path at all
        pass
    raise BadRequestError("'lora_path' must be in the operator's --lora-dir, and there.", param="lora_path")
