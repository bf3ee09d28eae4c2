"""What a GGUF file says about the model in it, for people and for choosing how to serve it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from portico.models.catalogue import ModelKind
from portico.models.gguf import GGUF, read_gguf
from portico.models.parts import parts

__all__ = ["ModelFacts", "facts", "kind"]


@dataclass(frozen=True)
class ModelFacts:
    """``size`` is in bytes, of all its files, ``context_length`` in tokens; what the file does not say is None."""

    kind: ModelKind
    architecture: str | None
    context_length: int | None
    quantisation: str | None
    size: int


def facts(path: Path) -> ModelFacts:
    """Read them from the metadata of the GGUF file at ``path``. Raises ``GGUFError`` when it is none."""
    file = read_gguf(path)
    return ModelFacts(
        kind=_kind(file),
        architecture=file.architecture,
        context_length=file.metadata.get(f"{file.architecture}.context_length"),
        quantisation=_quantisation(file.metadata.get("general.file_type")),
        size=sum(part.stat().st_size for part in parts(path)),
    )


def kind(path: Path) -> ModelKind:
    """What the model at ``path`` is for. Raises ``GGUFError`` when it is none."""
    return _kind(read_gguf(path))


def _kind(file: GGUF) -> ModelKind:
    """An embedding model looks both ways or pools its tokens (pooling type 0 is none)."""
    looks_ahead = file.metadata.get(f"{file.architecture}.attention.causal") is False
    pools = file.metadata.get(f"{file.architecture}.pooling_type", 0) != 0
    return "embedding" if looks_ahead or pools else "chat"


def _quantisation(file_type: int | None) -> str | None:
    """llama.cpp's name for how most of the tensors are stored, such as ``Q4_1`` or ``F16``."""
    from gguf import LlamaFileType  # only here: it is slow to import

    if file_type is None:
        return None
    try:
        return LlamaFileType(file_type).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        return None
