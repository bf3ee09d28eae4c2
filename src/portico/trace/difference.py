"""The first difference between two traces of one request, layer by layer in the order of the line.

What layers make is compared: fields, prompt text, prompt tokens, constraint, sampling, text, events, the response's
head, and frames. Text, events and frames are compared with the engine step after which they came, so that holding back
longer is a difference too. Not compared, because it hangs on the clock and not on the code: times, which frames shared
a write, keep-alive comments.

What is made up anew for every request is put aside: ``created``, signatures of thinking, Anthropic's message ids, the
fresh part of its wrapped call ids, and ids of calls that the model did not write itself; these are numbered in the
order in which they appear. Request ids are not: a replay sends the recorded one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import zip_longest
from typing import Any, NamedTuple

from portico.trace.artifacts import Artifact, Fault, Lane
from portico.trace.export import Export
from portico.trace.record import exact_bytes

__all__ = ["Difference", "Made", "first_difference", "made"]

HEADS = ("the response's head", "the head of the stream")
HEADERS = ("content-type", "x-portico-warning")
FRESH = (
    (re.compile(r'"created":\d+'), '"created":0'),
    (re.compile(r'"signature":"[^"]*"'), '"signature":""'),
    (re.compile(r"\bmsg_[0-9a-f]{24}\b"), "msg_"),
    (re.compile(r"\btoolu_[0-9a-f]{12}x(?=[0-9a-f])"), "toolu_x"),
)


class Made(NamedTuple):
    """One thing that a layer made: what is compared of it, and where it is in its trace."""

    what: str
    step: int  # of its choice: how many steps had come
    value: Any
    artifact: Artifact

    @property
    def compared(self) -> tuple[Any, ...]:
        return self.what, self.artifact.choice, self.step, self.value


class Difference(NamedTuple):
    """Where two traces part: a layer, what it made then (None: nothing) and what it makes now.

    ``errors`` are the errors that the two requests ended with, if any.
    """

    lane: Lane
    expected: Made | None
    got: Made | None
    errors: tuple[Fault | None, Fault | None]


def first_difference(expected: Export, got: Export) -> Difference | None:
    """The first difference, in the order of the line; None where there is none."""
    errors = expected.trace.error, got.trace.error
    lanes: tuple[Lane, ...] = ("request", "prompt", "text", "events", "wire")
    for lane in lanes:
        for one, other in zip_longest(made(expected, lane), made(got, lane)):
            if one is None or other is None or one.compared != other.compared:
                return Difference(lane, one, other, errors)
    if _told(errors[0]) != _told(errors[1]):
        error = next((one for export in (expected, got) for one in export.of_kind("error")), None)
        return Difference(error.lane if error is not None else "wire", None, None, errors)
    return None


def _told(fault: Fault | None) -> tuple[Any, ...] | None:
    return None if fault is None else (fault.status, fault.code, fault.message, fault.param)


def made(export: Export, lane: Lane) -> list[Made]:
    """What is compared of one lane, in order."""
    plain = _plain(export)
    steps: dict[int | None, int] = {}
    found = []
    framed = bool(export.of_kind("frame"))
    for artifact in export.artifacts:
        if artifact.kind == "step":
            steps[artifact.choice] = steps.get(artifact.choice, 0) + 1
        elif artifact.lane == lane and (one := _compared(artifact, plain, framed)) is not None:
            what, value = one
            step = sum(steps.values()) if lane == "wire" else steps.get(artifact.choice, 0)
            found.append(Made(what, 0 if what in HEADS else step, value, artifact))
    found.sort(key=lambda one: one.what not in HEADS)  # they go out first, whenever they were made
    return found


def _compared(artifact: Artifact, plain: Callable[[str], str], framed: bool) -> tuple[str, Any] | None:
    """What the artifact is called, and what is compared of it; None for one that is not compared."""
    data, kind = artifact.data, artifact.kind
    if kind == "validated":
        return "the request's fields", data.get("fields")
    if kind == "prompt":
        return "the prompt", data.get("text")
    if kind == "prompt_tokens":
        return "the prompt's tokens", {"ids": data.get("ids"), "tail": data.get("tail")}
    if kind == "constraint":
        return "the grammar", data.get("lark")
    if kind == "submitted":
        return "what the engine was asked", {name: value for name, value in data.items() if name != "request_id"}
    if kind == "text":
        return "the text", data.get("text")
    if kind == "event":
        return f"{data.get('type')}", {name: plain(v) if isinstance(v, str) else v for name, v in data.items()}
    if kind == "response":
        headers = {name: value for name, value in data.get("headers", ()) if name in HEADERS}
        return HEADS[0], {"status": data.get("status"), **headers}
    if (kind == "frame" and not artifact.label.startswith("keep-alive")) or (kind == "chunk" and not framed):
        what = artifact.label if artifact.label in HEADS else "the bytes"
        return what, plain(exact_bytes(data).decode("utf-8", "backslashreplace"))
    return None


def _plain(export: Export) -> Callable[[str], str]:
    """What puts the made-up values of a trace aside."""
    written = "".join(artifact.data.get("text", "") for artifact in export.of_kind("text"))
    given = [artifact.data["id"] for artifact in export.of_kind("event") if artifact.data.get("type") == "CallStart"]
    fresh = dict.fromkeys(id.removeprefix("call_") for id in given if id and id not in written)
    names = {id: f"#{number}" for number, id in enumerate(fresh, 1)}

    def plain(text: str) -> str:
        for id, name in names.items():
            text = text.replace(id, name)
        for pattern, blank in FRESH:
            text = pattern.sub(blank, text)
        return text

    return plain
