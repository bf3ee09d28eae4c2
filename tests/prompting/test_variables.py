"""Template variables out of requests: who may set what, and how each family is told to think."""

from __future__ import annotations

from typing import Any

import pytest

from portico.errors import BadRequestError
from portico.prompting import ChatTemplate, JinjaRenderer, RenderRequest
from portico.prompting.syntax import read_syntax
from portico.prompting.variables import EFFORTS, reasoning_variables, request_variables

HI = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    "name",
    ["messages", "tools", "documents", "add_generation_prompt", "chat_template", "tokenize", "raise_exception",
     "strftime_now", "namespace", "range", "bos_token"],
)  # fmt: skip
def test_the_callers_own_names_are_not_for_clients(name: str) -> None:
    syntax = read_syntax("{{ x }}{{ " + name + " }}")
    with pytest.raises(BadRequestError) as refused:
        request_variables({name: 1}, syntax, {"bos_token"}, allowed={name})
    assert refused.value.param == f"chat_template_kwargs.{name}"


def test_only_what_the_template_reads_or_the_operator_allows() -> None:
    taken, passed_over = request_variables({"x": 1, "y": 2, "z": 3}, read_syntax("{{ x }}"), allowed={"z"})
    assert taken == {"x": 1, "z": 3}
    assert passed_over == ["y"]
    assert request_variables(None, read_syntax("")) == ({}, [])
    with pytest.raises(BadRequestError, match="must be an object"):
        request_variables([1], read_syntax(""))


SWITCHES = {
    "enable_thinking": "{% if enable_thinking %}{% endif %}",
    "thinking": "{% if thinking %}{% endif %}",
    "thinking_mode": "{% if thinking_mode == 'enabled' %}{% endif %}",
    "thinking_budget": "{{ thinking_budget }}",
    "reasoning_mode": "{% if reasoning_mode == '/think' or reasoning_mode == '/no_think' %}{% endif %}",
}


@pytest.mark.parametrize(
    ("name", "off", "on"),
    [
        ("enable_thinking", False, True),
        ("thinking", False, True),
        ("thinking_mode", "disabled", "enabled"),
        ("thinking_budget", 0, None),
        ("reasoning_mode", "/no_think", "/think"),
    ],
)
def test_thinking_is_switched_in_the_templates_own_words(name: str, off: Any, on: Any) -> None:
    syntax = read_syntax(SWITCHES[name])
    assert reasoning_variables(syntax, "none") == {name: off}
    assert reasoning_variables(syntax, thinking=False) == {name: off}
    assert reasoning_variables(syntax, "high") == ({name: on} if on is not None else {})
    assert reasoning_variables(syntax, "high", thinking=False) == {name: off}
    assert reasoning_variables(syntax) == {}
    assert reasoning_variables(read_syntax("{{ messages }}"), "high") == {}


def words(*own: str) -> str:
    return "{% if reasoning_effort not in " + repr(own) + " %}{{ raise_exception('no') }}{% endif %}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ 'Reasoning: ' + reasoning_effort }}", ["low", "low", "low", "medium", "high", "high", "high"]),
        (words("xhigh", "medium", "low"), ["low", "low", "low", "medium", "xhigh", "xhigh", "xhigh"]),
        (words("high", "max"), ["high", "high", "high", "high", "high", "max", "max"]),
        (words("none", "high"), ["none", "none", "high", "high", "high", "high", "high"]),
        (words("no_think", "low", "high"), ["no_think", "low", "low", "high", "high", "high", "high"]),
        ("{% if thinking %}{{ reasoning_effort }}{% endif %}", [None, "low", "low", "medium", "high", "high", "high"]),
    ],
)
def test_an_effort_is_the_nearest_that_the_template_knows(source: str, expected: list[str | None]) -> None:
    syntax = read_syntax(source)
    assert [reasoning_variables(syntax, effort).get("reasoning_effort") for effort in EFFORTS] == expected


def test_what_is_no_effort() -> None:
    with pytest.raises(BadRequestError, match="reasoning_effort must be one of none, minimal"):
        reasoning_variables(read_syntax("{{ x }}"), "enormous")


def test_the_order_of_precedence() -> None:
    template = ChatTemplate("{{ enable_thinking }} {{ tone }}{{ messages[0].content and '' }}")
    renderer = JinjaRenderer(template, defaults={"enable_thinking": "default", "tone": "warm"})

    def text(**how: Any) -> str:
        return renderer.render(RenderRequest(messages=HI, **how)).text

    assert text() == "default warm"
    assert text(reasoning_effort="none") == "False warm"
    assert text(reasoning_effort="none", kwargs={"enable_thinking": True}) == "True warm"
    assert renderer.render(RenderRequest(messages=HI, kwargs={"other": 1})).passed_over == ["other"]
