"""Chat templates: Hugging Face's semantics on templates of our own."""

from __future__ import annotations

import datetime

import pytest

from portico.errors import BadRequestError
from portico.prompting import ChatTemplate
from support.templates import MODERN, STRICT

HI = [{"role": "user", "content": "Hi"}]


def render(source: str, messages: list[dict[str, object]] = HI, **options: object) -> str:
    return ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"}).render(messages, **options)  # type: ignore[arg-type]


def test_a_turn() -> None:
    assert render(MODERN) == "<|user|>\nHi<|end|>\n"
    assert render(MODERN, add_generation_prompt=True).endswith("<|assistant|>\n<think>")
    assert render(MODERN, add_generation_prompt=True, enable_thinking=False).endswith("<think>\n</think>\n")


def test_blocks_are_trimmed_and_stripped() -> None:
    assert render("  {% if true %}\nx\n  {% endif %}\ny") == "x\ny"


def test_windows_line_ends_in_the_source() -> None:
    assert render("a\r\nb{{ '\\r\\n' }}") == "a\nb\r\n"


def test_tojson_as_transformers_writes_it() -> None:
    value = {"b": "é<&>'", "a": [1, None, True]}
    assert render("{{ v | tojson }}", v=value) == '{"b": "é<&>\'", "a": [1, null, true]}'
    assert render("{{ v | tojson(ensure_ascii=true) }}", v="é") == '"\\u00e9"'
    assert render("{{ v | tojson(indent=1, sort_keys=true) }}", v={"b": 1, "a": 2}) == '{\n "a": 2,\n "b": 1\n}'
    assert render("{{ v | tojson(separators=(',', ':')) }}", v={"a": [1, 2]}) == '{"a":[1,2]}'


def test_loop_controls_and_generation() -> None:
    skip, stop = "{% if i == 2 %}{% continue %}{% endif %}", "{% if i == 4 %}{% break %}{% endif %}"
    assert render("{% for i in range(9) %}" + skip + stop + "{{ i }}{% endfor %}") == "013"
    assert render("{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}") == "21"


def test_the_clock_is_the_templates_own() -> None:
    template = ChatTemplate("{{ strftime_now('%d %b %Y') }}", clock=lambda: datetime.datetime(2026, 1, 2))
    assert template.render([]) == "02 Jan 2026"
    assert ChatTemplate("{{ strftime_now('%Y') }}").render([]) == str(datetime.datetime.now().year)


def test_named_sets() -> None:
    named = {"default": "D", "tool_use": "T", "rag": "R"}
    template = ChatTemplate(named)
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert template.render(HI) == "D"
    assert template.render(HI, tools) == "T"
    assert template.render(HI, documents=[{"text": "x"}]) == "R"
    assert template.render(HI, tools, template="rag") == "R"
    assert ChatTemplate([{"name": n, "template": t} for n, t in named.items()]).render(HI, tools) == "T"
    assert ChatTemplate({"only": "O"}).render(HI, tools) == "O"
    with pytest.raises(BadRequestError, match="default, rag, tool_use"):
        template.render(HI, template="other")
    with pytest.raises(BadRequestError, match="choose one of: a, b"):
        ChatTemplate({"a": "A", "b": "B"}).render(HI)


def test_special_tokens_in_either_form_and_no_second_bos() -> None:
    template = ChatTemplate("{{ bos_token }}{{ eos_token }}", {"bos_token": {"content": "<s>"}, "eos_token": None})
    text = template.render([])
    assert text == "<s>"
    assert template.begins_with_bos(text)
    assert not template.begins_with_bos("x")
    assert not ChatTemplate("x").begins_with_bos("x")


def test_null_is_absent_and_reasoning_has_all_its_names() -> None:
    names = "{{ m.reasoning_content }} {{ m.thinking }} {{ m.reasoning }};"
    source = "{% for m in messages %}{{ 'content' in m }} " + names + "{% endfor %}"
    messages: list[dict[str, object]] = [
        {"role": "assistant", "content": None, "reasoning": "r"},
        {"role": "assistant", "content": "", "reasoning_content": "c", "thinking": "own"},
    ]
    assert render(source, messages) == "False r r r;True c own c;"


# -- continuing the last message --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["so far", "so far ", "", '```json\n{"x": ', "<think>\nhm"])
def test_the_last_message_is_left_open(text: str) -> None:
    open_end = [*HI, {"role": "assistant", "content": text}]
    assert render(MODERN, open_end, continue_final_message=True) == f"<|user|>\nHi<|end|>\n<|assistant|>\n{text}"


def test_a_trimming_template_is_followed() -> None:
    source = "{% for m in messages %}{{ m.content | trim }}.{% endfor %}"
    assert (
        render(source, [*HI, {"role": "assistant", "content": " so far "}], continue_final_message=True) == "Hi.so far"
    )


def test_reasoning_is_continued_where_there_is_no_content_yet() -> None:
    thinking = [*HI, {"role": "assistant", "content": "", "reasoning": "Let me"}]
    assert render(MODERN, thinking, continue_final_message=True).endswith("<|assistant|>\n<think>Let me")
    both = [*HI, {"role": "assistant", "content": "A", "reasoning": "Let me"}]
    assert render(MODERN, both, continue_final_message=True).endswith("<think>Let me</think>A")
    assert render(MODERN, both, continue_final_message="reasoning_content").endswith("<think>Let me")


def test_the_last_text_part_is_continued() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    messages = [*HI, {"role": "assistant", "content": parts}]
    assert render(MODERN, messages, continue_final_message=True).endswith("a<pic>b")
    assert parts[2] == {"type": "text", "text": "b"}, "the caller's message was changed"


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "no message to continue"),
        ([{"role": "assistant"}], "needs text"),
        ([{"role": "assistant", "content": [{"type": "image"}]}], "needs text"),
    ],
)
def test_what_cannot_be_continued(messages: list[dict[str, object]], words: str) -> None:
    with pytest.raises(BadRequestError, match=words) as refused:
        render(MODERN, messages, continue_final_message=True)
    assert refused.value.param == "continue_final_message"


def test_a_template_that_hides_the_end_cannot_continue() -> None:
    with pytest.raises(BadRequestError, match="does not show how the last message ends"):
        render("{{ messages[0].content }}", [*HI, {"role": "assistant", "content": "x"}], continue_final_message=True)
    with pytest.raises(BadRequestError, match="exclude each other"):
        render(MODERN, HI, continue_final_message=True, add_generation_prompt=True)


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_template_refuses_in_its_own_words() -> None:
    with pytest.raises(BadRequestError, match="roles must alternate") as refused:
        render(STRICT, [*HI, *HI])
    assert refused.value.param == "messages"
    assert "Traceback" not in refused.value.message


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ x", "{% for %}", "{% unknown %}", "{{ 1 | nofilter }}", "{" * 5000 + "% if x"]
)
def test_what_is_no_template_says_where(source: str) -> None:
    with pytest.raises(BadRequestError, match="chat template") as refused:
        ChatTemplate(source).render([])
    assert refused.value.param in ("chat_template", "messages")


def test_messages_must_be_objects() -> None:
    with pytest.raises(BadRequestError, match="must be an object"):
        ChatTemplate(MODERN).render(["Hi"])  # type: ignore[list-item]


@pytest.mark.parametrize("source", [{}, {"default": 1}, {"x": None}])
def test_a_set_must_hold_texts(source: dict[str, str]) -> None:
    with pytest.raises(BadRequestError, match="maps names to Jinja texts"):
        ChatTemplate(source)
