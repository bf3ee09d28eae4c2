"""A batch as the page of batches shows it, whoever's API made it. Times are seconds since 1970, and may be null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from portico.protocols.batches.record import ENDED, OPEN, Record, counts_of

__all__ = ["Example", "detailed", "shown"]

PATHS: Final = {"openai": "/v1/batches", "anthropic": "/v1/messages/batches"}


class Example(Struct, frozen=True):
    """A line that failed for that cause, and what its endpoint said."""

    cause: str
    custom_id: str
    message: str


def shown(
    id: str,
    kind: str,
    created_at: int,
    status: str,
    record: Record,
    running: Mapping[str | None, int],
    failures: Mapping[str, int],
) -> dict[str, Any]:
    """The batch in the list; ``running`` and ``failures`` say how its lines have come out so far, by outcome and by
    cause."""
    return {
        "id": id,
        "api": kind,
        "endpoint": record.endpoint,
        "model": record.model,
        "status": status,
        "total": record.total,
        **{str(outcome): count for outcome, count in counts_of(record, running).items()},
        "failures": record.failures if record.counts is not None else dict(failures),
        "created_at": created_at,
        "began_at": record.in_progress_at,
        "ended_at": record.ended_at,
        "expires_at": record.expires_at,
    }


def detailed(head: dict[str, Any], record: Record, examples: Sequence[Example]) -> dict[str, Any]:
    """All of it, with an example of each cause of failures, and where what belongs to it can be asked for."""
    path = f"{PATHS[head['api']]}/{head['id']}"
    return {
        **head,
        "metadata": record.metadata,
        "usage": None if record.usage is None else msgspec.to_builtins(record.usage),
        "problems": msgspec.to_builtins(record.problems),
        "examples": msgspec.to_builtins(examples),
        "cancel": f"{path}/cancel" if head["status"] in OPEN else None,
        "files": _files(head, record, path),
    }


def _files(head: Mapping[str, Any], record: Record, path: str) -> list[dict[str, str]]:
    if head["api"] == "openai":
        ids = {name: getattr(record, f"{name}_file_id") for name in ("input", "output", "error")}
        paths = {name: f"/v1/files/{id}/content" for name, id in ids.items() if id is not None}
    else:
        paths = {"results": f"{path}/results"} if head["status"] in ENDED else {}
    return [{"name": name, "path": path, "filename": f"{head['id']}_{name}.jsonl"} for name, path in paths.items()]
