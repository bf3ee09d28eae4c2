"""Long texts are tokenized in parts: the same ids, abandoned in between, refused where nothing can be done."""

from __future__ import annotations

from pathlib import Path

import pytest

from portico.errors import BadRequestError, ContextLengthError
from portico.prompting import ChatTemplate, Prompter, Tokenizer, load_tokenizer
from portico.prompting.tokenizers import parts
from portico.threads import AbandonedError
from support.tokenizers import BYTES, CORPUS_NAMES, HUGGING_FACE, LINES, SENTENCEPIECE, real

MADE = {**HUGGING_FACE, **SENTENCEPIECE, **BYTES}
SOURCE = Path(__file__).read_text(encoding="utf-8")
PROSE = (
    "The quick brown fox, which isn't lazy, jumps over 12345 dogs; they don't  mind.\n\n\tIt was 3.14 o'clock.\r\n" * 3
)
OTHERS = (
    "日本語のテキスト、中文文本。한국어 텍스트 e\u0301clair \U0001f680\U0001f680 naïve " * 4 + "x" * 300 + " " * 300
)
TEXTS = [SOURCE, PROSE * 3, OTHERS + PROSE + OTHERS, "\n".join(LINES * 4), PROSE.replace(" ", "\n")]


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART", 300)
    monkeypatch.setattr(parts, "LONGEST", 20_000)


def check(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> int:
    """The same ids in parts and in one; returns how many parts there were."""
    counted = 0
    encode = type(tokenizer)._encode

    def counting(self: Tokenizer, text: str, parse_special: bool) -> list[int]:
        nonlocal counted
        counted += len(text) > 2 * parts.AROUND
        return encode(self, text, parse_special)

    monkeypatch.setattr(type(tokenizer), "_encode", counting)
    tokens = list(tokenizer.added_tokens)[:3]
    for text in [*TEXTS, PROSE.join(tokens), f" {tokens[0] if tokens else ''} ".join(PROSE.split(" "))]:
        for parse_special in (True, False):
            assert tokenizer.encode(text, parse_special=parse_special) == encode(tokenizer, text, parse_special)
    return counted


@pytest.mark.parametrize("kind", list(MADE))
def test_parts_do_not_change_the_ids(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(load_tokenizer(MADE[kind](tmp_path / kind)), monkeypatch) > 3


@pytest.mark.slow
@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_parts_do_not_change_the_ids_of_real_tokenizers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(real(name), monkeypatch) > 3


def test_what_nobody_waits_for_ends_between_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(HUGGING_FACE["byte_level"](tmp_path / "t"))
    seen = 0

    def gone() -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise AbandonedError

    monkeypatch.setattr(parts, "checkpoint", gone)
    with pytest.raises(AbandonedError):
        tokenizer.encode(PROSE * 10)
    seen = 0
    with pytest.raises(AbandonedError):
        tokenizer.encode_pieces([PROSE * 10])


def test_a_text_without_a_place_to_cut_is_refused(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(HUGGING_FACE["byte_level"](tmp_path / "t"))
    with pytest.raises(BadRequestError, match="in a row"):
        tokenizer.encode("words before " * 20 + " " * 30_000 + "words behind " * 20)


@pytest.mark.parametrize("kind", list(MADE))
def test_what_cannot_fit_is_refused_before_it_is_tokenized(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(MADE[kind](tmp_path / kind))
    prompter = Prompter(tokenizer, ChatTemplate("{{ messages[0].content }}"), context_length=4)
    fits = "the quick brown fox " * 40
    for text in (fits, "\u00e9" * 200 + " a"):
        bound = len(tokenizer.encode(text)) * tokenizer.bytes_per_token
        assert len(text.encode()) <= bound, "what fits may not be refused"
    monkeypatch.setattr(type(tokenizer), "_encode", lambda *_: pytest.fail("it was tokenized"))
    long = "x" * (4 * tokenizer.bytes_per_token + 1)
    with pytest.raises(ContextLengthError):
        prompter.encode(long)
    with pytest.raises(ContextLengthError) as refused:
        prompter.render_chat([{"role": "user", "content": long}])
    assert refused.value.param == "messages"
