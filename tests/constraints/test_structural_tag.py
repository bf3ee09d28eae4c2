"""Structural tags: what is written can be read back as the same language; what clients write means what it says."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from portico.constraints import Limits, answer_grammar, call_policy, structural_tag, thinking
from portico.errors import BadRequestError
from portico.events import Constraint
from portico.grammar import Anything, Chain, Exactly, Grammar, OneOf, Pattern, Repeated, Text, Until
from support.constraints import BAD, GOOD, POINT, bare_constraint, tools
from support.families import FAMILIES, ONE, TWO
from support.vocabulary import Model


def _repetition(low: int, high: int | None, separator: str) -> str:
    """A regular expression for so many x."""
    if not high and high is not None:
        return ""
    several = f"x({separator}x){{{max(low - 1, 0)},{'' if high is None else high - 1}}}"
    return several if low else f"({several})?"


def read_back(constraint: Constraint | None, model: Model) -> str:
    """The Lark text of what the constraint's structural tag says."""
    assert constraint is not None
    assert constraint.structural_tag is not None
    grammar = structural_tag.read(constraint.structural_tag, "tag", Limits())
    again = bare_constraint(answer=grammar, control_tokens=model.names)
    assert again is not None
    return again.lark


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("parallel", [None, False])
def test_forced_calls(model: Model, family: str, parallel: bool | None) -> None:
    policy = call_policy(tools(), "required", parallel)
    assert policy is not None
    constraint = bare_constraint(policy=policy, calls=FAMILIES[family](policy), with_structural_tag=True)
    lark = read_back(constraint, model)
    assert model.accepts(lark, ONE[family] % GOOD)
    assert model.accepts(lark, TWO[family].replace("%s", GOOD)) is (parallel is None)
    assert not model.accepts(lark, ONE[family] % BAD)
    assert not model.begins(lark, "Hello")


def test_answer_and_thought(model: Model) -> None:
    frame = thinking(("<think>",), ("</think>",), is_open=False)
    lark = read_back(bare_constraint(answer=answer_grammar(POINT), frame=frame, with_structural_tag=True), model)
    assert model.accepts(lark, '<think>Hm.</think>\n{"x": 1}')
    assert model.accepts(lark, '{"x": 1}')
    assert not model.begins(lark, "Hm.")


@pytest.mark.parametrize(
    ("extension", "yes", "no"),
    [
        ({"regex": "[ab]{2}"}, "ab", "abc"),
        ({"choice": ["x", "yy"]}, "yy", "xy"),
        ({"json": {"type": "null"}}, "null", "1"),
    ],
)
def test_extensions(model: Model, extension: Any, yes: str, no: str) -> None:
    lark = read_back(bare_constraint(answer=answer_grammar(None, extension), with_structural_tag=True), model)
    assert model.accepts(lark, yes)
    assert not model.accepts(lark, no)


@pytest.mark.parametrize("family", ["tagged", "token", "section"])
def test_prose_with_calls(model: Model, family: str) -> None:
    policy = call_policy(tools(strict=True), "auto")
    assert policy is not None
    constraint = bare_constraint(policy=policy, calls=FAMILIES[family](policy), with_structural_tag=True)
    lark = read_back(constraint, model)
    assert model.accepts(lark, f"So: {ONE[family] % GOOD} Done.")
    assert not model.accepts(lark, f"So: {ONE[family] % BAD} Done.")


X = Exactly("x")
SAME: list[tuple[Grammar, str]] = [  # a grammar, and what it allows as a regular expression
    (Exactly(""), ""),
    (OneOf((Exactly(""), Exactly("x,"))), "(x,)?"),
    (Chain((Exactly(""), Repeated(OneOf((X, Exactly(""))), 0, 2))), "x{0,2}"),
    (Until(("!", "x,")), "(,|x(?!,))*(!|x,)"),
    (Text({"type": "string"}, "!"), "[^!]*!"),
    (Chain((X, OneOf((Exactly(","), Chain(()))))), "x,?"),
    (Chain((Pattern("x+"), Anything())), "(?s)x+.*"),
    *(
        (Repeated(X, low, high, separator), _repetition(low, high, separator))
        for separator in ("", ",")
        for low, high in [(0, None), (1, None), (2, None), (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2), (2, 3)]
    ),
]
WORDS = ["".join(word) for length in range(5) for word in itertools.product("x,!", repeat=length)]


@pytest.mark.parametrize(("grammar", "same"), SAME, ids=repr)
def test_the_language_stays_the_same(model: Model, grammar: Grammar, same: str) -> None:
    constraint = bare_constraint(answer=grammar, with_structural_tag=True)
    assert constraint is not None
    for lark in (constraint.lark, read_back(constraint, model)):
        matcher = model.matcher(lark)
        for word in WORDS:
            reader, ids = matcher.deep_copy(), model.encode(word)
            accepted = reader.try_consume_tokens(ids) == len(ids) and reader.is_accepting()
            assert bool(accepted) is (re.fullmatch(same, word) is not None), word


def test_a_clients_lark_has_no_such_form() -> None:
    grammar = answer_grammar(None, {"grammar": 'start: "a"'})
    constraint = bare_constraint(answer=grammar, with_structural_tag=True)
    assert constraint is not None
    assert constraint.structural_tag is None


# -- what clients write -----------------------------------------------------------------------------------------------

NUMBER = {"type": "json_schema", "json_schema": {"type": "integer"}}
TAGS = [
    {"type": "tag", "begin": "<f=a>", "content": NUMBER, "end": "</f>"},
    {"type": "tag", "begin": "<f=b>", "content": {"type": "any_text"}, "end": ["</f>", "<end>"]},
]


TRIGGERED = {"type": "triggered_tags", "triggers": ["<f="], "tags": TAGS}


@pytest.mark.parametrize(
    ("form", "yes", "no"),
    [
        ({"type": "regex", "pattern": "a+"}, ["aa"], ["b"]),
        ({"type": "grammar", "grammar": 'root ::= "a" [0-9]'}, ["a1"], ["ab"]),
        (
            {"type": "sequence", "elements": [{"type": "any_text"}, {"type": "const_string", "value": "!"}, NUMBER]},
            ["hey!5", "!5"],
            ["hey5", "hey!x"],
        ),
        ({"type": "or", "elements": [NUMBER, {"type": "const_string", "value": "x"}]}, ["5", "x"], ["5x"]),
        ({"type": "optional", "content": {"type": "const_string", "value": "x"}}, ["", "x"], ["xx"]),
        ({"type": "star", "content": {"type": "const_string", "value": "x"}}, ["", "xxx"], ["y"]),
        ({"type": "plus", "content": {"type": "const_string", "value": "x"}}, ["x", "xx"], [""]),
        ({"type": "repeat", "min": 2, "max": 3, "content": {"type": "regex", "pattern": "x"}}, ["xx"], ["x", "xxxx"]),
        ({"type": "repeat", "min": 2, "max": -1, "content": {"type": "const_string", "value": "x"}}, ["xxxx"], ["x"]),
        (TAGS[0], ["<f=a>5</f>"], ["<f=a>x</f>"]),
        (TAGS[1], ["<f=b>any <b> text<end>"], ["<f=b>"]),
        (
            TRIGGERED,
            ["text", "so <f=a>5</f> and <f=b>x</f>."],
            ["so <f=a>x</f>", "so <f=c>"],
        ),
        (
            {**TRIGGERED, "at_least_one": True, "stop_after_first": True},
            ["so <f=a>5</f>"],
            ["text", "<f=a>5</f>."],
        ),
        (
            {**TRIGGERED, "at_least_one": True},
            ["so <f=a>5</f> and <f=a>6</f>."],
            ["text"],
        ),
        (
            {"type": "tags_with_separator", "tags": TAGS, "separator": ";", "at_least_one": True},
            ["<f=a>5</f>;<f=a>6</f>"],
            ["", "<f=a>5</f> <f=a>6</f>"],
        ),
    ],
)  # fmt: skip
def test_formats(model: Model, form: Any, yes: list[str], no: list[str]) -> None:
    constraint = bare_constraint(answer=answer_grammar({"type": "structural_tag", "format": form}))
    assert constraint is not None
    assert [text for text in yes if not model.accepts(constraint.lark, text)] == []
    assert [text for text in no if model.accepts(constraint.lark, text)] == []
    rules = itertools.pairwise(constraint.lark.splitlines())
    fields = {before for before, rule in rules if rule.startswith(("json_", "PATTERN_", "verbatim_"))}
    assert fields <= {"// field: response_format"}


def test_the_older_form(model: Model) -> None:
    tag = {
        "type": "structural_tag",
        "structures": [{"begin": "<f=a>", "schema": {"type": "integer"}, "end": "</f>"}],
        "triggers": ["<f="],
    }
    constraint = bare_constraint(answer=answer_grammar(tag))
    assert constraint is not None
    assert model.accepts(constraint.lark, "so <f=a>5</f> it is")
    assert not model.accepts(constraint.lark, "so <f=a>x</f>")


@pytest.mark.parametrize(
    ("tag", "complaint"),
    [
        ({}, "must have a 'format'"),
        ({"format": {"type": "token", "token": 3}}, "a type in format that is not supported"),
        ({"format": {"type": "const_string"}}, "a string in format.value"),
        ({"format": {"type": "sequence", "elements": []}}, "a list of 1 to"),
        ({"format": {"type": "sequence", "elements": [3]}}, r"an object in format\.elements\[0\]"),
        ({"format": {"type": "json_schema", "json_schema": {}, "style": "qwen_xml"}}, "of style json"),
        ({"format": {"type": "dispatch", "rules": [["a"]]}}, r"pairs in format\.rules"),
        ({"format": {"type": "any_text", "excludes": ["x"]}}, "has 'excludes'"),
        ({"format": {"type": "repeat", "min": 3, "max": 2, "content": NUMBER}}, r"whole numbers .* in format,"),
        ({"format": {"type": "repeat", "min": -1, "max": 2, "content": NUMBER}}, "whole numbers"),
        ({"format": {"type": "repeat", "min": 1.0, "max": 2, "content": NUMBER}}, "whole numbers"),
        ({"format": {"type": "optional", "content": 3}}, r"an object in format\.content"),
        ({"format": {"type": "tag", "begin": 3, "content": NUMBER, "end": "x"}}, r"a string in format\.begin"),
        ({"format": {"type": "tag", "begin": "x", "content": NUMBER}}, r"in format\.end"),
        ({"format": {**TRIGGERED, "tags": [3]}}, r"an object in format\.tags\[0\]"),
        ({"format": {**TRIGGERED, "triggers": [""]}}, r"strings in format\.triggers"),
        ({"format": {"type": "tags_with_separator", "tags": TAGS}}, r"a string in format\.separator"),
        ({"format": {"type": "dispatch", "rules": [["a", 3]]}}, r"an object in format\.rules\[0\]"),
        ({"format": {"type": "triggered_tags", "triggers": ["<g>"], "tags": TAGS}}, "none of the triggers"),
        ({"format": {"type": "tag", "begin": "a", "content": NUMBER, "end": [3]}}, "must have strings"),
        ({"structures": [{"begin": "a"}], "triggers": ["a"]}, r"a 'schema' object in structures\[0\]"),
    ],
)
def test_refusals(tag: Any, complaint: str) -> None:
    with pytest.raises(BadRequestError, match=complaint) as caught:
        structural_tag.read(tag, "response_format", Limits())
    assert (caught.value.param, caught.value.code) == ("response_format", "invalid_structural_tag")
    if "format" not in tag:
        return
    inside = {"type": "sequence", "elements": [{"type": "const_string", "value": "x"}, tag["format"]]}
    with pytest.raises(BadRequestError) as nested:
        structural_tag.read({"format": inside}, "response_format", Limits())
    assert nested.value.message == caught.value.message.replace(" in format", " in format.elements[1]")


def test_depth_is_limited() -> None:
    form: dict[str, Any] = NUMBER
    for _ in range(200):
        form = {"type": "optional", "content": form}
    with pytest.raises(BadRequestError, match="nested deeper"):
        structural_tag.read({"format": form}, "response_format", Limits())
