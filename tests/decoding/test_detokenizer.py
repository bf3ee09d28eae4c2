"""The laws of the detokenizer, over small tokenizers of every kind and any token ids."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from portico.decoding import Detokenizer
from portico.prompting.tokenizers import Tokenizer, load_tokenizer
from portico.prompting.tokenizers.tiktoken import load_tiktoken
from support.effort import examples
from support.tokenizers import ADDED, BYTES, HUGGING_FACE, LINES, SENTENCEPIECE, cut, tiktoken_file
from support.work import calls, growth

KINDS = [*HUGGING_FACE, *SENTENCEPIECE, *BYTES, "tiktoken"]
TABLELESS = ["word_ends", "rewritten_bytes"]
TABULAR = [kind for kind in KINDS if kind not in TABLELESS]

_made: dict[str, tuple[Path, Tokenizer]] = {}


@pytest.fixture(scope="session", autouse=True)
def _make_all(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("small")
    for kind, make in {**HUGGING_FACE, **SENTENCEPIECE, **BYTES}.items():
        path = make(base / kind)
        _made[kind] = (path, load_tokenizer(path))
    path = tiktoken_file(base / "tiktoken")
    tokenizer = load_tiktoken(path, pattern=r"[^\s]+|\s+", special_tokens={"<|end|>": 600, "<|tool|>": 601})
    _made["tiktoken"] = (path, tokenizer)


def made(kind: str) -> Tokenizer:
    return _made[kind][1]


# Any ids, beyond every vocabulary too; and characters a byte at a time, cut anywhere, special tokens among them.
ID = st.integers(0, 620)
BYTE = st.integers(0, 255).map(lambda byte: bytes([byte]))
SPELLED = st.sampled_from(["\U0001f680", "\u00e9", "\u4e2d"]).map(lambda text: [bytes([b]) for b in text.encode()])
BROKEN = st.builds(lambda parts, at: [*parts[:at], SPECIAL, *parts[at:]], SPELLED, st.integers(1, 3))
SPACE = st.just([b" "])
SPECIAL = "special"
ITEMS = st.lists(
    ID.map(lambda i: [i]) | BYTE.map(lambda b: [b]) | SPELLED | BROKEN | SPACE | st.just([SPECIAL]), max_size=16
)
IDS = ITEMS.map(lambda items: [part for item in items for part in item]).flatmap(
    lambda flat: st.integers(0, 3).map(lambda less: flat[: len(flat) - less] if less else flat)
)


def resolved(tokenizer: Tokenizer, parts: Sequence[int | bytes | str]) -> list[int]:
    """``parts`` as ids: a byte is the token of that byte where there is one, SPECIAL a special token."""
    singles = _singles(tokenizer)
    special = max(tokenizer.special_ids)
    found = [special if part == SPECIAL else singles.get(part) if isinstance(part, bytes) else part for part in parts]
    return [i for i in found if isinstance(i, int)]


@cache
def _singles(tokenizer: Tokenizer) -> dict[bytes, int]:
    return {tokenizer.token_bytes(i): i for i in range(tokenizer.vocab_size)}


def streamed(tokenizer: Tokenizer, pieces: Sequence[Sequence[int]], **options: object) -> str:
    stream = Detokenizer(tokenizer, **options)  # type: ignore[arg-type]
    return "".join([*(stream.feed(piece) for piece in pieces), stream.close()])


def single_bytes(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of the tokens that are the single bytes of ``text``."""
    return [_singles(tokenizer)[bytes([byte])] for byte in text.encode()]


def each_byte(data: bytes) -> str:
    return "".join("\ufffd" if "\udc80" <= c <= "\udcff" else c for c in data.decode("utf-8", "surrogateescape"))


def byte_fallback_reference(tokenizer: Tokenizer, ids: Sequence[int], strip: bool) -> str:
    """What a byte-fallback decoder means, without its habit of taking whole runs back: a bad byte is one U+FFFD."""
    out, run = "", b""
    for token_id in [i for i in ids if i not in tokenizer.special_ids]:
        token = tokenizer.id_to_token(token_id)
        if token is None:
            continue
        if token.startswith("<0x") and len(token) == 6:
            run += bytes([int(token[3:5], 16)])
            continue
        out += each_byte(run) + token.replace("\u2581", " ")
        run = b""
    out += each_byte(run)
    return out[1:] if strip and out.startswith(" ") else out


def reference(kind: str, ids: Sequence[int]) -> str:
    """The final text by the library the tokenizer came from, or by definition where there is none."""
    path, tokenizer = _made[kind]
    if kind in ("llama_like", "gemma_like"):
        return byte_fallback_reference(tokenizer, ids, strip=kind == "llama_like")
    if kind in HUGGING_FACE:
        backend = Backend.from_file(str(path / "tokenizer.json"))
        text: str = backend.decode([i for i in ids if i < tokenizer.vocab_size], skip_special_tokens=True)
        return text
    if kind in SENTENCEPIECE:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path / "tokenizer.model"))
        text = processor.decode([i for i in ids if i < tokenizer.vocab_size])
        return text
    pieces = [tokenizer.token_bytes(i) for i in ids if i not in tokenizer.special_ids]
    if kind != "tekken":
        return b"".join(pieces).decode("utf-8", "replace")
    runs = [b""]  # mistral-common decodes what stands between special tokens piece by piece
    for token_id in ids:
        if token_id in tokenizer.special_ids:
            runs.append(b"")
        else:
            runs[-1] += tokenizer.token_bytes(token_id)
    return "".join(run.decode("utf-8", "replace") for run in runs)


@pytest.mark.parametrize("kind", TABULAR)
@settings(max_examples=examples(60))
@given(ids=IDS, seed=st.integers(0, 99))
def test_any_ids_in_any_cut_give_the_reference_decode(kind: str, ids: list[Any], seed: int) -> None:
    tokenizer = made(kind)
    ids = resolved(tokenizer, ids)
    expected = reference(kind, ids)
    for step in (0, 1, 2, 3):
        assert streamed(tokenizer, cut(ids, step, random.Random(seed))) == expected


@pytest.mark.parametrize("kind", TABULAR)
@settings(max_examples=examples(30))
@given(ids=IDS)
def test_nothing_is_held_but_the_beginning_of_a_character(kind: str, ids: list[Any]) -> None:
    tokenizer = made(kind)
    ids = resolved(tokenizer, ids)
    stream, whole = Detokenizer(tokenizer), Detokenizer(tokenizer)
    out = ""
    for count, token_id in enumerate(ids, start=1):
        out += stream.feed([token_id])
        held = stream.held
        assert len(held) <= 3
        surrogate = held[:1] == b"\xed" and held[1:2] >= b"\xa0"  # Python's decoder waits for its third byte
        if held and not surrogate:  # some continuation makes it a character: it is truncated, not invalid
            with pytest.raises(UnicodeDecodeError, match="unexpected end of data"):
                held.decode()
        assert out == Detokenizer(tokenizer).feed(ids[:count])  # one step or many: the same is out
    assert out == whole.feed(ids)


@pytest.mark.parametrize("kind", TABULAR)
@settings(max_examples=examples(50))
@given(whole=IDS, at=st.integers(0, 30), tail=st.integers(6, 40))
def test_a_prompt_sets_the_scene_and_leaks_nothing(kind: str, whole: list[Any], at: int, tail: int) -> None:
    tokenizer = made(kind)
    prompt, ids = resolved(tokenizer, whole[:at]), resolved(tokenizer, whole[at:])
    before = Detokenizer(tokenizer)
    shown = before.feed(prompt)
    after = streamed(tokenizer, [prompt, ids])[len(shown) :]
    owed = before.close()  # what the prompt's own open character amounts to, if the answer does not complete it
    expected = after.removeprefix(owed)
    assert streamed(tokenizer, [[i] for i in ids], prompt_ids=prompt) == expected
    if shown and not tokenizer.special_ids & set(prompt[-tail:]):
        shown_by_tail = Detokenizer(tokenizer).feed(prompt[-tail:])
        if shown_by_tail.strip("\ufffd"):
            assert streamed(tokenizer, [ids], prompt_ids=prompt[-tail:]) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_text_survives_token_by_token(kind: str) -> None:
    tokenizer = made(kind)
    for line in LINES:
        ids = tokenizer.encode(line)
        expected = tokenizer.decode(ids)
        stream, out = Detokenizer(tokenizer), ""
        for token_id in ids:
            out += stream.feed([token_id])
            assert expected.startswith(out)
        assert out + stream.close() == expected
        assert "\ufffd" not in out


class Tableless:
    """A tokenizer whose table is out of reach, so that the general way is taken."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.table = None
        self.special_ids = tokenizer.special_ids
        self.token_to_id = tokenizer.token_to_id
        self.token_bytes = tokenizer.token_bytes
        self.decode = tokenizer.decode


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(20))
@given(lines=st.lists(st.sampled_from(LINES), min_size=1, max_size=4), seed=st.integers(0, 99), step=st.integers(0, 3))
def test_the_general_way_gives_the_reference_decode(kind: str, lines: list[str], seed: int, step: int) -> None:
    tokenizer = made(kind)
    ids = tokenizer.encode(" ".join(lines))
    expected = tokenizer.decode(ids)
    stream, out = Detokenizer(Tableless(tokenizer)), ""
    for piece in cut(ids, step, random.Random(seed)):
        out += stream.feed(piece)
        assert expected.startswith(out)
    assert out + stream.close() == expected


@settings(max_examples=examples(60))
@given(ids=IDS, seed=st.integers(0, 99))
def test_the_general_way_never_retracts_and_agrees_on_any_bytes(ids: list[Any], seed: int) -> None:
    tokenizer = made("rewritten_bytes")
    ids = [i for i in resolved(made("byte_level"), ids) if i < tokenizer.vocab_size]
    assert streamed(tokenizer, cut(ids, 0, random.Random(seed))) == tokenizer.decode(ids)


def test_the_general_way_with_a_prompt() -> None:
    tokenizer = made("rewritten_bytes")
    ids = tokenizer.encode("one \U0001f680 two")
    for at in range(1, len(ids)):
        prompt = tokenizer.decode(ids[:at]).rstrip("\ufffd")
        assert streamed(tokenizer, [[i] for i in ids[at:]], prompt_ids=ids[:at]) == "one \U0001f680 two"[len(prompt) :]
        if ids[:at] != tokenizer.encode(prompt):  # a character left open is the prompt's own, whatever follows
            assert streamed(tokenizer, [[i] for i in tokenizer.encode(" two")], prompt_ids=ids[:at]) == " two"


def test_rocket() -> None:
    tokenizer = made("byte_level")
    ids = single_bytes(tokenizer, "🚀")
    stream = Detokenizer(tokenizer)
    assert [stream.feed([i]) for i in ids] == ["", "", "", "🚀"]
    assert stream.close() == ""


@pytest.mark.parametrize(("kind", "flush"), [("byte_level", "\ufffd"), ("llama_like", "\ufffd" * 3)])
def test_an_end_inside_a_character_is_flushed_as_the_reference_does(kind: str, flush: str) -> None:
    tokenizer = made(kind)
    ids = single_bytes(tokenizer, "🚀")
    stream = Detokenizer(tokenizer)
    assert stream.feed(ids[:3]) == ""
    assert stream.close() == flush
    assert tokenizer.decode(ids[:3]) == flush


def test_special_tokens_show_when_asked_for() -> None:
    tokenizer = made("byte_level")
    tool, end = tokenizer.token_to_id("<|tool|>"), tokenizer.token_to_id("</s>")
    assert tool is not None
    assert end is not None
    ids = [*tokenizer.encode("a"), tool, *tokenizer.encode("b" + ADDED), end]
    assert streamed(tokenizer, [ids]) == "ab" + ADDED
    assert streamed(tokenizer, [ids], visible=["<|tool|>", "<|absent|>"]) == "a<|tool|>b" + ADDED
    general = Tableless(tokenizer)
    assert streamed(general, [ids]) == "ab" + ADDED  # type: ignore[arg-type]
    assert streamed(general, [ids], visible=["<|tool|>", "<|absent|>"]) == "a<|tool|>b" + ADDED  # type: ignore[arg-type]
    assert streamed(tokenizer, [ids], visible={end}) == "ab" + ADDED + "</s>"
    assert streamed(tokenizer, [ids], skip_special_tokens=False) == "a<|tool|>b" + ADDED + "</s>"


@pytest.mark.parametrize("kind", ["rewritten_bytes", "byte_level", "llama_like", "sp_bpe"])
def test_long_runs_of_invalid_bytes_are_linear(kind: str) -> None:
    tokenizer = made(kind)
    bytewise = made("byte_level") if kind == "rewritten_bytes" else tokenizer  # the same ids
    bad = next(i for i in range(tokenizer.vocab_size) if bytewise.token_bytes(i) == b"\xff")

    def work(tokens: int) -> None:
        stream = Detokenizer(tokenizer)
        out = "".join([stream.feed([bad]) for _ in range(tokens)]) + stream.close()
        assert out == "\ufffd" * tokens

    assert growth(work, 1000, 8) < 8 * 3


def test_streams_share_what_is_made_once() -> None:
    tokenizer = made("byte_level")
    prompt = tokenizer.encode(LINES[0]) * 200
    Detokenizer(tokenizer, visible=("<|tool|>",))
    short = calls(lambda: Detokenizer(tokenizer, visible=("<|tool|>",), prompt_ids=prompt[-60:]))
    long = calls(lambda: Detokenizer(tokenizer, visible=("<|tool|>",), prompt_ids=prompt))
    assert long <= short + 3, "neither the vocabulary nor the prompt is gone through again"
    assert short < tokenizer.vocab_size
