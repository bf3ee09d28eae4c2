"""Real tokenizers, real token streams, and the reference decode of each: the shared corpus, whole.

For every stream and cut: what is out is a prefix of the final text, at every token at least as long as can be known,
and after ``close()`` exactly the reference decode. Streams without a ``safe`` row are those where the reference itself
takes text back or decodes otherwise than byte by byte; there, text may differ next to U+FFFD and nowhere else.

The naive decoder, token by token, stays here as a control: it must be seen to break.
"""

from __future__ import annotations

import csv
import random
import re
from typing import Any

import pytest

from portico.decoding import Detokenizer
from portico.prompting.tokenizers import Tokenizer
from support.effort import EXHAUSTIVE
from support.shared import shared_path
from support.tokenizers import CORPUS_NAMES, cut, golden_rows, real


def agrees_apart_from_replacement(text: str, reference: str) -> bool:
    """Whether ``text`` is ``reference`` but for places where the reference has U+FFFD, and one character beside them.

    Nothing may be lost there either: both stand for the same number of bytes, a U+FFFD for one.
    """
    kept = re.split("(?s).?\ufffd+(?:.\ufffd+)*.?", reference)
    pattern = "(?s).*".join(map(re.escape, kept)).replace("(?s)", "")
    return re.fullmatch(pattern, text, re.DOTALL) is not None and size(text) == size(reference)


def size(text: str) -> int:
    return sum(1 if character == "\ufffd" else len(character.encode()) for character in text)


@pytest.mark.parametrize("step", [0, 1, 2, 3] if EXHAUSTIVE else [0, 1], ids=lambda step: str(step or "random"))
@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_golden_streams(name: str, step: int) -> None:
    tokenizer = real(name)
    chance = random.Random(f"{name}{step}")
    rows = golden_rows()[name]
    assert len(rows) > 30
    for row in rows:
        full, safe = row["full"], row["safe"]
        stream, out, seen = Detokenizer(tokenizer), "", 0
        for piece in cut(row["ids"], step, chance):
            out += stream.feed(piece)
            seen += len(piece)
            if safe is not None:
                assert full.startswith(out), row["text_id"]
                assert len(out) >= safe[seen - 1], row["text_id"]
        out += stream.close()
        if safe is not None:
            assert out == full, row["text_id"]
        else:
            assert out == full or agrees_apart_from_replacement(out, full), row["text_id"]


def test_streams_without_a_safe_row_are_exact_too_but_for_byte_fallback() -> None:
    """WordPiece, unknown pieces, specials inside characters: only decoders that take text back are not matched."""
    unmatched: dict[str, int] = {}
    for name, rows in golden_rows().items():
        tokenizer = real(name)
        for row in rows:
            stream = Detokenizer(tokenizer)
            if row["safe"] is None and stream.feed(row["ids"]) + stream.close() != row["full"]:
                unmatched[name] = unmatched.get(name, 0) + 1
    assert set(unmatched) <= {"llama2", "yi"}


@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_special_tokens_kept(name: str) -> None:
    """With special tokens shown the text is the reference's, where special tokens are text at all."""
    tokenizer = real(name)
    for row in golden_rows()[name]:
        expected = row.get("full_keep_special")
        if expected is not None and row["safe"] is not None:
            stream = Detokenizer(tokenizer, skip_special_tokens=False)
            out = stream.feed(row["ids"]) + stream.close()
            assert out == expected or agrees_apart_from_replacement(out, expected), row["text_id"]


def naive(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """The decoder that must be seen to fail: each token by itself."""
    return [tokenizer.decode([i]) for i in ids]


def control_table() -> dict[str, dict[str, str]]:
    with shared_path("corpus/naive_control.tsv").open(encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file, delimiter="\t")}


@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_the_naive_control_breaks_where_it_is_known_to(name: str) -> None:
    tokenizer = real(name)
    rows = golden_rows()[name]
    broken_streams = broken_tokens = ours = clean_broken = 0
    for row in rows:
        texts = naive(tokenizer, row["ids"])
        tokens = sum("\ufffd" in text for text in texts)
        broken_streams += "".join(texts).count("\ufffd") > row["full"].count("\ufffd")
        broken_tokens += tokens
        if row["kind"] == "encode":
            clean_broken += tokens > 0
            stream = Detokenizer(tokenizer)
            text = "".join([*(stream.feed([i]) for i in row["ids"]), stream.close()])
            ours += "\ufffd" in text and "\ufffd" not in row["full"]
    assert ours == 0
    table = control_table()[name]  # counted over all streams; a share of them is here
    assert broken_streams <= int(table["naive_fffd_streams"])
    assert broken_tokens <= int(table["naive_fffd_tokens"])
    assert (clean_broken > 5) == (int(table["clean_naive_fffd_streams"]) > 5)
    if int(table["nonutf8_tokens"]):
        assert clean_broken > len([row for row in rows if row["kind"] == "encode"]) // 4


def mismatched_streams(decode: Any) -> int:
    rows = [(real(name), row) for name in ("qwen3", "rwkv_world") for row in golden_rows()[name]]
    return sum(decode(tokenizer, row["ids"]) != row["full"] for tokenizer, row in rows)


def test_the_golden_rows_tell_decoders_apart() -> None:
    def streaming(tokenizer: Tokenizer, ids: list[int]) -> str:
        stream = Detokenizer(tokenizer)
        return "".join([*(stream.feed([i]) for i in ids), stream.close()])

    assert mismatched_streams(streaming) == 0
    assert mismatched_streams(lambda tokenizer, ids: "".join(naive(tokenizer, ids))) > 30
