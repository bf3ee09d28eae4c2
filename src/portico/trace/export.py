"""A trace as a file: the JSON that ``GET /inspect/traces/{id}`` answers with."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

from portico.trace.artifacts import Artifact, Head

__all__ = ["Export", "read_export"]


class Export(Struct):
    """One recorded request. ``facts`` say what served it (see ``portico.server.observe.export``), ``vocabulary`` holds
    the tokens that occur (see ``portico.trace.vocabulary``; None where there is none)."""

    trace: Head
    artifacts: list[Artifact]
    facts: dict[str, Any] = field(default_factory=dict)
    vocabulary: dict[str, Any] | None = None

    def of_kind(self, *kinds: str) -> list[Artifact]:
        """The artifacts of these kinds, in the order in which they were made."""
        return [artifact for artifact in self.artifacts if artifact.kind in kinds]


def read_export(data: bytes) -> Export:
    """Read an exported trace. Raises ``ValueError`` for anything else."""
    try:
        return msgspec.json.decode(data, type=Export)
    except msgspec.DecodeError as error:
        raise ValueError(f"This is no exported trace: {error}.") from None
