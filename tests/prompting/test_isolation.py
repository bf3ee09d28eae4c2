"""Templates out of requests: the child process does what the template says, and is killed when it does harm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from portico.errors import BadRequestError
from portico.prompting import ChatTemplate, JinjaRenderer, RenderRequest
from portico.prompting.isolation import TemplateProcess
from support.templates import MODERN, OLD, PARTS, STRICT

SHARE = (
    "{%% set ns = namespace(x=[1], y=[1]) %%}{%% for i in range(60) %%}"
    "{%% set ns.x = [ns.x, ns.x] %%}{%% set ns.y = [ns.y, ns.y] %%}{%% endfor %%}%s"
)
HOARD = (
    "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = ns.x + ['x' * 9999999 ~ i] %}{% endfor %}"
)
HARMFUL = {
    "comparison of shared lists": SHARE % "{{ ns.x == ns.y }}",
    "text of a shared list": SHARE % "{{ ns.x | string }}",
    "JSON of a shared list": SHARE % "{{ ns.x | tojson }}",
    "many large texts": HOARD,
    "time": "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
}
CONVERSATION = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": "Q2"},
]


@pytest.fixture(scope="module")
def process() -> Iterator[TemplateProcess]:
    process = TemplateProcess(seconds=1.0)
    yield process
    process.close()


@pytest.mark.parametrize("source", [MODERN, STRICT, OLD, PARTS])
def test_the_same_as_at_home(process: TemplateProcess, source: str) -> None:
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    request = RenderRequest(messages=CONVERSATION, kwargs={"enable_thinking": False})
    away = JinjaRenderer(process.template(source, tokens)).render(request)
    assert away == JinjaRenderer(ChatTemplate(source, tokens)).render(request)


@pytest.mark.parametrize("source", HARMFUL.values(), ids=HARMFUL)
def test_harm_ends_with_the_child(process: TemplateProcess, source: str) -> None:
    with pytest.raises(BadRequestError, match=r"too long|too much|more than"):
        process.template(source, {}).render_exact(CONVERSATION, {})
    assert process.template("{{ messages | length }}", {}).render_exact(CONVERSATION, {}) == "4", "no child came after"


def test_refusals_come_back_with_their_words(process: TemplateProcess) -> None:
    with pytest.raises(BadRequestError, match="line 1") as refused:
        process.template("{% if %}", {})
    assert refused.value.param == "chat_template"
    with pytest.raises(BadRequestError, match="not for you"):
        process.template("{{ raise_exception('not for you') }}", {}).render_exact(CONVERSATION, {})


def test_the_child_knows_nothing_of_the_environment(process: TemplateProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_API_KEY", "secret")
    other = TemplateProcess()
    try:
        other.template("x", {})
        with open(f"/proc/{other.pids[0]}/environ", "rb") as environment:
            assert b"secret" not in environment.read()
    except FileNotFoundError:
        pytest.skip("no /proc here")
    finally:
        other.close()
