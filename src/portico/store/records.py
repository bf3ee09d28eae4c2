"""What goes into the store and comes out of it: values, no behaviour. Items and bodies are JSON objects."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

__all__ = [
    "RUNNING",
    "BrokenChainError",
    "LineFailures",
    "NewLine",
    "NewResult",
    "StoredBatch",
    "StoredConversation",
    "StoredFile",
    "StoredItem",
    "StoredLine",
    "StoredResponse",
]

RUNNING = frozenset({"queued", "in_progress"})  # the statuses of a response that has not ended


class StoredResponse(Struct, frozen=True, kw_only=True):
    """A response: what was given in its request, what came out, and the whole object as it is shown.

    ``owner`` is the digest of the API key, empty without keys; ``created_at`` is in unix seconds. ``input`` holds the
    items of this request alone, with ids. ``body`` is without the input; its ``output``, where it has one, is taken
    from ``output``.
    """

    id: str
    owner: str
    created_at: int
    status: str
    model: str
    previous_id: str | None = None
    conversation_id: str | None = None
    background: bool = False
    input: list[dict[str, Any]] = field(default_factory=list)
    output: list[dict[str, Any]] = field(default_factory=list)
    body: dict[str, Any] = field(default_factory=dict)


class StoredConversation(Struct, frozen=True, kw_only=True):
    """A conversation without its items; ``created_at`` is in unix seconds."""

    id: str
    owner: str
    created_at: int
    metadata: dict[str, Any]


class StoredItem(Struct, frozen=True):
    """An item of a conversation. ``position`` grows with every item that is added."""

    id: str
    position: int
    item: dict[str, Any]


class StoredFile(Struct, frozen=True, kw_only=True):
    """A file without its bytes; ``size`` is how many they are. Times are in unix seconds; ``filename`` is data."""

    id: str
    owner: str
    created_at: int
    filename: str
    purpose: str
    size: int = 0
    expires_at: int | None = None


class StoredBatch(Struct, frozen=True, kw_only=True):
    """A batch without its lines. ``kind`` says whose API it was made by; what else is known of it is ``body``.
    ``reads`` is the file that its lines are in: its bytes stay until the batch ends, also if it is deleted. ``ended``:
    nothing of it changes any more."""

    id: str
    owner: str
    kind: str
    created_at: int
    status: str
    reads: str | None = None
    ended: bool = False
    body: dict[str, Any] = field(default_factory=dict)


class NewLine(Struct, frozen=True):
    """A line of a batch: its number, from 0 in the order they were given, its place among those that are to be run, and
    what is asked, in JSON."""

    number: int
    place: int
    request: bytes


class StoredLine(Struct, frozen=True):
    """A line and how it came out: ``outcome`` is None until then, ``result`` for one that was given up. ``request`` is
    None where nobody asked for it."""

    number: int
    place: int
    outcome: str | None = None
    request: bytes | None = None
    result: bytes | None = None


class NewResult(Struct, frozen=True):
    """How the line of that number came out, and the JSON that tells it; ``cause`` says why where it is an error."""

    number: int
    outcome: str
    result: bytes
    cause: str | None = None


class LineFailures(Struct, frozen=True):
    """How many lines failed for that cause, and the number of the first of them."""

    cause: str
    count: int
    first: int


class BrokenChainError(LookupError):
    """A response's ancestor ``id`` is no longer kept."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.id = id
