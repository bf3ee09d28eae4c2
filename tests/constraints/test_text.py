"""Bare strings: the text of a value in formats that write strings without quotes."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portico.errors import BadRequestError
from portico.grammar import Chain, Exactly, Text
from support.constraints import bare_constraint
from support.effort import examples
from support.vocabulary import Model


def lark_of(model: Model, schema: dict[str, object], stop: str = "</v>") -> str:
    grammar = Chain((Exactly("<v>"), Text(schema, stop, "tools[0].function.parameters"), Exactly(";")))
    constraint = bare_constraint(answer=grammar, control_tokens=model.names)
    assert constraint is not None
    return constraint.lark


@pytest.mark.parametrize("stop", ["</v>", "\n</v>\n", "<|im_start|>", '"', "a.b*"])
@pytest.mark.parametrize(
    ("schema", "yes", "no"),
    [
        ({"type": "string"}, ["", "any <text>\n"], []),
        ({"type": "string", "minLength": 2, "maxLength": 4}, ["é東", "</v"], ["x", "xxxxx"]),
        ({"type": "string", "maxLength": 3}, ["", "abc"], ["abcd"]),
        ({"type": "string", "minLength": 3}, ["abc", "x" * 50], ["ab"]),
        ({"type": "string", "pattern": "^[a-c]+$"}, ["abc"], ["", "abd", " abc"]),
        ({"type": "string", "pattern": "x/y"}, ["-x/y-", "x/y"], ["xy"]),
        ({"type": "string", "pattern": "^a|b$"}, ["ax", "xb"], ["xa", "bx"]),
        ({"type": "string", "pattern": r"^(a|[)|]x|\|)$"}, ["a", "|x", ")x", "|"], ["x", "(a"]),
        ({"type": "string", "pattern": "^c", "maxLength": 2}, ["cd"], ["dc", "cdd"]),
    ],
)
def test_length_and_pattern(model: Model, stop: str, schema: dict[str, object], yes: list[str], no: list[str]) -> None:
    lark = lark_of(model, schema, stop)
    assert [text for text in yes if not model.accepts(lark, f"<v>{text}{stop};")] == []
    assert [text for text in no if model.accepts(lark, f"<v>{text}{stop};")] == []


@settings(max_examples=examples(25), suppress_health_check=list(HealthCheck))
@given(
    low=st.integers(0, 5),
    more=st.integers(0, 20),
    stop=st.sampled_from(["</v>", "]]", '"']),
    seed=st.integers(0, 10**6),
)
def test_what_is_written_fits(model: Model, low: int, more: int, stop: str, seed: int) -> None:
    lark = lark_of(model, {"type": "string", "minLength": low, "maxLength": low + more}, stop)
    text = model.write(lark, seed, free=30, stops=[f"{stop};"])
    found = re.fullmatch(rf"<v>(.*?){re.escape(stop)};", text, re.DOTALL)
    assert found
    assert low <= len(found[1]) <= low + more


def test_a_bad_pattern_names_its_field(model: Model) -> None:
    with pytest.raises(BadRequestError) as caught:
        lark_of(model, {"type": "string", "pattern": 3})
    assert caught.value.param == "tools[0].function.parameters"
