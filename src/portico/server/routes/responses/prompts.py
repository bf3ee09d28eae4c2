"""From a request to its prompt: what does not fit is cut or summed up, where the request says so."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from portico.errors import ContextLengthError
from portico.generation import Generation, Model
from portico.prompting import Prompt
from portico.protocols.responses.compaction import (
    Summary,
    compacted,
    split,
    summarizing,
    summary_generation,
    triggered,
)
from portico.protocols.responses.ids import new_id
from portico.protocols.responses.items import Item
from portico.protocols.responses.request import Asked, cut, read_request
from portico.protocols.responses.schema import InputTokensRequest, PromptFields, ResponsesRequest
from portico.protocols.responses.sealing import Sealer
from portico.server.http.exchange import Exchange
from portico.server.line.flight import Flight
from portico.server.line.model import ServedModel
from portico.server.line.served import Served
from portico.server.line.sinks import EventSink
from portico.server.routes.answering import LEFT_OUT, UNKNOWN_FIELDS, warn
from portico.server.routes.attachments import prompt_with_files

__all__ = ["Prompts", "Written"]

Listed = Mapping[str, Sequence[dict[str, Any]]]  # tools of MCP servers, by their labels

log = logging.getLogger("portico")


class Written(NamedTuple):
    """A summary, and the generation that wrote it."""

    item: Item
    generation: Generation


class Prompts:
    """Makes the prompts of responses. ``sealer`` opens what clients carry."""

    def __init__(self, served: Served, sealer: Sealer) -> None:
        self._served = served
        self._sealer = sealer

    async def in_bounds(
        self,
        exchange: Exchange,
        request: ResponsesRequest,
        before: list[Item],
        own: list[Item],
        by: ServedModel,
        listed: Listed,
    ) -> tuple[Asked, Prompt, Written | None]:
        """The request and its prompt. What is longer than it wants becomes a summary first; one that wants nothing but
        a summary is answered with it."""
        asked, prompt = await self.prompt(exchange, request, before, own, by.model, listed)
        if triggered(request.given):
            asked = summarizing(asked)
            return asked, await self._fitting(exchange, asked, by.model, may_cut=True), None
        threshold = request.compact_threshold
        past, rest = split([*before, *own])
        if threshold is None or len(prompt.token_ids) <= threshold or not past:
            return asked, prompt, None
        written = await self.summary(exchange, request, past, by)
        short = [*compacted(past, written.item), *rest]
        asked, prompt = await self.prompt(exchange, request, [], short, by.model, listed)
        return asked, prompt, written

    async def summary(self, exchange: Exchange, request: PromptFields, items: list[Item], by: ServedModel) -> Written:
        """What the model writes down of the conversation. Raises what the engine raises."""
        model = by.model
        asked = summarizing(await exchange.work(partial(read_request, request, items, 0, model, self._sealer)))
        prompt = await self._fitting(exchange, asked, model, may_cut=True)
        made = summary_generation(prompt, model, new_id("cmp"))
        sink, summary = EventSink(), Summary()
        flight = Flight([made], sink, self._served.request_timeout)

        async def collect() -> None:
            async for event in sink:
                summary.feed([event])

        await by.line.admit(flight)
        try:
            await exchange.while_there(collect())
        finally:
            by.line.abort(flight)
        return Written(summary.item(self._sealer), made)

    async def prompt(
        self,
        exchange: Exchange,
        request: InputTokensRequest,
        before: list[Item],
        own: list[Item],
        model: Model,
        listed: Listed,
    ) -> tuple[Asked, Prompt]:
        """The request and its prompt, cut where it may be; says what was left out."""
        items = [*before, *own]
        asked = await exchange.work(partial(read_request, request, items, len(before), model, self._sealer, listed))
        prompt = await self._fitting(exchange, asked, model, may_cut=request.truncation == "auto")
        warn(exchange, UNKNOWN_FIELDS, request.unknown_fields)
        warn(exchange, "chat_template_kwargs ignored", prompt.passed_over)
        left_out = [*asked.left_out, *(asked.places.words(one) for one in prompt.left_out)]
        warn(exchange, LEFT_OUT, left_out)
        if left_out:
            log.warning("%s: left out of the prompt: %s", exchange.request_id, ", ".join(left_out[:20]))
        exchange.prompted(model, prompt)
        return asked, prompt

    async def next(
        self, request: InputTokensRequest, items: Sequence[Item], model: Model, listed: Listed
    ) -> tuple[Asked, Prompt]:
        """The same when an answer goes on, which may be without anybody who waits for it."""
        asked = read_request(request, items, len(items), model, self._sealer, listed)
        return asked, await self._fitting(None, asked, model, may_cut=request.truncation == "auto")

    async def _fitting(self, exchange: Exchange | None, asked: Asked, model: Model, *, may_cut: bool) -> Prompt:
        """The prompt; where it may be cut, without what was said first, as little of it as lets it fit."""
        whole = await self._rendered(exchange, asked, model, or_none=may_cut)
        if whole is not None:
            return whole
        low, high, found = 0, len(asked.conversation.messages), None  # without ``low`` of it, it does not fit
        while high - low > 1:
            middle = (low + high) // 2
            shorter = cut(asked, middle)
            prompt = None if shorter is asked else await self._rendered(exchange, shorter, model, or_none=True)
            if prompt is not None or shorter is asked:
                high, found = middle, prompt or found
            else:
                low = middle
        if found is not None:
            return found
        prompt = await self._rendered(exchange, asked, model)
        assert prompt is not None
        return prompt

    async def _rendered(
        self, exchange: Exchange | None, asked: Asked, model: Model, *, or_none: bool = False
    ) -> Prompt | None:
        """The prompt. Where it leaves no room for an answer: None if that will do."""
        with asked.places.told():
            try:
                rendering = prompt_with_files(model, asked.prompt_arguments, self._served.store)
                prompt = await (rendering if exchange is None else exchange.wait(rendering))
            except ContextLengthError:
                if or_none:
                    return None
                raise
        return None if or_none and len(prompt.token_ids) >= model.context_length else prompt
