"""What a token costs, counted in calls of functions, so that it is the same on every machine.

One token a step goes through the whole line: route, decoder, parser, encoder, sink, connection. The numbers here are
what it cost when they were written; more than a tenth above one is a regression to find, more than a tenth below it a
number to lower.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from portico.engines.replay import ReplayEngine, Script
from portico.events import EngineOutput, TokenLogprob
from portico.server.line import line as step_loop
from portico.server.line.flight import Flight
from portico.server.line.line import Line
from portico.server.line.sinks import StreamSink
from portico.server.observe.metrics import Metrics
from support.generation import tiny_model, tiny_tokenizer
from support.mortal import encoded
from support.work import calls

TOKENS = 200
TOLERANCE = 0.1
PLAIN: dict[str, Any] = {"logprobs": None, "top_logprobs": None, "n": 1, "return_token_ids": None}
CHAT: dict[str, Any] = {**PLAIN, "stream_options": None}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
TEXT = "The quick brown fox jumps over the lazy dog, and it does so again. " * 6
THOUGHT = "<think>\n" + TEXT
CALL = '<tool_call>\n{"name": "f", "arguments": {"text": "' + TEXT

KEPT = {  # calls per token
    "chat, text": 51,
    "chat, text beside parsers": 46.3,
    "chat, a thought": 54.5,
    "chat, a call's argument": 60.5,
    "chat, logprobs of two choices": 107,
    "completion, text": 55,
    "messages, text": 53,
    "messages, a call's argument": 63,
}
WORK: dict[str, tuple[str, str, list[Any], dict[str, Any], bool]] = {
    "chat, text": ("chat", TEXT, [], CHAT, False),
    "chat, text beside parsers": ("chat", TEXT, [TOOL], CHAT, True),
    "chat, a thought": ("chat", THOUGHT, [], CHAT, True),
    "chat, a call's argument": ("chat", CALL, [TOOL], CHAT, True),
    "chat, logprobs of two choices": ("chat", TEXT, [], {}, False),
    "completion, text": ("completion", TEXT, [], {**PLAIN, "logprobs": None}, False),
    "messages, text": ("messages", TEXT, [], {}, False),
    "messages, a call's argument": ("messages", CALL, [TOOL], {}, True),
}


class Connection:
    """Takes everything at once."""

    async def start_stream(self, media_type: bytes) -> None:
        pass

    async def send(self, message: dict[str, Any]) -> None:
        pass


@pytest.mark.parametrize("name", KEPT)
async def test_a_token_costs_no_more_than_it_did(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_loop, "WRITE_SECONDS", -1.0)  # each step is written
    monkeypatch.setattr(step_loop, "MEASURED", 1)  # no flight is measured
    protocol, text, tools, options, parsed = WORK[name]
    parsers = {"tool_parser": "hermes", "reasoning_parser": "qwen3"} if parsed else {}
    generations, encoder = encoded(protocol, tiny_model(**parsers), tools, **options)
    sink = StreamSink(encoder)
    await sink.open(Connection())  # type: ignore[arg-type]
    line = Line(ReplayEngine([Script([])]), Metrics())
    await line.admit(Flight(generations, sink))
    (request_id, *_) = line._routes
    scored = generations[0].spec.sampling.logprobs is not None
    given = iter(
        EngineOutput(request_id, (token,), (TokenLogprob(token, -1.0, ((token, -1.0), (0, -2.0))),) if scored else None)
        for token in tiny_tokenizer().encode(text)
    )

    def deliver(tokens: int) -> None:
        for output in islice(given, tokens):
            line._step([output])

    deliver(100)
    counted = calls(lambda: deliver(TOKENS)) / TOKENS
    assert not generations[0].finished
    kept = KEPT[name]
    assert kept * (1 - TOLERANCE) <= counted <= kept * (1 + TOLERANCE), f"{counted} calls per token"
