"""Runs a recorded request again, in this process and with today's code: the same application, over the recorded steps.

What came from outside is given again as it was recorded: the request, the engine's steps, and what no code of ours
decided: the engine's death, a time limit, a shutdown, a client that went. All else is done anew and recorded again.

Two ways. With the model's own tokenizer everything is done anew. Without, prompts are written with the recorded
template, their tokens are taken as recorded, and text is made from the recorded part of the vocabulary.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from portico.constraints import Checker, Vocabulary
from portico.engines import EngineInfo
from portico.engines.recorded import RecordedEngine
from portico.errors import (
    BadRequestError,
    EngineDeadError,
    EngineError,
    OverloadedError,
    PorticoError,
    RateLimitError,
    RequestTimeoutError,
)
from portico.events import EngineOutput, TokenLogprob
from portico.generation import Limits, Model
from portico.parsing.registry import program
from portico.prompting import ChatTemplate, Prompt, Prompter, Renderer, Tokenizer
from portico.server.app import build_app
from portico.server.auth import Keys
from portico.server.export import PLAIN_FACTS, exported
from portico.server.gate import Gate
from portico.server.inspector import Inspector
from portico.server.line import Line
from portico.server.metrics import Metrics
from portico.server.routes import routes
from portico.server.served import Served, ServedModel
from portico.trace import (
    Artifact,
    Export,
    Fault,
    RecordedTokenizer,
    Recorder,
    UnrecordedError,
    exact_bytes,
    read_export,
)

__all__ = ["CannotReplayError", "Means", "rerun"]

SECONDS = 120.0
MAX_BODY = 32 << 20
FROM_OUTSIDE: dict[str, type[PorticoError]] = {
    "request_timeout": RequestTimeoutError,
    "engine_error": EngineError,
    "engine_unavailable": EngineDeadError,
    "shutting_down": OverloadedError,
    "overloaded": OverloadedError,
    "queue_full": OverloadedError,
    "rate_limit_exceeded": RateLimitError,
}


class CannotReplayError(Exception):
    """This trace cannot be replayed; the message says why, and what would help."""


@dataclass(frozen=True)
class Means:
    """What a replay is done with, where it is not what was recorded.

    ``tokenizer`` is the model's own, with ``renderer`` if it does not write prompts with a Jinja template. ``template``
    goes before the recorded one, and the parsers before the recorded ones (``none``: without one).
    """

    tokenizer: Tokenizer | None = None
    renderer: Renderer | None = None
    template: str | None = None
    tool_parser: str | None = None
    reasoning_parser: str | None = None


async def rerun(recorded: Export, means: Means | None = None) -> Export:
    """Run the recorded request again; returns its new trace. Raises ``CannotReplayError``."""
    means = means or Means()
    _replayable(recorded)
    gone = asyncio.Event()
    engine = _engine(recorded, lambda: _end(line, recorded, gone))
    line: Line = Line(engine, Metrics(), keep_alive=0)
    await line.start()
    models = [_served(facts, recorded, means, line) for facts in _models(recorded)]
    served = Served(models, Metrics(), None)
    recorder = Recorder(time.perf_counter, time.time, keep=1)
    inspector = Inspector(recorder, served, everything=True, keyed=True)
    max_body = recorded.facts.get("max_body") or MAX_BODY
    app: Any = build_app(routes(served), Keys([]), Gate(1), served.metrics, max_body=max_body, observers=[inspector])
    try:
        await asyncio.wait_for(app(*_connection(recorded, gone)), SECONDS)
    except asyncio.TimeoutError:
        raise CannotReplayError(f"The replay did not come to an end within {SECONDS:g} seconds.") from None
    finally:
        await line.close()
        for one in models:
            one.model.prompter.close()
    missing = any(getattr(one.model.tokenizer, "missing", False) for one in models)
    if missing and recorded.of_kind("prompt_tokens"):
        raise CannotReplayError("The replay comes to text that is not in the trace: it needs --model.")
    (trace,) = recorder.traces
    return read_export(orjson.dumps(exported(trace, recorded.facts)))


def _replayable(recorded: Export) -> None:
    head = recorded.trace
    made = {artifact.kind for artifact in recorded.artifacts}
    if head.redacted:
        raise CannotReplayError("The trace is redacted: what was said is not in it. Record without --inspect-redact.")
    if head.dropped:
        raise CannotReplayError(f"The trace is not whole: {head.dropped} artifacts were dropped, it was too large.")
    if head.state == "open":
        raise CannotReplayError("The request was not over when the trace was exported; export it again.")
    request = recorded.artifacts[0].data if recorded.artifacts else {}
    if "headers" not in request or not {"body", "base64"} & request.keys():
        raise CannotReplayError("The request did not arrive whole: its body is not in the trace.")
    if not recorded.facts.get("models"):
        raise CannotReplayError("The trace does not say what served it; export it from the server with portico trace.")
    refused = "error" in made and "submitted" not in made
    if "submitted" not in made and not refused:
        raise CannotReplayError(f"{head.path} runs no generation: there are no steps to replay.")
    if refused and head.error is not None and head.error.code in FROM_OUTSIDE:
        raise CannotReplayError(f"The server was too busy for the request ({head.error.code}): nothing was done yet.")


# -- what came from outside -------------------------------------------------------------------------------------------


def _connection(recorded: Export, gone: asyncio.Event) -> tuple[dict[str, Any], Any, Any]:
    """The request as an ASGI server would bring it: scope, receive, send."""
    head, request = recorded.trace, recorded.artifacts[0].data
    headers = {name.encode("latin-1"): value.encode("latin-1") for name, value in request["headers"] if value != "…"}
    headers[b"x-request-id"] = head.request_id.encode("ascii")
    body = [exact_bytes(request, "body")]

    async def receive() -> dict[str, Any]:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            gone.set()

    scope = {
        "type": "http",
        "method": head.method,
        "path": head.path,
        "headers": list(headers.items()),
        "query_string": b"",
    }
    return scope, receive, send


def _engine(recorded: Export, exhausted: Any) -> RecordedEngine:
    steps = recorded.of_kind("step")
    submitted = recorded.of_kind("submitted")
    response = next((one.id for one in recorded.of_kind("response")), None)
    error = recorded.trace.error
    refused = error is not None and bool(submitted) and not steps and recorded.trace.status >= 400
    early = 0
    if recorded.trace.stream and response is not None:
        early = sum(step.id < response for step in steps)
    facts = next((one for one in _models(recorded) if "generate" in one["capabilities"]), _models(recorded)[0])
    info = EngineInfo(facts["name"], facts["context_length"], facts["vocab_size"], frozenset(facts["capabilities"]))
    return RecordedEngine(
        info,
        [(step.choice or 0, _output(step)) for step in steps],
        choices=submitted[0].data["choices"] if submitted else 1,
        early=early,
        refusal=_raised(error) if refused and error is not None else None,
        exhausted=exhausted,
    )


def _output(step: Artifact) -> EngineOutput:
    data = step.data
    output = EngineOutput("", data["ids"])
    for name in ("finish_reason", "stop_token", "cached_tokens", "error"):
        setattr(output, name, data.get(name))
    if "logprobs" in data:
        output.logprobs = [_logprob(entry) for entry in data["logprobs"]]
    if "prompt_logprobs" in data:
        output.prompt_logprobs = [None if entry is None else _logprob(entry) for entry in data["prompt_logprobs"]]
    return output


def _logprob(entry: Sequence[Any]) -> TokenLogprob:
    token, logprob, top = entry
    return TokenLogprob(token, _number(logprob), tuple((other, _number(value)) for other, value in top))


def _number(value: float | None) -> float:
    """JSON has no infinity; it is written as null."""
    return float("-inf") if value is None else value


def _end(line: Line, recorded: Export, gone: asyncio.Event) -> None:
    """The recorded steps are over. What ended the answer, if it is not over too, came from outside."""
    error = recorded.trace.error
    if error is not None and error.code in FROM_OUTSIDE and recorded.trace.state != "gone":
        line.fail_all(_raised(error))
    if line.in_flight:
        gone.set()


def _raised(fault: Fault) -> PorticoError:
    kind = FROM_OUTSIDE.get(fault.code)
    if kind is None:
        kind = BadRequestError if 400 <= fault.status < 500 else PorticoError
    error = kind(fault.message, param=fault.param)
    error.code = None if fault.code == error.type else fault.code
    if fault.status >= 400:
        error.status = fault.status
    return error


# -- what served it ---------------------------------------------------------------------------------------------------


def _models(recorded: Export) -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = recorded.facts["models"]
    return models


def _served(facts: dict[str, Any], recorded: Export, means: Means, line: Line) -> ServedModel:
    plain = {name: facts[name] for name in PLAIN_FACTS if name in facts}
    for name in ("tool_parser", "reasoning_parser"):
        if (given := getattr(means, name)) is not None:
            plain[name] = None if given == "none" else given
    try:
        program(plain["tool_parser"], plain["reasoning_parser"])
    except ValueError as error:
        raise CannotReplayError(f"{error}; if it comes from a plugin, give --parser-plugin.") from None
    tokenizer = means.tokenizer or _Recorded(recorded, facts["prompts"])
    model = Model(
        **plain,
        capabilities=frozenset(facts["capabilities"]),
        limits=Limits(**facts["limits"]),
        tokenizer=tokenizer,
        prompter=_prompter(facts["prompts"], tokenizer, recorded, means),
    )
    checker = None
    if means.tokenizer is not None and facts["checked"]:
        pieces = [tokenizer.token_bytes(token) for token in range(model.vocab_size)]
        checker = Checker(Vocabulary(pieces, sorted(tokenizer.special_ids), tokenizer.eos_token_id or 0))
    adapters = [replace(model, name=name, parent=model.name) for name in facts["adapters"]]
    return ServedModel(model, facts["names"], line, checker, adapters)


def _prompter(facts: dict[str, Any], tokenizer: Tokenizer, recorded: Export, means: Means) -> Prompter:
    source = means.template or facts.get("template")
    template = ChatTemplate(source, tokenizer.special_tokens) if source is not None else means.renderer
    options: dict[str, Any] = {
        "modalities": facts["modalities"],
        "defaults": facts["variables"],
        "allowed_kwargs": facts["allowed"],
        "request_templates": facts["request_templates"],
    }
    if isinstance(tokenizer, _Recorded):
        return _RecordedPrompter(tokenizer, template, recorded, **options)
    return Prompter(tokenizer, template, **options)


class _Recorded(RecordedTokenizer):
    """The recorded part of a tokenizer, which has learned the prompts by heart."""

    def __init__(self, recorded: Export, facts: Mapping[str, Any]) -> None:
        if recorded.vocabulary is None and recorded.of_kind("prompt_tokens"):
            raise CannotReplayError("The vocabulary is not in the trace: the replay needs --model.")
        super().__init__(recorded.vocabulary or {**NOTHING, "roles": facts["special_tokens"]})
        self.missing = False
        self._prompts = {prompt.text: prompt.token_ids for prompt in _prompts(recorded)}

    def encode(self, text: str, *, add_special_tokens: bool = False, parse_special: bool = True) -> list[int]:
        """The tokens of a recorded prompt, or of a token."""
        known = self._prompts.get(text)
        if known is not None:
            return list(known)
        try:
            return super().encode(text, add_special_tokens=add_special_tokens, parse_special=parse_special)
        except UnrecordedError:
            self.missing = True
            raise


NOTHING = {
    "kind": "none",
    "size": 0,
    "tokens": [],
    "added": {},
    "special": [],
    "roles": {},
    "bos": None,
    "eos": None,
    "ends": [],
    "opening_repeats": False,
    "each_byte": False,
    "special_breaks": False,
}


class _RecordedPrompter(Prompter):
    """Writes prompts with the recorded template, where there is one; their tokens are as recorded."""

    def __init__(self, tokenizer: _Recorded, template: Any, recorded: Export, **options: Any) -> None:
        super().__init__(tokenizer, template, **options)
        self._recorded = _prompts(recorded)
        self._tokenizer = tokenizer

    def render_chat(self, *arguments: Any, **options: Any) -> Prompt:
        """The prompt of a conversation; one that reads otherwise than the recorded one still has its tokens."""
        if not self._recorded:
            if self.renderer is None:
                self._tokenizer.missing = True
            return super().render_chat(*arguments, **options)
        recorded = self._recorded[0]
        if self.renderer is None:
            return recorded
        try:
            return super().render_chat(*arguments, **options)
        except UnrecordedError as error:
            self._tokenizer.missing = False
            return replace(recorded, text=error.text)


def _prompts(recorded: Export) -> list[Prompt]:
    """The recorded prompts, in order."""
    prompts = []
    for tokens in recorded.of_kind("prompt_tokens"):
        texts = [recorded.artifacts[id] for id in tokens.of if recorded.artifacts[id].kind == "prompt"]
        text = texts[0].data["text"] if texts else ""
        prompts.append(Prompt(tokens.data["ids"], text, tokens.data["tail"]))
    return prompts
