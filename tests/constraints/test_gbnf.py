"""GBNF as Lark: the same language."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from portico.constraints.gbnf import is_gbnf, to_lark
from portico.errors import BadRequestError
from support.effort import examples
from support.vocabulary import Endless, Model

JSON_GRAMMAR = r"""
# JSON as llama.cpp's users write it
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
    string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4})  # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]{1,9})? ([eE] [-+]? [0-9]{1,2})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""

documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**6), 10**6), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=examples(20), suppress_health_check=list(HealthCheck))
@given(document=st.dictionaries(st.text(max_size=4), documents, max_size=3))
def test_a_recursive_grammar_accepts_what_it_should(model: Model, document: object) -> None:
    assert model.accepts(to_lark(JSON_GRAMMAR, "g"), json.dumps(document))


def test_a_recursive_grammar_writes_what_it_should(model: Model) -> None:
    lark = to_lark(JSON_GRAMMAR, "g")
    for seed in range(20):
        assert isinstance(json.loads(model.write(lark, seed), strict=False), dict)


LITERALS = st.text(st.sampled_from('ab"\\\né東-]^['), min_size=1, max_size=3)


@st.composite
def regular(draw: st.DrawFn, depth: int = 3) -> tuple[str, str]:
    """A piece of GBNF and the Python regular expression that means the same."""
    kind = draw(st.integers(0, 5 if depth else 1))
    if kind == 0:
        text = draw(LITERALS)
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"', re.escape(text)
    if kind == 1:
        return draw(
            st.sampled_from([("[a-c]", "[a-c]"), ("[^a\\n]", "[^a\n]"), (".", "(?s:.)"), ("[\\]\\-]", "[\\]\\-]")])
        )
    first, second = draw(regular(depth=depth - 1)), draw(regular(depth=depth - 1))
    if kind == 2:
        return f"{first[0]} {second[0]}", f"(?:{first[1]})(?:{second[1]})"
    if kind == 3:
        return f"({first[0]} |\n {second[0]})", f"(?:(?:{first[1]})|(?:{second[1]}))"
    times = draw(st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}"]))
    return f"({first[0]}){times}", f"(?:{first[1]}){times}"


@settings(max_examples=examples(30), suppress_health_check=list(HealthCheck))
@given(pair=regular(), text=st.text(st.sampled_from('abcé"\\\n-]'), max_size=6), seed=st.integers(0, 1000))
def test_a_regular_grammar_is_exactly_its_regular_expression(
    model: Model, pair: tuple[str, str], text: str, seed: int
) -> None:
    gbnf, regex = pair
    lark = to_lark(f"root ::= {gbnf}", "g")
    assert model.accepts(lark, text) == (re.fullmatch(regex, text) is not None)
    try:
        written = model.write(lark, seed, free=4)
    except Endless:  # what comes at random seldom is the one way out of "any characters, then these two"
        reject()
    assert re.fullmatch(regex, written)


@pytest.mark.parametrize(
    ("gbnf", "yes", "no"),
    [
        ('root ::= "I am " name "."\nname ::= [A-Z] [a-z]{1,20}', ["I am Bob."], ["I am bob.", "I am Bob"]),
        ('root ::= [a-z]+ "b"', ["ab", "bbb"], ["b", "a"]),
        (r'root ::= "\u0041\x42\U0001F99C"', ["AB🦜"], ["AB"]),
        ("root ::= my-Rule my_rule2\nmy-Rule ::= [a]\nmy_rule2 ::= [b]", ["ab"], ["aa"]),
        ('root ::= e\ne ::= "(" e ")" | [0-9]+', ["((12))", "7"], ["((12)", "()"]),
        ('root ::= "a" |\n  "b"\n  | "c"', ["a", "b", "c"], ["ab"]),
        ('root ::= "a"? # remark "x"\n\n', ["a", ""], ["x"]),
        ('\nother ::= "b"\nroot ::= "a" other', ["ab"], ["a"]),
    ],
)
def test_examples(model: Model, gbnf: str, yes: list[str], no: list[str]) -> None:
    lark = to_lark(gbnf, "g")
    assert [text for text in yes if not model.accepts(lark, text)] == []
    assert [text for text in no if model.accepts(lark, text)] == []


def test_special_tokens_by_name(model: Model) -> None:
    lark = to_lark('root ::= <|im_start|> ("user" | "tool") item?\nitem ::= <|im_end|>', "g")
    assert model.accepts(lark, "<|im_start|>tool")
    assert not model.accepts(lark, "tool")


@pytest.mark.parametrize(
    ("gbnf", "complaint"),
    [
        ("root ::= foo", "the rule 'root' names 'foo', which is not defined"),
        ('x ::= "a"', "a rule named root"),
        ('root ::= "a', "line 1 is not GBNF"),
        ('root ::=\n ( "a"\n', "line 3 is missing a closing parenthesis"),
        ('root ::= "a" )', "line 1 has something that does not fit"),
        ('root ::= "a"\nroot ::= "b"', "line 2 defines 'root' again"),
        ('root ::= "a"\nfoo "b"', "line 2 should begin a rule"),
        ("root ::= [z-a]", "ends before it begins"),
        ("root ::= []", "an empty set"),
        ('root ::= (\n"\\q"\n)', "line 2 has an unknown escape"),
        ('root ::= (\n"\\ud800"\n)', "line 2 has an escape that is no character"),
        ("root ::= " + "(" * 200 + '"a"' + ")" * 200, "nested deeper than 100"),
    ],
)
def test_what_is_no_gbnf_is_refused_with_its_line(gbnf: str, complaint: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        to_lark(gbnf, "structured_outputs.grammar")
    assert complaint in caught.value.message
    assert caught.value.param == "structured_outputs.grammar"


def test_telling_the_two_apart() -> None:
    assert is_gbnf('# words\n  root ::= "a"')
    assert not is_gbnf('start: "root ::= x"')
    assert not is_gbnf('%llguidance {}\nstart: "a"')


@pytest.mark.parametrize(
    ("code", "known"),
    [("U0010FFFF", True), ("U00110000", False), ("uD7FF", True), ("uD800", False), ("uDFFF", False), ("uE000", True)],
)
def test_an_escape_is_a_character(code: str, known: bool) -> None:
    text = rf'root ::= "\{code}"'
    if known:
        assert f'"{chr(int(code[1:], 16))}"' in to_lark(text, "grammar")
        return
    with pytest.raises(BadRequestError):
        to_lark(text, "grammar")
