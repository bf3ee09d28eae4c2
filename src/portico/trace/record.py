"""What the parts of a trace write into: artifacts, each with what it was made from.

A record is bounded: over ``MAX_BYTES`` its head goes on counting while further artifacts are dropped. A redacted record
holds shapes and times but no word of what was said.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import msgspec

from portico.errors import EngineDeadError, EngineError, PorticoError
from portico.generation import Choice
from portico.prompting import Tokenizer
from portico.trace.artifacts import Artifact, Fault, Head, Lane

__all__ = ["Clock", "Record", "exact_bytes", "layer_of", "spelled"]

MAX_BYTES = 64 << 20
# What a redacted trace keeps. Everything else is what was said, or may be: headers, fields and errors repeat it.
TOLD = frozenset(
    {"method", "path", "status", "last", "choices", "tool_parser", "reasoning_parser", "finish_reason", "cached_tokens",
     "layer", "reason", "type", "index", "code"}
)  # fmt: skip
TOLD_HEADERS = frozenset(
    {"accept", "accept-encoding", "anthropic-version", "cache-control", "connection", "content-length", "content-type",
     "host", "request-id", "retry-after", "user-agent", "x-portico-trace-id", "x-request-id"}
)  # fmt: skip
ENGINES_OWN = ("step", "embedding")  # of the tokens' lane
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


class Record:
    """The artifacts of one request, in the order in which they were made; ``head`` sums them up.

    ``log`` has every artifact made or changed, for those who follow. The rest says what the next artifact is made
    from: the ``latest`` stage, the request as the engine has it (``submitted_as``), what a choice's last step came to
    (``made``), the ends of choices (``finishes``), and bytes that are not written yet (``frames``).
    """

    def __init__(self, head: Head, clock: Clock, began: float) -> None:
        self.head = head
        self.artifacts: list[Artifact] = []
        self.log: list[Artifact] = []
        self.size = 0  # bytes, roughly
        self.latest: list[int] = []
        self.submitted_as: list[int] = []
        self.made: list[int] = []
        self.finishes: list[int] = []
        self.frames: list[int] = []
        self.choices: list[Choice] = []
        self.tokenizer: Tokenizer | None = None  # what the prompt was tokenized with, once the request got that far
        self._clock, self._began = clock, began
        self._listeners: dict[object, Callable[[], None]] = {}

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
        self.size += 500 + _weight(data) + 8 * len(of)
        if self.size > MAX_BYTES:
            self.head.dropped += 1
            return -1
        artifact = Artifact(
            id=len(self.artifacts),
            lane=lane,
            kind=kind,
            at=self.now if at is None else at,
            took=took,
            by="inference" if lane == "tokens" and kind in ENGINES_OWN else "translation",
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
        if ids is not None and self.tokenizer is not None:
            spelled = self.tokenizer.token_bytes
            plain["data"]["pieces"] = [spelled(token).decode("utf-8", "replace") for token in ids]
        return plain

    # -- what several parts tell --------------------------------------------------------------------------------------

    def framed(self, data: bytes, of: Sequence[int], label: str = "", *, first: bool = False) -> None:
        """The protocol's encoder has made these bytes; ``first``: they go before what is not written yet."""
        made = self.add("wire", "frame", label or f"{len(data)} bytes", spelled(data), "protocols", of=of)
        if made >= 0:
            self.frames.insert(0, made) if first else self.frames.append(made)

    def faulty(self, error: PorticoError, raised: BaseException | None = None) -> int:
        """The request ends with ``error``; ``raised`` is what was raised, where that is something else."""
        layer = layer_of(error, (raised or error).__traceback__)
        status = self.head.status or error.status
        fault = Fault(layer, status, error.code or error.type, error.message, error.param)
        if self.head.redacted:  # errors name what they do not like
            fault.message = "(redacted)"
            fault.param = re.split(r"[.\[]", error.param)[0] if error.param else None
        self.head.error = fault
        lane = LANE_OF_LAYER[layer]
        data = msgspec.to_builtins(fault)
        made = self.add(lane, "error", f"{fault.status} {fault.code}", data, layer, of=self.made or self.latest)
        self.latest = [made]
        self.made = []
        return made

    def counted(self) -> None:
        """The choices have gone on: count their tokens."""
        self.head.completion_tokens = sum(choice.completion_tokens for choice in self.choices)

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
    """Bytes of memory, roughly."""
    if isinstance(value, str):
        return 50 + len(value) * (1 if value.isascii() else 3)
    if isinstance(value, dict):
        return 200 + sum(_weight(name) + _weight(one) for name, one in value.items())
    if isinstance(value, list | tuple):
        flat = 60 + 36 * len(value)
        nested = value and (isinstance(value[0], list | tuple | dict | str) or isinstance(value[-1], list | tuple))
        return flat + sum(map(_weight, value)) if nested else flat
    return 0  # numbers are counted with what holds them


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


def layer_of(error: PorticoError, traceback: TracebackType | None) -> str:
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
