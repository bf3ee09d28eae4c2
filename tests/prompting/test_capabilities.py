"""What a template can take: from its syntax tree, and by asking it."""

from __future__ import annotations

import pytest

from portico.prompting import ChatTemplate
from portico.prompting.capabilities import Capabilities
from portico.prompting.syntax import read_syntax
from support.templates import MODERN, OLD, PARTS, STRICT


def capabilities(source: str) -> Capabilities:
    return ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"}).capabilities()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (MODERN, "openai"),
        (STRICT, "string"),
        (OLD, "string"),
        (PARTS, "openai"),
        ("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}", "openai"),
        ("{% for m in messages %}{% for p in m['content'] %}{{ p.text }}{% endfor %}{% endfor %}", "openai"),
        ("{% for m in messages %}{% for p in m.get('content') %}{{ p.text }}{% endfor %}{% endfor %}", "openai"),
        ("{% set c = messages[0]['content'] %}{% for p in c %}{{ p.text }}{% endfor %}", "openai"),
        ("{% for m in messages[1:] %}{{ m.content | map(attribute='text') | join }}{% endfor %}", "openai"),
        ("{% for m in messages %}{{ m.content[0].text }}{% endfor %}", "openai"),
        (
            "{% macro show(c) %}{% for p in c %}{{ p.text }}{% endfor %}{% endmacro %}{{ show(messages[0].content) }}",
            "openai",
        ),
        (
            "{% macro show(m) %}{% set c = m.content %}{% for p in c %}{{ p }}{% endfor %}{% endmacro %}"
            "{{ show(m=messages[0]) }}",
            "openai",
        ),
        (
            "{% set ns = namespace(c='') %}{% set ns.c = messages[0].content %}{% for p in ns.c %}{{ p }}{% endfor %}",
            "openai",
        ),
        ("{% for line in messages[0].content.split('x') %}{{ line }}{% endfor %}", "string"),
        ("{% for call in messages[0].tool_calls %}{{ call }}{% endfor %}{{ messages[0].content }}", "string"),
        ("{% for p in tools[0].content %}{{ p }}{% endfor %}{{ messages[0].content }}", "string"),
    ],
)  # fmt: skip
def test_the_form_of_content(source: str, expected: str) -> None:
    assert read_syntax(source).content_format == expected


def test_variables_and_their_words() -> None:
    source = (
        "{% set effort = reasoning_effort | default('high') %}{% if effort not in ('low', 'high') %}x{% endif %}"
        "{% if thinking_mode == 'on' %}y{% endif %}{% if other == 'z' %}{% endif %}"
    )
    syntax = read_syntax(source)
    assert syntax.variables == {"reasoning_effort", "thinking_mode", "other"}
    assert syntax.literals == {"reasoning_effort": {"low", "high"}, "thinking_mode": {"on"}}


def test_a_modern_template() -> None:
    assert capabilities(MODERN) == Capabilities(
        parts=frozenset({"user", "system", "assistant", "tool"}), bare_tools=True, developer=False
    )


def test_a_strict_template() -> None:
    found = capabilities(STRICT)
    assert found == Capabilities(
        several_systems=False,
        late_systems=False,
        same_role_twice=False,
        tools=False,
        parallel_calls=False,
        text_arguments=False,
        short_call_ids=True,
    )


def test_an_old_template() -> None:
    found = capabilities(OLD)
    assert found == Capabilities(
        system=False,
        several_systems=False,
        late_systems=False,
        tools=False,
        object_arguments=False,
        null_content=True,
        reasoning_beside_calls=True,
    )


def test_a_template_that_would_print_a_python_dict_is_given_text() -> None:
    prints = (
        "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name ~ c.function.arguments }}"
    )
    assert not capabilities(prints + "{% endfor %}{% endfor %}").object_arguments
    declares = "{{ tools }}" + prints.replace("arguments }}", "arguments | tojson }}")
    assert capabilities(declares + "{% endfor %}{% endfor %}").object_arguments, "the tools it prints are no arguments"


def test_a_template_of_parts() -> None:
    found = capabilities(PARTS)
    assert not found.strings
    assert found.parts >= {"user", "system", "assistant"}


def test_developers_and_thoughts_count_only_where_they_are_mentioned() -> None:
    prints_any_role = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    assert not capabilities(prints_any_role).developer
    assert capabilities("{# developer #}" + prints_any_role).developer
    thoughts = (
        "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
        "{{ p.thinking if p.type == 'thinking' else p.text }}{% endfor %}{% endif %}{% endfor %}"
    )
    assert capabilities(thoughts).thinking_parts
    assert not capabilities(prints_any_role).thinking_parts


def test_a_template_that_refuses_everything_is_judged_by_its_syntax() -> None:
    walks = "{{ raise_exception('no') }}{% for p in messages[0].content %}{{ p.text }}{% endfor %}"
    assert capabilities(walks).parts == {"user", "system", "assistant", "tool"}
    assert capabilities("{{ raise_exception('no') }}{{ messages[0].content }}").parts == frozenset()
