"""The path of OpenAI's decisions: questions about an input, answered with probabilities."""

from __future__ import annotations

import asyncio
from functools import partial

from pydantic import BaseModel

from portico.protocols.openai import decisions
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.line.served import Served
from portico.server.routes.answering import LEFT_OUT, UNKNOWN_FIELDS, answer_body, model_for, warn

__all__ = ["BODIES", "DecisionHandlers"]

BODIES: dict[tuple[str, str], type[BaseModel]] = {("/v1/decisions", "POST"): decisions.DecisionRequest}


class DecisionHandlers:
    """The handler, over what is served."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> dict[str, Methods]:
        """The path, with its handler."""
        return {"/v1/decisions": {"POST": self.decide}}

    async def decide(self, exchange: Exchange) -> None:
        """POST /v1/decisions: questions about an input, answered with the probabilities of their options."""
        request = await exchange.request(decisions.DecisionRequest)
        served = await model_for(exchange, self._served.generating(request.model))
        model = served.model
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        conversation = await exchange.work(partial(decisions.read_input, request))
        prompts = []
        for index in range(len(request.questions)):
            messages, places = decisions.asked(request, index, conversation, model.tokenizer)
            with places.told():
                prompts.append(await exchange.wait(model.prompter.chat(messages, thinking=False)))
            await asyncio.sleep(0)  # four hundred short prompts would hold up everybody else
        exchange.prompted(model, *prompts)
        told = (places.words(one) for one in prompts[-1].left_out)
        warn(exchange, LEFT_OUT, [*conversation.left_out, *told])
        generations = decisions.generations(request, prompts, model, exchange.request_id)
        body = decisions.DecisionBody(request, generations, model)
        await answer_body(exchange, self._served, served, generations, body)
