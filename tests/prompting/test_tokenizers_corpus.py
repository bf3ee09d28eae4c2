"""The real tokenizers of the shared corpus: the ids and texts their libraries gave, recorded; and by the fast way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from support.tokenizers import CORPUS_NAMES, golden_rows, real, unpacked

FAST = ["deepseek_v3", "llama2", "qwen3", "yi"]
OTHERS = ("sp_", "tt_", "tekken", "rwkv")  # not of the tokenizers library; their ids were recorded as of plain text


def encoded_rows(name: str) -> list[dict[str, Any]]:
    return [row for row in golden_rows()[name] if row["kind"] == "encode"]


@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_encode_gives_the_recorded_ids(name: str) -> None:
    tokenizer = real(name)
    for row in encoded_rows(name):
        ids = tokenizer.encode(row.get("text", row["full"]), parse_special=not name.startswith(OTHERS))
        assert ids == row["ids"], row["text_id"]


@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_decode_gives_the_recorded_text(name: str) -> None:
    tokenizer = real(name)
    for row in golden_rows()[name]:
        assert tokenizer.decode(row["ids"]) == row["full"], row["text_id"]


@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_round_trip(name: str) -> None:
    """Where the recorded round trip lost nothing, ours does not either; ids are stable under decode and encode."""
    tokenizer = real(name)
    for row in encoded_rows(name):
        if "text" not in row:
            ids = tokenizer.encode(row["full"], parse_special=not name.startswith(OTHERS))
            assert tokenizer.decode(ids) == row["full"], row["text_id"]


@pytest.mark.parametrize("name", [name for name in CORPUS_NAMES if name.startswith("sp_")])
def test_sentencepiece_ids_are_the_librarys(name: str) -> None:
    (file,) = (unpacked() / name).glob("*.model*")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
    tokenizer = real(name)
    for row in golden_rows()[name]:
        text = row.get("text", row["full"])
        assert tokenizer.encode(text, parse_special=False) == processor.encode(text)
        assert tokenizer.decode(row["ids"]) == processor.decode(row["ids"])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_the_fast_way_gives_the_same_ids(name: str) -> None:
    tokenizer = real(name)
    tokenizer.warm()
    assert tokenizer._fast.ready is not None  # type: ignore[attr-defined]
    source = Path(__file__).read_text(encoding="utf-8")
    for text in [*(row.get("text", row["full"]) for row in golden_rows()[name]), source]:
        for parse_special in (True, False):
            expected = tokenizer._encode_reference(text, parse_special)  # type: ignore[attr-defined]
            assert tokenizer.encode(text, parse_special=parse_special) == expected


@pytest.mark.parametrize(
    ("name", "roles", "prefix", "ends"),
    [
        ("qwen3", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, (), {151645}),
        ("llama2", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, (1,), {2}),
        ("sp_mistral_v3", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, (1,), {2}),
        ("tt_qwen", {"eos_token": "<|im_end|>"}, (), {151643, 151645}),
        ("rwkv_world", {"eos_token": "<|endoftext|>"}, (), {0}),
        ("all_minilm_l6_v2", None, (101,), set()),
        ("deepseek_v3", None, (0,), {1}),
    ],
)
def test_roles(name: str, roles: dict[str, str] | None, prefix: tuple[int, ...], ends: set[int]) -> None:
    tokenizer = real(name)
    assert roles is None or tokenizer.special_tokens == roles
    assert tokenizer.special.prefix_ids == prefix
    assert tokenizer.eos_token_ids == ends
