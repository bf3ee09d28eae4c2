"""A replay engine that dies and comes back, and what a line over it answers, in every protocol."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from itertools import repeat
from typing import Any

from portico.engines.replay import ReplayEngine, Script
from portico.errors import EngineDeadError, PorticoError
from portico.events import EngineOutput, EngineRequest
from portico.generation import Delta, Generation, Model
from portico.protocols.anthropic import messages
from portico.protocols.anthropic.schema import MessagesRequest
from portico.protocols.anthropic.signatures import Signer
from portico.protocols.openai import chat, completions
from portico.protocols.openai.schema import ChatRequest, CompletionRequest
from portico.server.line.flight import Flight
from portico.server.line.line import Line
from portico.server.observe.metrics import Metrics

DIED = "The engine stopped: it was killed."
CALL_IDS = re.compile(rb'"id":"(?:(?:call_|chatcmpl-tool-|toolu_)[\w-]+|\w{9})"')


class MortalEngine(ReplayEngine):
    """Every life lasts so many steps, the last for ever. After each death it refuses what is submitted, ``away`` times
    whatever comes in one turn of the loop."""

    def __init__(self, *arguments: Any, lives: Sequence[int] | repeat[int] = (), away: int = 0, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._lives = iter(lives)
        self._left = next(self._lives, None)
        self._away, self._refusals, self._counting = away, 0, False
        self.submitted: list[EngineRequest] = []

    async def submit(self, request: EngineRequest) -> None:
        if self._refusals:
            if not self._counting:
                self._counting = True
                asyncio.get_running_loop().call_soon(self._nearer)
            raise EngineDeadError("The engine is not available.")
        self.submitted.append(request)
        await super().submit(request)

    def _nearer(self) -> None:
        self._refusals, self._counting = self._refusals - 1, False

    def _step(self, who: Any) -> list[EngineOutput]:
        if self._left == 0:
            self._left, self._refusals = next(self._lives, None), self._away
            lost = [EngineOutput(id, (), finish_reason="lost", error=DIED) for id in self._playing]
            self._playing.clear()
            self._new.clear()
            return lost
        if self._left is not None:
            self._left -= 1
        return super()._step(who)


class Collecting:
    """A sink that keeps what an encoder makes, as one stream of bytes or as a body."""

    stalled = False

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.data = encoder.start() if hasattr(encoder, "start") else b""
        self.error: PorticoError | None = None
        self.done = asyncio.Event()

    def feed(self, delta: Delta, position: int) -> None:
        self.data += self._encoder.feed(delta, position) or b""

    def flush(self) -> None:
        pass

    def finish(self) -> None:
        self.data += self._encoder.finish() if hasattr(self._encoder, "finish") else self._encoder.body()
        self.done.set()

    def fail(self, error: PorticoError) -> None:
        self.error = error
        self.done.set()

    def keep_alive(self) -> None:
        pass


CHAT = [{"role": "user", "content": "Hello"}]


def encoded(protocol: str, model: Model, tools: Sequence[Any], **more: Any) -> tuple[list[Generation], Any]:
    """The generations of a request of that protocol, and the encoder of their answer; always under the same ids."""
    prompt_ids = model.tokenizer.encode("Hello")
    if protocol == "completion":
        options = {"prompt": prompt_ids, "stream": True, "logprobs": 2, "n": 2, "return_token_ids": True}
        completion = CompletionRequest.model_validate({**options, "max_tokens": 4000, **more})
        prompts = [_prompt(model)]
        many = completions.generations(completion, prompts, model, "id")
        return many, completions.CompletionStream(completion, many, prompts, model, 1)
    if protocol == "messages":
        given = [{"name": tool["function"]["name"], "input_schema": {"type": "object"}} for tool in tools]
        asked = {"model": "tiny", "max_tokens": 4000, "messages": CHAT, "stream": True, "tools": given, **more}
        message = MessagesRequest.model_validate({**asked, "thinking": {"type": "enabled", "budget_tokens": 1024}})
        signer = Signer("a secret")
        read = messages.read_request(message, model, signer)
        one = messages.generation(message, read, _prompt(model), model, "msg_1", [])
        return [one], messages.MessageStream(message, one, model, signer, message_id="msg_1", request_id="req_1")
    options = {"logprobs": True, "top_logprobs": 2, "n": 2, "return_token_ids": True, "tools": list(tools) or None}
    if protocol == "chat":
        options |= {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    request = ChatRequest.model_validate({"messages": CHAT, "max_tokens": 4000, **options, **more})
    one = chat.generation(request, _prompt(model), model, "id")
    encoder = chat.ChatStream if protocol == "chat" else chat.ChatBody
    return [one], encoder(request, one, model, 1)


def _prompt(model: Model) -> Any:
    return model.prompter.render_chat(CHAT)


async def answered(
    protocol: str,
    text: str,
    model: Model,
    tools: Sequence[Any] = (),
    *,
    lives: Sequence[int] | repeat[int] = (),
    away: int = 0,
    tokens_per_step: int = 1,
    resume: bool = True,
    **more: Any,
) -> Collecting:
    """What the answer ``text`` becomes over an engine with these lives; ids of calls, which are drawn, made equal."""
    ids = model.tokenizer.encode(text)
    engine = MortalEngine([Script(ids)], lives=lives, away=away, tokens_per_step=tokens_per_step)
    line = Line(engine, Metrics(), keep_alive=0, resume=resume)
    await line.start()
    generations, encoder = encoded(protocol, model, tools, **more)
    sink = Collecting(encoder)
    await line.admit(Flight(generations, sink))
    await asyncio.wait_for(sink.done.wait(), 120)
    await line.close()
    sink.data = CALL_IDS.sub(b'"id":"call"', sink.data)
    return sink
