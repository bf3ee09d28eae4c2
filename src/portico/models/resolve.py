"""From what a user calls a model to the file that holds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from portico.errors import ModelNotFoundError
from portico.models.catalogue import CATALOGUE, ModelKind
from portico.models.pull import pull
from portico.models.wheel import Progress

__all__ = ["ResolvedModel", "ensure", "resolve"]


@dataclass(frozen=True)
class ResolvedModel:
    """A model that is here: ``name`` is what it is served as, ``path`` its GGUF file."""

    name: str
    path: Path
    kind: ModelKind


def resolve(spec: str, progress: Progress | None = None) -> ResolvedModel:
    """Find the model ``spec``: a catalogue name (pulled if absent) or the path of a GGUF file.

    Raises ``ModelNotFoundError`` when there is no such thing and ``PullError`` when it cannot be fetched.
    """
    if model := CATALOGUE.get(spec):
        return ResolvedModel(spec, pull(model, progress), model.kind)
    path = Path(spec).expanduser()
    if path.is_file():
        return ResolvedModel(path.stem, path, "chat")
    raise ModelNotFoundError(f"no model {spec!r}: it is neither a file here nor one of {', '.join(CATALOGUE)}")


def ensure(spec: str, progress: Progress | None = None) -> Path:
    """The GGUF file of the model ``spec``, fetched if it is not here yet; see ``resolve``."""
    return resolve(spec, progress).path
