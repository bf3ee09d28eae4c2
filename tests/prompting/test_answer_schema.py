"""The schema of an answer: shown where the model has a place for it, and elsewhere where the operator says so."""

from __future__ import annotations

from typing import Any

import pytest

from portico.prompting import ChatTemplate, Prompter
from portico.prompting.renderers.base import AnswerSchema
from portico.prompting.renderers.deepseek import DeepSeekRenderer
from portico.prompting.renderers.harmony import HarmonyRenderer
from support.generation import tiny_tokenizer

PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
PLACE = PLAIN + "{% if response_format %}[{{ response_format.json_schema | tojson }}]{% endif %}"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "description": "Where?", "schema": SCHEMA}}
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def prompt(template: Any, *, show: bool = False, response_format: Any = FORMAT, **options: Any) -> str:
    tokenizer = tiny_tokenizer()
    if isinstance(template, str):
        template = ChatTemplate(template, tokenizer.special_tokens)
    made = Prompter(tokenizer, template, show_schema=show).render_chat(
        MESSAGES, response_format=response_format, **options
    )
    return made.text


def test_in_its_place() -> None:
    for show in (False, True):
        text = prompt(PLACE, show=show)
        assert text.endswith('[{"type": "object", "properties": {"city": {"type": "string"}}}]')
        assert text.count("properties") == 1
    assert "[" not in prompt(PLACE, response_format={"type": "text"})


def test_in_words_where_the_operator_says_so() -> None:
    assert "city" not in prompt(PLAIN)
    text = prompt(PLAIN, show=True)
    before, _, after = text.partition('follows this schema:\n{"type": "object"')
    assert before.startswith("<system>Be brief.")
    assert "(Where?)" in before
    assert after.endswith("<user>Hi")


def test_harmony_has_a_place() -> None:
    text = prompt(HarmonyRenderer())
    assert '# Response Formats\n\n## place\n\n// Where?\n{"type": "object"' in text
    assert text.index("# Instructions") < text.index("# Response Formats") < text.index("<|start|>user")
    assert "Response Formats" not in prompt(HarmonyRenderer(), response_format=None)


def test_deepseek_has_one_where_its_words_are_known() -> None:
    words = {"RESPONSE_FORMAT_TEMPLATE": "Reply like this: {schema}"}
    assert 'Be brief.\n\nReply like this: {"type": "object"' in prompt(DeepSeekRenderer("v3.2", words))
    assert "city" not in prompt(DeepSeekRenderer("v3.2"))
    assert "city" in prompt(DeepSeekRenderer("v3.2"), show=True)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (FORMAT, AnswerSchema(SCHEMA, "place", "Where?")),
        ({"type": "json_object", "schema": {"description": "d"}}, AnswerSchema({"description": "d"}, "answer", "d")),
        ({"type": "json_schema", "json_schema": {"schema": {}, "name": None}}, AnswerSchema({})),
        ({"type": "json_object"}, None),
        ({"type": "json_schema", "json_schema": "x"}, None),
        ({"type": "json_schema", "json_schema": {"schema": 5}}, None),
        ("json", None),
        (None, None),
    ],
)
def test_what_is_a_schema(given: object, found: AnswerSchema | None) -> None:
    assert AnswerSchema.of(given) == found
