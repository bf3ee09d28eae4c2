"""A response as it is made: the deltas of its generations become events, and at the end the whole object.

The stream is an automaton: ``created``, ``in_progress`` (behind ``queued`` in the background), the items in their order
(``output``), then exactly one of ``completed``, ``incomplete`` and ``failed``. There is no ``[DONE]``. A response may
take several generations, where this server runs tools for it. The whole object is the fold of the same events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portico.decoding import chat_logprobs
from portico.errors import CancelledError, EngineError, PorticoError
from portico.events import Content, Finish
from portico.generation import Delta, Generation, Model
from portico.protocols.coding import encoded
from portico.protocols.responses.compaction import COMPACTING, Summary
from portico.protocols.responses.events import Events, NoEvents
from portico.protocols.responses.mcp import Told
from portico.protocols.responses.output import Output
from portico.protocols.responses.response import Response, ended, usage_body
from portico.protocols.responses.schema import ResponsesRequest
from portico.protocols.responses.sealing import Sealer
from portico.protocols.responses.tools import Offered

__all__ = ["Answer", "ResponseBody", "ResponseStream"]


class Answer:
    """One response in the making. ``response`` is the object as it was last told; ``clock`` gives Unix seconds.

    One that ``compacts`` has a summary of the conversation for its only item.
    """

    def __init__(
        self,
        request: ResponsesRequest,
        response: Response,
        offered: Offered,
        model: Model,
        sealer: Sealer,
        clock: Callable[[], float],
        *,
        streamed: bool,
        compacts: bool = False,
    ) -> None:
        self.response = response
        self.events = Events() if streamed else NoEvents()
        summarized = bool(request.reasoning and request.reasoning.summarized)
        sealing = sealer if request.with_sealed_thoughts else None
        self.output = Output(self.events, offered, sealer=sealing, summarized=summarized)
        self.made: list[tuple[dict[str, Any], Told]] = []  # items that come first, with their events
        self.over = False
        self._tokenizer = model.tokenizer
        self._clock = clock
        self._shown = not request.prewarms
        self._summary = Summary() if compacts else None
        self._sealer = sealer
        self._generations: list[Generation] = []
        self._finish: Finish | None = None

    def take_up(self, generation: Generation) -> None:
        """The answer goes on with this generation."""
        self._generations.append(generation)
        self._finish = None

    @property
    def server_calls(self) -> bool:
        """Whether what came last has calls that this server runs."""
        return bool(self.output.server_calls) and not (self._finish is not None and self._finish.reason == "length")

    def feed(self, delta: Delta) -> None:
        """Take one delta in."""
        if delta.finish is not None:
            self._finish = delta.finish
        if self._summary is not None:
            self._summary.feed(delta.events)
        elif self._shown:
            logprobs = chat_logprobs(delta.logprobs, self._tokenizer) if delta.logprobs else ()
            self.output.feed(delta.events, logprobs)

    @property
    def plain(self) -> bool:
        """Whether what the model says goes out as it is."""
        return self._shown and self._summary is None

    @property
    def usage(self) -> dict[str, Any]:
        """What it has cost so far."""
        usage = usage_body(one.usage for one in self._generations)
        if not self._shown:
            usage |= {"output_tokens": 0, "total_tokens": usage["input_tokens"]}
        return usage

    def settle(self, error: PorticoError | None = None) -> None:
        """No more comes: decide how it ends. The end is told by ``last`` once it may be."""
        if self.over:
            return
        self.over = True
        if error is None and self._summary is not None:
            try:
                self.output.whole(self._summary.item(self._sealer), *COMPACTING)
            except EngineError as failed:
                error = failed
        if isinstance(error, CancelledError):
            self.response = ended(self.response, "cancelled", self.output.so_far, self.usage)
        elif error is not None:
            self.response = ended(self.response, "failed", self.output.so_far, self.usage, error=error)
        elif self.plain and self._finish is not None and self._finish.reason == "length":
            self.output.close("incomplete")
            items = self.output.items
            self.response = ended(self.response, "incomplete", items, self.usage, reason="max_output_tokens")
        else:
            self.output.close()
            self.response = ended(self.response, "completed", self.output.items, self.usage, now=int(self._clock()))

    def begin(self) -> None:
        """Tell what was made before the model says anything."""
        for item, told in self.made:
            self.output.whole(item, *told)

    def not_kept(self) -> None:
        """What was to be stored could not be: say so."""
        self.response = {**self.response, "store": False}

    def last(self) -> None:
        """Tell the end. Clients know three; a cancelled response is one that did not become complete."""
        status = self.response["status"]
        kind = "incomplete" if status == "cancelled" else status
        self.events.add(f"response.{kind}", response=self.response)


class ResponseStream:
    """The answer as server-sent events. Whoever has it sent sees to it that ``settle`` comes before ``finish``."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._events = answer.events
        self._output = answer.output

    def start(self) -> bytes:
        """What is told at admission, long before the first token."""
        response = self.answer.response
        self._events.add("response.created", response=response)
        if response["background"]:
            self._events.add("response.queued", response=response)
        self.answer.response = {**response, "status": "in_progress"}
        self._events.add("response.in_progress", response=self.answer.response)
        self.answer.begin()
        return self._events.take()

    def feed(self, delta: Delta, position: int = 0) -> bytes:
        """The events of one delta."""
        if delta.logprobs is None and delta.finish is None and len(delta.events) == 1:
            event = delta.events[0]
            if type(event) is Content and self.answer.plain and (told := self._output.adds(event.text)):
                return told  # the commonest case
        self.answer.feed(delta)
        return self._events.take()

    def finish(self) -> bytes:
        """The end of the last item, and of the response."""
        self.answer.settle()
        self.answer.last()
        return self._events.take()

    def fail(self, error: PorticoError) -> bytes:
        """The stream cannot go on: the response has failed, with what there is. Nothing comes after it."""
        self.answer.settle(error)
        self.answer.last()
        return self._events.take()

    def keep_alive(self) -> bytes:
        """What a silent stream says now and then: an event, since some clients do not count comments."""
        self._events.add("response.in_progress", response=self.answer.response)
        return self._events.take()


class ResponseBody:
    """The answer as one body."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        answer.begin()

    def feed(self, delta: Delta, position: int = 0) -> None:
        """Fold one delta in."""
        self.answer.feed(delta)

    def body(self) -> bytes:
        """The response object."""
        self.answer.settle()
        return encoded(self.answer.response)
