"""Runs a recorded request again, in this process and with today's code: the same application, over the recorded steps.

What came from outside is given again as it was recorded: the request, the engine's steps, and what no code of ours
decided: the engine's death, a time limit, a shutdown, a client that went. All else is done anew and recorded again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping, Sequence
from typing import Any

import orjson

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
from portico.server.http.app import build_app
from portico.server.http.auth import Keys
from portico.server.http.gate import Gate
from portico.server.line.line import Line
from portico.server.line.offers import Offer, Offers
from portico.server.line.served import Served
from portico.server.observe.export import exported
from portico.server.observe.inspector import Inspector
from portico.server.observe.metrics import Metrics
from portico.server.process.recorded import CannotReplayError, Means, models_of, served_again
from portico.server.routes.paths import routes
from portico.trace import (
    Artifact,
    Export,
    Fault,
    Recorder,
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


async def rerun(recorded: Export, means: Means | None = None) -> Export:
    """Run the recorded request again; returns its new trace. Raises ``CannotReplayError``."""
    means = means or Means()
    _replayable(recorded)
    gone = asyncio.Event()
    engine = _engine(recorded, lambda: _end(line, recorded, gone))
    metrics = Metrics()
    line: Line = Line(engine, metrics, keep_alive=0)
    await line.start()
    models = [served_again(facts, recorded, means, line) for facts in models_of(recorded)]
    served = Served(Offers([Offer.standing(one) for one in models]))
    recorder = Recorder(time.perf_counter, time.time, keep=1)
    inspector = Inspector(recorder, served, everything=True)
    max_body = recorded.facts.get("max_body") or MAX_BODY
    app: Any = build_app(
        routes(served, metrics), Keys([]), Gate(1), max_body=max_body, host=None, observers=[inspector]
    )
    try:
        await asyncio.wait_for(app(*_connection(recorded, gone)), SECONDS)
    except TimeoutError:
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
    facts = next((one for one in models_of(recorded) if "generate" in one["capabilities"]), models_of(recorded)[0])
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
