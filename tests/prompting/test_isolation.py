"""Templates out of requests: the child process does what the template says, and is killed when it does harm."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from portico.child import Children
from portico.errors import BadRequestError, OverloadedError
from portico.prompting import ChatTemplate, JinjaRenderer, Prompter, RenderRequest, load_tokenizer
from portico.prompting.isolation import PROCESSES, WALL_SECONDS, TemplateProcesses, _Reply
from portico.threads import CALLER
from support.templates import MODERN, OLD, PARTS, STRICT
from support.tokenizers import BYTES

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
def process() -> Iterator[TemplateProcesses]:
    process = TemplateProcesses()
    yield process
    process.close()


@pytest.mark.parametrize("source", [MODERN, STRICT, OLD, PARTS])
def test_the_same_as_at_home(process: TemplateProcesses, source: str) -> None:
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    request = RenderRequest(messages=CONVERSATION, kwargs={"enable_thinking": False})
    away = JinjaRenderer(process.template(source, tokens)).render(request)
    assert away == JinjaRenderer(ChatTemplate(source, tokens)).render(request)


@pytest.fixture(scope="module")
def hasty() -> Iterator[TemplateProcesses]:
    """With less time for each call."""
    process = TemplateProcesses()
    tests = str(Path(__file__).resolve().parents[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", tests, prepend=os.pathsep)
        process._children = Children("support.hasty_templates", _Reply, seconds=WALL_SECONDS, count=PROCESSES)
        yield process
        process.close()


@pytest.mark.parametrize("source", HARMFUL.values(), ids=HARMFUL)
def test_harm_ends_with_the_child(hasty: TemplateProcesses, process: TemplateProcesses, source: str) -> None:
    one = process if source == HOARD else hasty
    with pytest.raises(BadRequestError, match=r"too long|too much|more than"):
        one.template(source, {}).render_exact(CONVERSATION, {})
    assert one.template("{{ messages | length }}", {}).render_exact(CONVERSATION, {}) == "4", "no child came after"


def test_refusals_come_back_with_their_words(process: TemplateProcesses) -> None:
    with pytest.raises(BadRequestError, match="line 1") as refused:
        process.template("{% if %}", {})
    assert refused.value.param == "chat_template"
    with pytest.raises(BadRequestError, match="not for you"):
        process.template("{{ raise_exception('not for you') }}", {}).render_exact(CONVERSATION, {})


def test_the_child_knows_nothing_of_the_environment(
    process: TemplateProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTICO_API_KEY", "secret")
    other = TemplateProcesses()
    try:
        other.template("x", {})
        with open(f"/proc/{other.pids[0]}/environ", "rb") as environment:
            assert b"secret" not in environment.read()
    except FileNotFoundError:
        pytest.skip("no /proc here")
    finally:
        other.close()


@pytest.mark.slow
async def test_one_strangers_bombs_keep_nobody_else_waiting(tmp_path: Path) -> None:
    """Six of them before an ordinary template of another key's: that one is not the last."""
    tokenizer = load_tokenizer(BYTES["rwkv"](tmp_path / "t"))
    prompter = Prompter(tokenizer, ChatTemplate("x"), request_templates=True)
    done: list[str] = []

    async def ask(caller: str, source: str) -> None:
        CALLER.set(caller)
        try:
            await prompter.chat(CONVERSATION, chat_template=source)
        except (BadRequestError, OverloadedError):
            pass
        done.append(caller)

    try:
        bombs = [asyncio.ensure_future(ask("stranger", f"{HARMFUL['time']}{n}")) for n in range(6)]
        await asyncio.sleep(0)
        await asyncio.gather(ask("friend", "{{ messages | length }}"), *bombs)
    finally:
        prompter.close()
    assert done.index("friend") <= 3
