"""The converted MiniLM against its original: same tokens, same vectors, in the real llama.cpp."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from portico.models import PullError
from portico.models.bert import NORMALIZE_KEY, convert
from portico.models.gguf import read_gguf
from support.bert import Array, embedded
from support.shared import ROOT

HANGUL = "서울"
TEXTS = [
    "A bridge crosses the river.",
    "Zwei Brücken überqueren den Fluß; déjà vu, naïve façade.",
    "東京は日本の首都です。",
    HANGUL,
    "def f(x):\n    return x ** 2  # squares",
    "🦜 parrots 🌍 world",
    "",
    "UPPER lower MiXeD antidisestablishmentarianism 1234567890 $9.99",
    "the quick brown fox jumps over the lazy dog " * 20,
]


@pytest.fixture(scope="module")
def reference(minilm_checkpoint: Path) -> list[tuple[list[int], Array]]:
    """Token ids and vector of every text, by Hugging Face's tokenizer and numpy on the original weights."""
    return embedded(minilm_checkpoint, TEXTS)


@pytest.fixture(scope="module")
def served(minilm_path: Path, reference: list[tuple[list[int], Array]]) -> list[tuple[list[int], Array]]:
    """By llama.cpp on the converted file: each text in its own tokenizer, and the vector of the reference's ids."""
    child = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "llamacpp_embed.py"), str(minilm_path)],
        input=json.dumps([[text, ids] for text, (ids, _) in zip(TEXTS, reference, strict=True)]),
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_WAIT_POLICY": "passive", "GGML_NO_BACKTRACE": "1"},
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    return [(ids, np.array(vector, dtype=np.float32)) for ids, vector in json.loads(child.stdout)]


def test_the_vocabulary_is_that_of_the_original(
    reference: list[tuple[list[int], Array]], served: list[tuple[list[int], Array]]
) -> None:
    """Hangul apart, which llama.cpp does not decompose; the ``tokenizer.json`` beside the weights does."""
    for text, (ours, _), (theirs, _) in zip(TEXTS, served, reference, strict=True):
        if text != HANGUL:
            assert ours == theirs, text


def test_vectors_are_those_of_the_original(
    reference: list[tuple[list[int], Array]], served: list[tuple[list[int], Array]]
) -> None:
    cosines = [float(ours @ theirs) for (_, ours), (_, theirs) in zip(served, reference, strict=True)]
    assert min(cosines) >= 0.9999, cosines
    assert all(abs(np.linalg.norm(vector) - 1) < 1e-3 for _, vector in served)


def test_the_tokenizer_beside_it_neither_pads_nor_truncates(
    minilm_path: Path, reference: list[tuple[list[int], Array]]
) -> None:
    tokenizer = Tokenizer.from_file(str(minilm_path.with_name("tokenizer.json")))
    assert [tokenizer.encode(text).ids for text in TEXTS] == [ids for ids, _ in reference]
    assert max(len(ids) for ids, _ in reference) > 128  # where the file as published cuts


def test_metadata(minilm_path: Path) -> None:
    metadata = read_gguf(minilm_path).metadata
    assert metadata["bert.pooling_type"] == 1  # mean
    assert metadata[NORMALIZE_KEY] is True
    assert metadata["bert.context_length"] == 512
    assert metadata["bert.embedding_length"] == 384
    assert metadata["tokenizer.ggml.model"] == "bert"
    assert len(metadata["tokenizer.ggml.tokens"]) == 30522


@pytest.mark.parametrize(
    ("file", "change", "complaint"),
    [
        ("config.json", {"model_type": "roberta"}, "only BERT encoders"),
        ("config.json", {"position_embedding_type": "relative_key"}, "only BERT encoders"),
        ("config.json", {"num_hidden_layers": 2}, "has a tensor that a BERT encoder does not"),
        ("pooling.json", {"pooling_mode_max_tokens": True}, "pools in a way"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    minilm_checkpoint: Path, tmp_path: Path, file: str, change: dict[str, object], complaint: str
) -> None:
    for original in minilm_checkpoint.iterdir():
        (tmp_path / original.name).symlink_to(original)
    (tmp_path / file).unlink()
    (tmp_path / file).write_text(json.dumps({**json.loads((minilm_checkpoint / file).read_bytes()), **change}))
    with pytest.raises(PullError, match=complaint):
        convert(tmp_path, tmp_path / "out.gguf", name="x", licence="x", progress=lambda step, done, total: None)
