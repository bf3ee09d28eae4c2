"""One interface over tokenizers of every kind: the library's ids, lossless round trips, roles, errors."""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from portico.errors import BadRequestError
from portico.prompting.tokenizers import Tokenizer, TokenizerError, huggingface, load_tokenizer
from portico.prompting.tokenizers.fast import FastEncoder
from portico.prompting.tokenizers.special_split import SpecialSplitter
from portico.prompting.tokenizers.tiktoken import load_tiktoken
from support.effort import examples
from support.tokenizers import (
    ADDED,
    BYTES,
    HUGGING_FACE,
    LINES,
    SENTENCEPIECE,
    SPECIALS,
    byte_level,
    tekken,
    tiktoken_file,
)

KINDS = [*HUGGING_FACE, *SENTENCEPIECE, *BYTES, "tiktoken"]
LOSSLESS = ["byte_level", "gemma_like", "tekken", "rwkv", "tiktoken"]

_made: dict[str, tuple[Path, Tokenizer]] = {}


@pytest.fixture(scope="session", autouse=True)
def _make_all(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("tokenizers")
    for kind, make in {**HUGGING_FACE, **SENTENCEPIECE, **BYTES}.items():
        path = make(base / kind)
        _made[kind] = (path, load_tokenizer(path))
    path = tiktoken_file(base / "tiktoken")
    _made["tiktoken"] = (path, load_tiktoken(path, pattern=r"[^\s]+|\s+", special_tokens={"<|end|>": 600}))


def made(kind: str) -> Tokenizer:
    return _made[kind][1]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(LINES)


# -- ids and text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=examples(60))
@given(text=TEXT)
def test_round_trip(kind: str, text: str) -> None:
    tokenizer = made(kind)
    ids = tokenizer.encode(text, parse_special=False)
    assert tokenizer.decode(ids, skip_special_tokens=False).replace("\u2581", " ") == text.replace("\u2581", " ")
    assert not tokenizer.special_ids & set(ids)


@pytest.mark.parametrize("kind", list(HUGGING_FACE))
@settings(max_examples=examples(25))
@given(text=st.lists(TEXT | st.sampled_from([*SPECIALS, ADDED]), max_size=4).map("".join), parse=st.booleans())
def test_hugging_face_ids_are_the_librarys(kind: str, text: str, parse: bool) -> None:
    backend = Backend.from_file(str(_made[kind][0] / "tokenizer.json"))
    backend.encode_special_tokens = not parse
    assert made(kind).encode(text, parse_special=parse) == backend.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", list(SENTENCEPIECE))
@settings(max_examples=examples(25))
@given(text=TEXT, ids=st.lists(st.integers(0, 99) | st.sampled_from([1, "\u2581", "\u2581the"]), max_size=20))
def test_sentencepiece_ids_and_text_are_the_librarys(kind: str, text: str, ids: list[int | str]) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(_made[kind][0] / "tokenizer.model"))
    ids = [processor.piece_to_id(i) if isinstance(i, str) else i for i in ids]
    assert made(kind).encode(text, parse_special=False) == processor.encode(text)
    assert made(kind).decode(ids) == processor.decode(ids)


@settings(max_examples=examples(25))
@given(text=TEXT, ids=st.lists(st.integers(0, 454), max_size=20))
def test_tiktoken_ids_and_text_are_the_librarys(text: str, ids: list[int]) -> None:
    from tiktoken.load import load_tiktoken_bpe

    ranks = load_tiktoken_bpe(str(_made["tiktoken"][0]))
    encoding = tiktoken.Encoding("t", pat_str=r"[^\s]+|\s+", mergeable_ranks=ranks, special_tokens={"<|end|>": 600})
    tokenizer = made("tiktoken")
    assert tokenizer.encode(text + "<|end|>") == encoding.encode(text + "<|end|>", allowed_special="all")
    assert tokenizer.encode(text, parse_special=False) == encoding.encode_ordinary(text)
    assert tokenizer.decode(ids) == encoding.decode(ids)


@settings(max_examples=examples(25))
@given(text=TEXT)
def test_rwkv_takes_the_longest_token_everywhere(text: str) -> None:
    tokenizer = made("rwkv")
    pieces = {tokenizer.token_bytes(i) for i in range(1, tokenizer.vocab_size)}
    data = text.encode()
    for token_id in tokenizer.encode(text):
        longest = max((data[:end] for end in range(1, len(data) + 1) if data[:end] in pieces), key=len)
        assert tokenizer.token_bytes(token_id) == longest
        data = data[len(longest) :]
    assert data == b""


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_text_are_parsed_only_when_asked(kind: str) -> None:
    tokenizer = made(kind)
    special = [text for text, i in tokenizer.added_tokens.items() if i in tokenizer.special_ids][-1]
    assert tokenizer.added_tokens[special] in tokenizer.encode(f"a {special} b")
    if kind != "metaspace_unigram":  # there the token is a piece of the model as well, which the library then finds
        assert tokenizer.added_tokens[special] not in tokenizer.encode(f"a {special} b", parse_special=False)


@pytest.mark.parametrize("kind", KINDS)
def test_single_tokens(kind: str) -> None:
    tokenizer = made(kind)
    for token_id in range(tokenizer.vocab_size):
        token = tokenizer.id_to_token(token_id)
        if token is not None and not (kind in BYTES or kind == "tiktoken"):
            assert tokenizer.token_to_id(token) == token_id
    for stranger in (-1, tokenizer.vocab_size, 10**9):
        assert tokenizer.id_to_token(stranger) is None
        assert tokenizer.token_bytes(stranger) == b""
    assert tokenizer.token_to_id("no such token") is None
    for text, token_id in tokenizer.added_tokens.items():
        assert tokenizer.token_to_id(text) == token_id
        assert tokenizer.id_to_token(token_id) == text


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=examples(20))
@given(text=TEXT)
def test_token_bytes_joined_are_the_text(kind: str, text: str) -> None:
    tokenizer = made(kind)
    ids = tokenizer.encode(text, parse_special=False)
    joined = b"".join(tokenizer.token_bytes(i) for i in ids).decode()
    assert joined.replace("\u2581", " ") == text.replace("\u2581", " ")


@pytest.mark.parametrize("kind", KINDS)
def test_lone_surrogates_are_replaced(kind: str) -> None:
    tokenizer = made(kind)
    assert tokenizer.encode("a \ud83d b") == tokenizer.encode("a \ufffd b")


@pytest.mark.parametrize("kind", HUGGING_FACE)
@pytest.mark.parametrize("skip", [False, True])
def test_long_sequences_are_decoded_like_short_ones(kind: str, skip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = made(kind)
    ids = [token for line in LINES for token in tokenizer.encode(line)] + [*tokenizer.special_ids, 10**6]
    short = tokenizer.decode(ids, skip_special_tokens=skip)
    monkeypatch.setattr(huggingface, "LONG", 0)
    assert tokenizer.decode(ids, skip_special_tokens=skip) == short
    assert tokenizer.decode([], skip_special_tokens=skip) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_threads_see_the_same_tokenizer(kind: str) -> None:
    tokenizer = made(kind)
    texts = [line * 20 for line in LINES[:6]]
    expected = [tokenizer.encode(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tokenizer.encode, texts * 20)) == expected * 20


@pytest.mark.parametrize("kind", ["byte_level", "llama_like", "sp_bpe", "tekken"])
@pytest.mark.parametrize("way", ["encoded", "decoded"])
def test_other_threads_run_while_a_long_text_is(kind: str, way: str) -> None:
    text = "".join(f"{line} {i}\n" for i in range(6000) for line in LINES[:6])
    tokenizer = made(kind)
    ids = tokenizer.encode(text)

    def longest_silence() -> float:
        """The part of the time of encoding for which this thread could not run at a stretch."""
        done = threading.Event()

        def work() -> None:
            tokenizer.encode(text) if way == "encoded" else tokenizer.decode(ids)
            done.set()

        started = last = time.perf_counter()
        threading.Thread(target=work).start()
        longest = 0.0
        while not done.wait(0.001):
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        return longest / (time.perf_counter() - started)

    # a library that keeps the interpreter lock takes all of it, every time; other work on the machine does not
    assert any(longest_silence() < 0.7 for _ in range(3))


# -- what surrounds a text, and roles ---------------------------------------------------------------------------------


def test_surroundings() -> None:
    assert made("byte_level").encode("a", add_special_tokens=True)[0] == 0  # its post-processor says so
    assert made("gemma_like").special.prefix_ids == ()
    assert made("sp_bpe").encode("a", add_special_tokens=True) == [1, *made("sp_bpe").encode("a")]
    assert made("tekken").encode("a", add_special_tokens=True) == [1, *made("tekken").encode("a")]
    assert made("rwkv").encode("", add_special_tokens=True) == []


def test_roles_and_ends() -> None:
    tokenizer = made("byte_level")
    assert tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == ("<s>", 0)
    assert (tokenizer.eos_token, tokenizer.eos_token_id, tokenizer.eos_token_ids) == ("</s>", 1, {1})
    assert made("rwkv").eos_token_ids == {0}
    assert made("tekken").eos_token_ids == {2}
    assert made("tiktoken").eos_token is None


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return byte_level(tmp_path / "model")


def configure(model: Path, **config: Any) -> Tokenizer:
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return load_tokenizer(model)


def test_companions_complete_the_added_tokens(model: Path) -> None:
    tokenizer = configure(
        model,
        eos_token={"content": "<|im_end|>", "lstrip": False},
        additional_special_tokens=["<|extra|>"],
        added_tokens_decoder={"900": {"content": "<call>", "special": False}},
        extra_special_tokens={"image_token": "<image>"},
    )
    ids = {text: tokenizer.token_to_id(text) for text in ("<|im_end|>", "<|extra|>", "<call>")}
    assert None not in ids.values()
    assert ids["<|im_end|>"] in tokenizer.special_ids
    assert ids["<|extra|>"] in tokenizer.special_ids
    assert ids["<call>"] not in tokenizer.special_ids
    assert tokenizer.encode("<call>") == [ids["<call>"]]
    assert tokenizer.eos_token_ids == {ids["<|im_end|>"]}
    assert tokenizer.special_tokens["image_token"] == "<image>"


def test_ends_of_generation_from_the_generation_config(model: Path) -> None:
    (model / "config.json").write_text('{"eos_token_id": 7}')
    assert load_tokenizer(model).eos_token_ids == {1, 7}
    (model / "generation_config.json").write_text('{"eos_token_id": [3, 5]}')
    assert load_tokenizer(model).eos_token_ids == {1, 3, 5}


def test_add_bos_of_the_llama_family(tmp_path: Path) -> None:
    model = HUGGING_FACE["llama_like"](tmp_path / "model")
    assert load_tokenizer(model).special.prefix_ids == ()
    tokenizer = configure(model, tokenizer_class="LlamaTokenizerFast", add_bos_token=True, add_eos_token=True)
    assert tokenizer.special.prefix_ids + tokenizer.special.suffix_ids == (0, 1)
    assert configure(model, tokenizer_class="Qwen2Tokenizer").special.prefix_ids == ()


def test_truncation_and_padding_of_the_file_are_ignored(model: Path) -> None:
    content = json.loads((model / "tokenizer.json").read_text())
    content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<s>",
    }
    (model / "tokenizer.json").write_text(json.dumps(content))
    assert load_tokenizer(model).encode(LINES[0]) == made("byte_level").encode(LINES[0])


def test_chat_templates_in_their_order_of_precedence(model: Path) -> None:
    assert load_tokenizer(model).chat_template is None
    assert configure(model, chat_template="from config").chat_template == "from config"
    named = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]
    assert configure(model, chat_template=named).chat_template == {"default": "D", "tool_use": "T"}
    (model / "chat_template.json").write_text('{"chat_template": "from json"}')
    assert load_tokenizer(model).chat_template == "from json"
    (model / "chat_template.jinja").write_bytes(b"line\r\nends")
    assert load_tokenizer(model).chat_template == "line\r\nends"
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "rag.jinja").write_text("R")
    assert load_tokenizer(model).chat_template == {"default": "line\r\nends", "rag": "R"}


# -- finding and refusing ---------------------------------------------------------------------------------------------


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    for kind, name in (("sp_bpe", "tokenizer.model"), ("tekken", "tekken.json"), ("rwkv", "rwkv_vocab.txt")):
        copy = tmp_path / f"{kind}.bin"
        copy.write_bytes((_made[kind][0] / name).read_bytes())
        assert load_tokenizer(copy).kind == made(kind).kind
    copy = tmp_path / "other.json"
    copy.write_bytes((_made["byte_level"][0] / "tokenizer.json").read_bytes())
    assert load_tokenizer(copy).kind == "huggingface"


def test_a_directory_prefers_its_tokenizer_json(tmp_path: Path) -> None:
    model = byte_level(tmp_path / "model")
    (model / "tekken.json").write_bytes((_made["tekken"][0] / "tekken.json").read_bytes())
    assert load_tokenizer(model).kind == "huggingface"
    (model / "tokenizer.json").unlink()
    assert load_tokenizer(str(model)).kind == "tekken"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.json", b"{}", "tokenizer.json is not a tokenizer that this version reads"),
        ("tokenizer.json", b"{", "tokenizer.json is not a tokenizer that this version reads"),
        ("other.json", b"{", "other.json is not valid JSON"),
        ("other.json", b'{"a": 1}', "neither a tokenizer.json"),
        ("tekken.json", b'{"vocab": [], "config": {}}', "not a tekken vocabulary"),
        ("tokenizer.model", b"\x0a\x05hello", "not a SentencePiece model"),
        ("tokenizer.model", b"hello", "no tokenizer that is known here"),
        ("x.tiktoken", b"IQ== 0\nIg== x\n", "line 2: not base64 and a rank"),
        ("x.tiktoken", b"IQ== 0\nIg== 1\n", "2 ranks, which is no known family"),
        ("vocab.txt", b"1 'a' 1\n2 'bc' 1\n", "line 2: not an RWKV vocabulary"),
        ("vocab.txt", b"1 'a' 1\n2 __import__('os') 1\n", "line 2: not an RWKV vocabulary"),
        ("empty.bin", b"", "no tokenizer that is known here"),
    ],
)
def test_what_is_no_tokenizer_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TokenizerError, match=words):
        load_tokenizer(tmp_path / name)


def test_missing_paths(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="no tokenizer at 'absent'"):
        load_tokenizer(tmp_path / "absent")
    with pytest.raises(TokenizerError, match=r"looked for tokenizer\.json, tekken\.json"):
        load_tokenizer(tmp_path)


def test_broken_companions_are_named(model: Path) -> None:
    (model / "generation_config.json").write_text("{")
    with pytest.raises(TokenizerError, match=r"generation_config\.json is not valid JSON"):
        load_tokenizer(model)


def test_a_missing_library_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tekken(tmp_path / "tekken")
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(TokenizerError, match="pip install tiktoken"):
        load_tokenizer(path)


def test_what_tiktoken_cannot_tokenize_is_the_clients_fault() -> None:
    tokenizer = load_tiktoken(_made["tiktoken"][0], pattern=r"\s+(?!\S)|\s+|\S+")
    with pytest.raises(BadRequestError, match="cannot be tokenized"):
        tokenizer.encode(" " * 3_000_000 + "x")


# -- the fast encoder -------------------------------------------------------------------------------------------------


class Stand:
    """A stand-in for a ``fastokens`` tokenizer."""

    def __init__(self, wrong_on: str | None = None) -> None:
        self.wrong_on = wrong_on

    def encode(self, text: str, split_special_tokens: bool) -> Any:
        class Encoding:
            ids = (
                [ord(c) for c in text] + [1 if self.wrong_on and self.wrong_on in text else 0] + [split_special_tokens]
            )

        return Encoding


def plain(text: str, parse_special: bool) -> list[int]:
    return [*map(ord, text), 0, int(not parse_special)]


def test_the_fast_encoder_answers_only_after_agreeing() -> None:
    good = FastEncoder(Stand, plain)
    assert good.ready is None
    good.prepare()
    assert good.ready is not None
    assert good.ready("x", True) == plain("x", True)
    for build, samples in (
        (lambda: Stand(wrong_on="\u00e9"), ()),  # differs on a built-in probe
        (lambda: Stand(wrong_on="<tool>"), ("a<tool>b",)),  # differs on a sample
        (lambda: 1 / 0, ()),  # refuses
        (lambda: __import__("no_such_module"), ()),  # is not installed
    ):
        encoder = FastEncoder(build, plain, samples)
        encoder.prepare()
        assert encoder.ready is None


def test_enough_text_starts_the_fast_encoder_in_the_background() -> None:
    built = threading.Event()

    def build() -> Stand:
        built.set()
        return Stand()

    encoder = FastEncoder(build, plain)
    encoder.count(1000)
    assert not built.wait(0.05)
    encoder.count(10**6)
    assert built.wait(120)


@pytest.mark.parametrize("kind", ["byte_level", "llama_like", "gemma_like"])
def test_what_the_fast_encoder_admits_agrees(kind: str) -> None:
    tokenizer = load_tokenizer(_made[kind][0])
    tokenizer.warm()
    if kind == "byte_level":  # of the others some are refused, which is the point of checking
        assert tokenizer._fast.ready is not None  # type: ignore[attr-defined]

    @settings(max_examples=examples(120))
    @given(text=st.lists(TEXT | st.sampled_from([*SPECIALS, ADDED]), max_size=5).map("".join), parse=st.booleans())
    def agree(text: str, parse: bool) -> None:
        assert tokenizer.encode(text, parse_special=parse) == tokenizer._encode_reference(text, parse)  # type: ignore[attr-defined]

    agree()


# -- cutting special tokens out ---------------------------------------------------------------------------------------


@settings(max_examples=examples(120))
@given(
    text=st.text("ab<>", max_size=30),
    tokens=st.lists(st.text("ab<>", min_size=1, max_size=4), max_size=6, unique=True),
)
def test_the_longest_special_token_is_cut_at_each_place(text: str, tokens: list[str]) -> None:
    known = {token: i for i, token in enumerate(tokens)}
    parts = list(SpecialSplitter(known).split(text))
    assert "".join(tokens[part] if isinstance(part, int) else part for part in parts) == text
    expected: list[str | int] = []
    at = start = 0
    while at < len(text):
        fitting = [token for token in tokens if text.startswith(token, at)]
        if not fitting:
            at += 1
            continue
        if at > start:
            expected.append(text[start:at])
        longest = max(fitting, key=len)
        expected.append(known[longest])
        at = start = at + len(longest)
    if start < len(text):
        expected.append(text[start:])
    assert parts == expected


def test_some_special_tokens_swallow_white_space() -> None:
    assert list(SpecialSplitter({"<a>": 1, "<b>": 2}, rstrip={1}).split("x<a> \n y<b> z")) == ["x", 1, "y", 2, " z"]
