"""One request's artifacts, as they are made.

The server tells a trace of every stage that it passes; each stage is made from the one before. From the engine on,
``ChoiceTrace`` follows each choice (see ``choices``) and the encoders follow the bytes (see ``wire``).

A trace is bounded: over ``MAX_BYTES`` its head goes on counting while further artifacts are dropped. A redacted trace
holds shapes and times but no word of what was said.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

import msgspec

from portico.errors import EngineDeadError, EngineError, PorticoError
from portico.generation import Choice, Generation, Model
from portico.prompting import Prompt, Tokenizer
from portico.trace.artifacts import Artifact, Fault, Head, Lane
from portico.trace.choices import ChoiceTrace
from portico.trace.wire import BodyEncoder, StreamEncoder, TracedBody, TracedStream

__all__ = ["Clock", "Trace", "exact_bytes", "spelled"]

MAX_BYTES = 16 << 20
SECRET_HEADER = re.compile(rb"auth|cookie|key|token|secret|password|credential|signature")
# What a redacted trace keeps. Everything else is what was said, or may be: headers, fields and errors repeat it.
TOLD = frozenset(
    {"method", "path", "status", "last", "choices", "tool_parser", "reasoning_parser", "finish_reason", "cached_tokens",
     "layer", "reason", "type", "index", "code"}
)  # fmt: skip
TOLD_HEADERS = frozenset(
    {"accept", "accept-encoding", "anthropic-version", "cache-control", "connection", "content-length", "content-type",
     "host", "request-id", "retry-after", "user-agent", "x-portico-trace-id", "x-request-id"}
)  # fmt: skip
LANE_OF_LAYER: dict[str, Lane] = {
    "server": "request",
    "protocols": "request",
    "prompting": "prompt",
    "constraints": "prompt",
    "generation": "prompt",
    "engines": "tokens",
    "decoding": "text",
    "parsing": "events",
}

Clock = Callable[[], float]


class Trace:
    """The record of one request. ``head`` sums it up; ``artifacts`` are in the order in which they were made."""

    def __init__(self, head: Head, clock: Clock, began: float, tell: Callable[[Head], None]) -> None:
        self.head = head
        self.artifacts: list[Artifact] = []
        self.log: list[Artifact] = []  # every artifact made or changed, for those who follow
        self.size = 0  # bytes, roughly
        self.frames: list[int] = []  # made and not written yet
        self.finishes: list[int] = []
        self.made: list[int] = []  # what the last step of a choice came to
        self._clock, self._began = clock, began
        self._tell = tell
        self._latest: list[int] = []  # the last stage: what the next one is made from
        self.submitted_as: list[int] = []
        self._tokenizer: Tokenizer | None = None
        self._validated: list[int] = []
        self._prompts: list[int] = []
        self._open: list[Artifact] = []  # stages that are not over
        self._listeners: dict[object, Callable[[], None]] = {}
        self._per_generation = 1
        self._choices: list[Choice] = []
        self._body: list[bytes] = []

    # -- the way in ---------------------------------------------------------------------------------------------------

    def requested(self, headers: Mapping[bytes, bytes]) -> None:
        """The head of the request. Keys are not recorded."""
        shown: Any = [
            [name.decode("latin-1"), "…" if SECRET_HEADER.search(name) else value.decode("latin-1")]
            for name, value in headers.items()
        ]
        data = {"method": self.head.method, "path": self.head.path, "headers": shown}
        label = f"{self.head.method} {self.head.path}"
        self._latest = [self.add("request", "http_request", label, data, source="server", at=0.0, took=None)]

    def received(self, piece: bytes, last: bool) -> None:
        """A piece of the request's body."""
        request = self.artifacts[0]
        request.took = self.now
        self._body.append(piece)
        if last:
            body, self._body = b"".join(self._body), []
            if self.head.redacted:
                request.data["characters"] = len(body)
            else:
                request.data.update(spelled(body, "body"))
                self.size += len(body)
            self.changed(request)

    def validated(self, fields: Mapping[str, Any], began: float) -> None:
        """The body is legal; ``fields`` are those the client set."""
        self.head.model = fields.get("model")
        self.head.stream = bool(fields.get("stream"))
        self._stage("request", "validated", f"{len(fields)} fields", {"fields": dict(fields)}, "protocols", began)
        self._validated = self._latest
        self._tell(self.head)

    def prompted(self, prompt: Prompt, model: Model, began: float) -> None:
        """The prompt, as text and as tokens."""
        self._tokenizer = model.tokenizer
        self.head.model = self.head.model or model.name
        of, at = self._validated, began - self._began
        if prompt.text:
            label = f"{len(prompt.text)} characters"
            of = [
                self.add(
                    "prompt", "prompt", label, {"text": prompt.text}, "prompting", of=of, at=at, took=prompt.rendering
                )
            ]
        label = f"{len(prompt.token_ids)} tokens"
        data: dict[str, Any] = {"ids": list(prompt.token_ids), "tail": prompt.tail}
        at += prompt.rendering
        took = prompt.tokenizing
        self._prompts.append(self.add("prompt", "prompt_tokens", label, data, "prompting", of=of, at=at, took=took))
        self._latest = self._prompts
        self.head.prompt_tokens = (self.head.prompt_tokens or 0) + len(prompt.token_ids)
        self._tell(self.head)

    def decided(self, generations: Sequence[Generation], began: float) -> None:
        """What the answer is held to. The grammar, if there is one, is tried out next."""
        spec = generations[0].spec
        self._per_generation = spec.n
        if spec.constraint is not None:
            data = {"lark": spec.constraint.lark}
            self._stage("prompt", "constraint", "a grammar for the answer", data, "constraints", began, join=True)

    def submitting(self, generations: Sequence[Generation]) -> None:
        """All is well so far: the request goes to the engine."""
        self._close_stages()
        spec = generations[0].spec
        self._choices = [choice for generation in generations for choice in generation.choices]
        data = {
            "request_id": spec.request_id,
            "choices": len(self._choices),
            "tool_parser": spec.tool_parser,
            "reasoning_parser": spec.reasoning_parser,
            "sampling": msgspec.to_builtins(spec.sampling, str_keys=True),
        }
        self._stage("prompt", "submitted", "handed to the engine", data, "server", self._clock())
        self.submitted_as = self._latest

    def admitted(self) -> None:
        """The engine has taken it."""
        self._close_stages()

    def watch(self, choice: Choice, position: int) -> ChoiceTrace:
        """Who follows the choice of the generation at ``position``."""
        return ChoiceTrace(self, choice, position * self._per_generation + choice.index)

    def stream(self, encoder: StreamEncoder) -> StreamEncoder:
        """The encoder of a stream, with what it makes recorded."""
        return TracedStream(encoder, self)

    def body(self, encoder: BodyEncoder) -> BodyEncoder:
        """The encoder of a whole body, with what it makes recorded."""
        return TracedBody(encoder, self)

    # -- the way out --------------------------------------------------------------------------------------------------

    def framed(self, data: bytes, of: Sequence[int], label: str = "", *, first: bool = False) -> None:
        """The protocol's encoder has made these bytes; ``first``: they go before what is not written yet."""
        made = self.add("wire", "frame", label or f"{len(data)} bytes", spelled(data), "protocols", of=of)
        if made >= 0:
            self.frames.insert(0, made) if first else self.frames.append(made)

    def started(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """The head of the response goes out."""
        shown = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers]
        self.head.status = status
        data = {"status": status, "headers": shown}
        self.add("wire", "response", f"status {status}", data, "server", of=self._latest)

    def sent(self, data: bytes, last: bool) -> None:
        """These bytes of the response's body go to the connection."""
        if data:
            of = self.frames or self.made or self._latest
            self.add("wire", "chunk", f"{len(data)} bytes", {**spelled(data), "last": last}, "server", of=of)
            self.frames = []

    def faulty(self, error: PorticoError, raised: BaseException | None = None) -> int:
        """The request ends with ``error``; ``raised`` is what was raised, where that is something else."""
        layer = _layer_of(error, (raised or error).__traceback__)
        status = self.head.status or error.status
        fault = Fault(layer, status, error.code or error.type, error.message, error.param)
        if self.head.redacted:  # errors name what they do not like
            fault.message = "(redacted)"
            fault.param = re.split(r"[.\[]", error.param)[0] if error.param else None
        self.head.error = fault
        lane = LANE_OF_LAYER[layer]
        data = msgspec.to_builtins(fault)
        made = self.add(lane, "error", f"{fault.status} {fault.code}", data, layer, of=self.made or self._latest)
        self._latest = [made]
        self.made = []
        return made

    def ended(self, state: Literal["ok", "refused", "failed", "gone"]) -> None:
        """The response is complete, or nobody is there to read it."""
        self.head.state = state
        self.head.seconds = self.now
        request = self.artifacts[0]
        if request.took is None:
            request.took = 0.0
        for artifact in self.artifacts:
            if artifact.took is None:
                artifact.took = self.now - artifact.at
                self.changed(artifact)
        self._notify()
        self._tell(self.head)

    def counted(self) -> None:
        """The choices have gone on: count their tokens."""
        self.head.completion_tokens = sum(choice.completion_tokens for choice in self._choices)

    # -- artifacts ----------------------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What the prompt was tokenized with; None where the request did not get that far."""
        return self._tokenizer

    @property
    def now(self) -> float:
        """Seconds since the request's head."""
        return self._clock() - self._began

    def add(
        self,
        lane: Lane,
        kind: str,
        label: str,
        data: dict[str, Any],
        source: str,
        *,
        of: Sequence[int] = (),
        at: float | None = None,
        took: float | None = 0.0,
        choice: int | None = None,
    ) -> int:
        """Record one artifact; returns its id, or -1 where the trace is full."""
        if self.head.redacted:
            data = _unsaid(data)
        self.size += 200 + sum(_weight(value) for value in data.values())
        if self.size > MAX_BYTES:
            self.head.dropped += 1
            return -1
        artifact = Artifact(
            id=len(self.artifacts),
            lane=lane,
            kind=kind,
            at=self.now if at is None else at,
            took=took,
            by="inference" if lane == "tokens" and kind == "step" else "translation",
            source=f"portico.{source}",
            of=sorted({id for id in of if id >= 0}),
            choice=choice,
            label=label,
            data=data,
        )
        self.artifacts.append(artifact)
        self.changed(artifact)
        return artifact.id

    def changed(self, artifact: Artifact) -> None:
        """Let those who follow know of an artifact that is new or has changed."""
        self.log.append(artifact)
        self._notify()

    def follow(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` whenever ``log`` has grown; returns what ends that."""
        key = object()
        self._listeners[key] = listener
        return lambda: self._listeners.pop(key, None) and None

    def shown(self, artifact: Artifact) -> dict[str, Any]:
        """The artifact for people and programs: plain values, tokens with their spelling beside their ids."""
        plain: dict[str, Any] = msgspec.to_builtins(artifact)
        ids = artifact.data.get("ids")
        if ids is not None and self._tokenizer is not None:
            spelled = self._tokenizer.token_bytes
            plain["data"]["pieces"] = [spelled(token).decode("utf-8", "replace") for token in ids]
        return plain

    def _stage(
        self, lane: Lane, kind: str, label: str, data: dict[str, Any], source: str, began: float, join: bool = False
    ) -> None:
        at = began - self._began
        goes_on = kind in ("constraint", "submitted")
        made = self.add(
            lane, kind, label, data, source, of=self._latest, at=at, took=None if goes_on else self.now - at
        )
        if goes_on and made >= 0:
            self._open.append(self.artifacts[made])
        self._latest = [*self._latest, made] if join else [made]

    def _close_stages(self) -> None:
        for artifact in self._open:
            artifact.took = self.now - artifact.at
            self.changed(artifact)
        self._open = []

    def _notify(self) -> None:
        for listener in list(self._listeners.values()):
            listener()


def spelled(data: bytes, name: str = "bytes") -> dict[str, Any]:
    """Bytes as JSON can hold them: as text where they are text, else in base64."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def exact_bytes(data: Mapping[str, Any], name: str = "bytes") -> bytes:
    """The bytes that ``spelled`` was given."""
    if "base64" in data:
        return base64.b64decode(data["base64"])
    text: str = data.get(name, "")
    return text.encode()


def _weight(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list | tuple):
        return 16 * len(value)
    return len(repr(value)) if isinstance(value, dict) else 8


def _unsaid(data: dict[str, Any]) -> dict[str, Any]:
    """``data`` without what was said: sizes in place of texts, tokens and fields."""
    kept: dict[str, Any] = {}
    for name, value in data.items():
        if name in TOLD:
            kept[name] = value
        elif name == "headers":
            kept[name] = [[header, text if header in TOLD_HEADERS else "…"] for header, text in value]
        elif name == "ids":
            kept["tokens"] = len(value)
        elif isinstance(value, str):
            kept["characters"] = kept.get("characters", 0) + len(value)
        elif isinstance(value, dict):
            kept[name] = len(value)
    return kept


def _layer_of(error: PorticoError, traceback: TracebackType | None) -> str:
    """The box that raised: that of the innermost frame inside one."""
    if isinstance(error, EngineError | EngineDeadError):
        return "engines"
    found = "server"
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        box = module.removeprefix("portico.").split(".")[0]
        if module.startswith("portico.") and box in LANE_OF_LAYER:
            found = box
        traceback = traceback.tb_next
    return found
