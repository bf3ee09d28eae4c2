"""The values of a trace: what one layer made for one request, and the head that sums a request up.

Lanes, in the order of the line: ``request`` (what came in), ``prompt`` (what the engine was asked), ``tokens`` (what it
answered), ``text``, ``events``, ``wire``. Everything in ``tokens`` is inference; all else is translation.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct, field

__all__ = ["LANES", "Artifact", "Fault", "Head", "Lane"]

Lane: TypeAlias = Literal["request", "prompt", "tokens", "text", "events", "wire"]
LANES: tuple[Lane, ...] = ("request", "prompt", "tokens", "text", "events", "wire")


class Artifact(Struct):
    """One thing that one layer made.

    ``at`` is in seconds after the request's head, ``took`` in seconds (None: not over yet); ``of`` are the ids of the
    artifacts it was made from, ``source`` the box that made it.
    """

    id: int
    lane: Lane
    kind: str
    at: float
    took: float | None
    by: Literal["translation", "inference"]
    source: str
    of: list[int]
    choice: int | None
    label: str
    data: dict[str, Any]


class Fault(Struct):
    """Why a request was refused or failed, and by which layer."""

    layer: str
    status: int
    code: str
    message: str
    param: str | None = None


class Head(Struct):
    """A request in one line. Times are seconds; ``began`` is Unix time, the others count from there."""

    id: str
    request_id: str
    method: str
    path: str
    began: float
    redacted: bool
    model: str | None = None
    asked: str | None = None  # the beginning of what was said last, unless it is redacted
    tools: int = 0  # that were offered
    state: Literal["open", "ok", "refused", "failed", "gone"] = "open"
    status: int = 0
    stream: bool = False
    seconds: float | None = None
    first_token: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None  # of the prompt's, those that the engine did not compute again
    completion_tokens: int | None = None
    finish: str | None = None
    error: Fault | None = None
    stages: dict[str, float] = field(default_factory=dict)  # of the way to the engine: name -> seconds
    response: str | None = None  # the id of what is made, where others can follow it
    previous: str | None = None  # the id of the response that it follows
    conversation: str | None = None  # the id of the conversation that it is added to
    background: bool = False
    dropped: int = 0  # artifacts that were not recorded because the trace had reached its bound
