"""The path of llama.cpp's editor plug-ins: what belongs in a gap of a text."""

from __future__ import annotations

from functools import partial

from pydantic import BaseModel

from portico.protocols import llamacpp
from portico.protocols.openai import completions
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.line.served import Served
from portico.server.routes.answering import UNKNOWN_FIELDS, answer_body, answer_stream, model_for, warn

__all__ = ["BODIES", "InfillHandlers"]

BODIES: dict[tuple[str, str], type[BaseModel]] = {("/infill", "POST"): llamacpp.InfillRequest}


class InfillHandlers:
    """The handler, over what is served."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> dict[str, Methods]:
        """The path, with its handler."""
        return {"/infill": {"POST": self.infill}}

    async def infill(self, exchange: Exchange) -> None:
        """POST /infill: the text between a prefix and a suffix, as llama.cpp's server answers."""
        request = await exchange.request(llamacpp.InfillRequest)
        served = await model_for(exchange, self._served.generating(request.model))
        model = served.model
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        before = request.input_prefix + (request.prompt or "")
        infilled = model.prompter.infill(before, request.input_suffix, request.files, param="input_suffix")
        prompt = await exchange.wait(infilled)
        exchange.prompted(model, prompt)
        wanted = await exchange.work(partial(llamacpp.completion_request, request, prompt.token_ids))
        generations = await exchange.work(
            partial(completions.generations, wanted, [prompt], model, exchange.request_id)
        )
        if request.stream:
            stream = llamacpp.InfillStream(request, generations[0], model)
            await answer_stream(exchange, self._served, served, generations, stream)
        else:
            body = llamacpp.InfillBody(request, generations[0], model)
            await answer_body(exchange, self._served, served, generations, body)
