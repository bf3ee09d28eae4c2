"""Regular expressions: what is written matches what was read, plainly and in the spelling of a JSON string."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher

from portico.constraints.regex import NARROW, UnheldError, bounded, exact, literal, read, whole, written
from portico.constraints.regex.characters import Dialect
from portico.constraints.regex.tree import JSON, Node, Options, Row, Times
from portico.constraints.trial import byte_vocabulary
from support.effort import examples

TOKENIZER = byte_vocabulary().build()


def matches(expression: str, text: str) -> bool:
    """Whether llguidance matches all of ``text`` with ``expression``."""
    matcher = LLMatcher(TOKENIZER, f"start: T\nT: /{expression}/\n" if expression else 'start: ""\n', log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    ids = list(text.encode())
    return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())


def accepted(expression: str, texts: list[str]) -> list[bool]:
    """The same for several texts."""
    matcher = LLMatcher(TOKENIZER, f"start: T\nT: /{expression}/\n", log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    found = []
    for text in texts:
        reader, ids = matcher.deep_copy(), list(text.encode())
        found.append(bool(reader.try_consume_tokens(ids) == len(ids) and reader.is_accepting()))
    return found


# Pieces that Python's ``re`` and JSON Schema's dialect read alike, all of which may stand next to each other.
PIECES = [
    "a", "b", ".", r"\d", r"\w", r"\s", r"\S", r"\W", "[ab]", "[^a]", r"[\d\-x]", r'["\\]', r'[^"\\]', r"\"", r"\\",
    r"\n", r"\x41", r"\u00e9", "é", "/", "-", "[A-Z]", r"[\s\S]", "{", r"[\b]", "[a-]", "[!-/]",
]  # fmt: skip
counts = st.sampled_from(["", "*", "+", "?", "{2}", "{1,2}", "{2,}", "*?"])
few = st.sampled_from(["", "?", "{1,2}"])  # Python goes back and forth in a group that is repeated without end
patterns = st.recursive(
    st.tuples(st.sampled_from(PIECES), counts).map("".join),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.tuples(st.lists(inner, min_size=1, max_size=3).map("|".join), few).map(lambda two: f"(?:{two[0]}){two[1]}"),
    ),
    max_leaves=4,
)
texts = st.text(alphabet='aAbx1 -"\\/\n\t\x01é東', max_size=6)


@settings(max_examples=examples(60), suppress_health_check=list(HealthCheck))
@given(pattern=patterns, text=texts, anchors=st.sampled_from(["", "^", "$", "^$"]))
def test_what_is_written_matches_what_was_read(pattern: str, text: str, anchors: str) -> None:
    anchored = ("^" in anchors) * "^" + f"(?:{pattern})" + ("$" in anchors) * "$"
    tree = whole(read(anchored, "ecma"))
    begin, end = r"\A" * ("^" in anchors), r"\Z" * ("$" in anchors)
    # Python's classes are Unicode's without this flag, and its dot ends a line at \n only, as no text here has others
    wanted = re.search(f"{begin}(?:{pattern}){end}", text, re.ASCII) is not None
    assert matches(written(tree), text) is wanted
    assert matches(written(tree, as_json=True), json.dumps(text, ensure_ascii=False)[1:-1]) is wanted


PROPERTIES = [
    "C", "Control", "Other", "gc=Cc", "General_Category=Control", "Po", "Other Punctuation", "punct", "L", "Common",
    "Script=Greek", "White_Space", "ASCII",
]  # fmt: skip
POSIX = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
]  # fmt: skip
CLASSES = {
    "ecma": [".", "[^]", "[^a]", "[!-a]", *(rf"\{one}" for one in "dDwWsS"), r"[\d\n]", r"[^\s]", r"[\x00-\x1f]"],
    "rust": [
        *(".", "(?s:.)", *(rf"\{one}" for one in "dDwWsS"), r"[^\W]", r"[a[^\n]]", r"(?:\n|\t|x)", r"\pL", r"[\PL]"),
        *(rf"\{p}{{{name}}}" for name in PROPERTIES for p in "pP"),
        *(f"[[:{sign}{name}:]]" for name in POSIX for sign in ("", "^")),
    ],
}


@pytest.mark.parametrize("dialect", ["ecma", "rust"])
def test_a_class_has_the_same_characters_in_either_spelling(dialect: Dialect) -> None:
    characters = [*JSON, "a", "Z", "5", " ", "é", "\x7f", "\u2028", "٣"]
    spelled = [json.dumps(one, ensure_ascii=False)[1:-1] for one in characters]
    for pattern in CLASSES[dialect]:
        tree = exact(read(pattern, dialect))
        assert accepted(written(tree, as_json=True), spelled) == accepted(written(tree), characters), pattern


def endless(node: Node) -> list[Times]:
    """What is repeated without end."""
    match node:
        case Times(part, _, high):
            return [*([node] if high is None else []), *endless(part)]
        case Row(inside) | Options(inside):
            return [one for part in inside for one in endless(part)]
    return []


@settings(max_examples=examples(60))
@given(pattern=patterns, again=st.sampled_from(["", "*", "+", "{2,}", "{3}"]))
def test_what_repeats_without_end_gets_one(pattern: str, again: str) -> None:
    tree = whole(read(f"(?:{pattern}){again}", "ecma"))
    assert endless(bounded(tree, 2, 3)) == []
    assert bounded(bounded(tree, 2, 3), 2, 3) == bounded(tree, 2, 3)


def test_letters_go_on_for_longer_than_digits() -> None:
    for letters in ("[^]", ".", "[^0]", r"\w", r"\S", r"\D", "[!-z]", "é"):
        assert endless(bounded(read(f"{letters}*", "ecma"))), letters
    tree = exact(read("(?:[0-9]*a+|-*)*b{4,}", "ecma"))
    assert written(bounded(tree, 2, 3)) == r"(?:[0-9]{0,2}a{1,3}|\x{2d}{0,2}){0,3}b{4}"
    assert written(bounded(tree, 2)) == r"(?:[0-9]{0,2}a+|\x{2d}{0,2})*b{4,}"


@settings(max_examples=examples(25))
@given(text=texts)
def test_a_literal_is_itself_in_either_spelling(text: str) -> None:
    tree = literal(text)
    assert matches(written(tree), text)
    assert matches(written(tree, as_json=True), json.dumps(text, ensure_ascii=False)[1:-1])


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("^a|b$", ["ax", "xb"], ["xa", "bx"]),
        ("(^|,)a", ["a", "x,ab"], ["xa"]),
        (r"^\d+$", ["7", "1" * NARROW], ["", "1" * (NARROW + 1), "٣"]),
        (r"^[a-z]+$", ["a" * (NARROW + 1)], ["A"]),
        (r"^[^]$", ["\n"], [""]),
        (r"^(?<year>\d{4})$", ["2024"], ["24"]),
        (r"^\uD83D\uDE00$", ["😀"], ["x"]),
        (r"^\cJ\0$", ["\n\0"], []),
        (r"^\p{Lu}\P{Lu}$", ["Äß"], ["äß"]),
        ("^x{,3}$", ["x{,3}"], ["xx"]),
        ("^$", [""], ["a"]),
    ],
)
def test_json_schemas_dialect(pattern: str, yes: list[str], no: list[str]) -> None:
    expression = written(bounded(whole(read(pattern, "ecma"))))
    assert [text for text in yes if not matches(expression, text)] == []
    assert [text for text in no if matches(expression, text)] == []


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("[[:alpha:]_]+", ["a_"], ["1"]),
        ("[a[^b]]", ["a", "c"], ["b"]),
        (r"(?i)k\d", ["K٣", "k1"], ["x1"]),
        (r"(?i:a)b", ["Ab"], ["AB"]),
        (r"\A\w\z", ["é"], ["éé"]),
        ("(?s:.)x", ["\nx"], ["x"]),
        (".", ["\r"], ["\n"]),
        (r"[[:punct:]]+", ['"\\!'], ["a"]),
    ],
)
def test_rusts_dialect(pattern: str, yes: list[str], no: list[str]) -> None:
    tree = exact(read(pattern, "rust"))
    for as_json in (False, True):
        expression = written(tree, as_json=as_json)
        assert [
            t for t in yes if not matches(expression, json.dumps(t, ensure_ascii=False)[1:-1] if as_json else t)
        ] == []
        assert [t for t in no if matches(expression, json.dumps(t, ensure_ascii=False)[1:-1] if as_json else t)] == []


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(?=a)", "look-around"), ("(?!a)", "look-around"), ("(?<=a)b", "look-around"), ("(?<!a)b", "look-around"),
        (r"a\b", "word boundary"), (r"\Ba", "word boundary"), (r"(a)\1", "back-reference"), (r"\k<n>", "reference"),
        ("x^a", "anchor"), ("(a$)*", "anchor"), ("(?>a)", "not supported"), ("(?x)a", "the flag x"),
        ("(", "parenthesis"), ("a)", "unopened"), ("[a", "set"), ("*a", "nothing to repeat"), ("[]", "empty set"),
        (r"\uD83D", "no character"), ("[b-a]", "range"), ("a{3,2}", "count"), (r"\q", r"escape \q"), ("a\\", "missing"),
        ("(" * 200 + ")" * 200, "inside each other"),
    ],
)  # fmt: skip
def test_what_no_grammar_holds_is_named(pattern: str, words: str) -> None:
    with pytest.raises(UnheldError, match=re.escape(words)):
        written(whole(read(pattern, "ecma")))
