"""Log-probabilities: real bytes, OpenAI's shapes, offsets that point at the text."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.decoding import CompletionLogprobs, Detokenizer, chat_logprobs
from portico.decoding.logprobs import prompt_logprobs
from portico.events import TokenLogprob
from portico.prompting.tokenizers import Tokenizer, load_tokenizer
from support.effort import examples
from support.tokenizers import byte_level, sp_bpe

TEXT = "Hi \U0001f680, na\u00efve!"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(byte_level(tmp_path_factory.mktemp("logprobs") / "byte_level"))


def entries(ids: list[int]) -> list[TokenLogprob]:
    return [TokenLogprob(i, -0.5 * n, ((i, -0.5 * n), (5, -3.0), (6, -math.inf))) for n, i in enumerate(ids)]


def test_chat_shape(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TEXT)
    content = chat_logprobs(entries(ids), tokenizer)
    assert b"".join(bytes(entry["bytes"]) for entry in content).decode() == TEXT
    assert [entry["logprob"] for entry in content] == [-0.5 * n for n in range(len(ids))]
    for entry in content:
        assert set(entry) == {"token", "logprob", "bytes", "top_logprobs"}
        assert [set(top) for top in entry["top_logprobs"]] == [{"token", "logprob", "bytes"}] * 3
        assert entry["top_logprobs"][2]["logprob"] == -9999.0
    assert "\ufffd" not in json.dumps(content, ensure_ascii=False, allow_nan=False)


def test_a_part_of_a_character_is_spelled_in_bytes(tokenizer: Tokenizer) -> None:
    part = next(i for i in range(tokenizer.vocab_size) if tokenizer.token_bytes(i) == b"\xf0")
    other = next(i for i in range(tokenizer.vocab_size) if tokenizer.token_bytes(i) == b"\x9f")
    entry = TokenLogprob(part, -1.0, ((part, -1.0), (other, -2.0)))
    (chat,) = chat_logprobs([entry], tokenizer)
    assert (chat["token"], chat["bytes"]) == ("\\xf0", [0xF0])
    lists = CompletionLogprobs(tokenizer).feed([entry])
    assert lists["tokens"] == ["bytes:\\xf0"]
    assert lists["top_logprobs"] == [{"bytes:\\xf0": -1.0, "bytes:\\x9f": -2.0}]  # two, not one U+FFFD


class Pieces:
    """A vocabulary of these tokens."""

    def __init__(self, *pieces: bytes) -> None:
        self.token_bytes = pieces.__getitem__


def test_prompt_shape() -> None:
    pieces: Any = Pieces(b"a", b"\xf0\x9f", b"\xff")
    first = TokenLogprob(0, -1.0, ((1, -0.5), (0, -1.0)))
    other = TokenLogprob(2, -math.inf, ((1, -0.5), (0, math.nan)))
    assert prompt_logprobs([None, first, other], pieces) == [
        None,
        {
            "0": {"logprob": -1.0, "rank": 2, "decoded_token": "a"},
            "1": {"logprob": -0.5, "rank": 1, "decoded_token": "\\xf0\\x9f"},
        },
        {
            "2": {"logprob": -9999.0, "decoded_token": "\\xff"},
            "1": {"logprob": -0.5, "rank": 1, "decoded_token": "\\xf0\\x9f"},
            "0": {"logprob": -9999.0, "rank": 2, "decoded_token": "a"},
        },
    ]
    (_, found) = prompt_logprobs([None, other], pieces, as_ids=True)
    assert found is not None
    assert {token: one["decoded_token"] for token, one in found.items()} == {one: f"token_id:{one}" for one in "210"}


def test_tokens_as_ids(tokenizer: Tokenizer) -> None:
    (chat,) = chat_logprobs([TokenLogprob(7, -1.0, ((8, -2.0),))], tokenizer, as_ids=True)
    assert chat["token"] == "token_id:7"
    assert chat["bytes"] == list(tokenizer.token_bytes(7))
    assert chat["top_logprobs"][0]["token"] == "token_id:8"
    lists = CompletionLogprobs(tokenizer, as_ids=True).feed([TokenLogprob(7, -1.0, ((8, -2.0),))])
    assert (lists["tokens"], lists["top_logprobs"]) == (["token_id:7"], [{"token_id:8": -2.0, "token_id:7": -1.0}])


def test_what_json_cannot_say(tokenizer: Tokenizer) -> None:
    for value in (-math.inf, math.nan, -1e9):
        (chat,) = chat_logprobs([TokenLogprob(7, value)], tokenizer)
        assert chat["logprob"] == -9999.0


@settings(max_examples=examples(40))
@given(ids=st.lists(st.integers(0, 443), max_size=30), cuts=st.integers(1, 5))
def test_offsets_point_at_the_text(tokenizer: Tokenizer, ids: list[int], cuts: int) -> None:
    stream = Detokenizer(tokenizer)
    text = stream.feed(ids) + stream.close()
    logprobs = CompletionLogprobs(tokenizer)
    lists: dict[str, list[object]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for start in range(0, len(ids), cuts):
        for name, values in logprobs.feed(entries(ids[start : start + cuts])).items():
            lists[name] += values
    assert {len(values) for values in lists.values()} == {len(ids)}
    offsets: list[int] = lists["text_offset"]  # type: ignore[assignment]
    assert offsets == sorted(offsets)
    for position, token_id in enumerate(ids):
        assert offsets[position] == len(Detokenizer(tokenizer).feed(ids[:position]))
        piece = tokenizer.token_bytes(token_id)
        whole = piece.decode("utf-8", "ignore").encode() == piece and token_id not in tokenizer.special_ids
        if whole and not held_before(tokenizer, ids[:position]):
            assert text.startswith(piece.decode(), offsets[position])


def held_before(tokenizer: Tokenizer, ids: list[int]) -> bytes:
    stream = Detokenizer(tokenizer)
    stream.feed(ids)
    return stream.held


def test_an_echoed_prompt_comes_first(tokenizer: Tokenizer) -> None:
    prompt, answer = tokenizer.encode("the dog "), tokenizer.encode("jumps")
    logprobs = CompletionLogprobs(tokenizer)
    echoed = logprobs.prompt(prompt, [None, *entries(prompt[1:])])
    assert (echoed["token_logprobs"][0], echoed["top_logprobs"][0]) == (None, None)
    assert logprobs.feed(entries(answer))["text_offset"][0] == len("the dog ")


def test_the_leading_space_of_sentencepiece_counts_only_inside_a_text(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(sp_bpe(tmp_path / "sp"))
    first, *_ = tokenizer.encode("the dog")
    assert tokenizer.token_bytes(first).startswith(b" ")
    alone, primed = CompletionLogprobs(tokenizer), CompletionLogprobs(tokenizer, prompt_ids=tokenizer.encode("and"))
    for logprobs, space in ((alone, 0), (primed, 1)):
        logprobs.feed([TokenLogprob(first, -1.0)])
        offset = logprobs.feed([TokenLogprob(first, -1.0)])["text_offset"][0]
        assert offset == len(tokenizer.token_bytes(first)) - 1 + space
