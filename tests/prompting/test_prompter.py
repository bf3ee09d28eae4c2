"""The prompter: the whole way from a request to token ids, and the event loop that must not feel it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors

from portico.errors import BadRequestError, NotSupportedError
from portico.prompting import ChatTemplate, Prompt, Prompter, Tokenizer, load_tokenizer
from portico.prompting.prompter import INLINE_CHARACTERS
from portico.prompting.renderers import known_renderer
from portico.prompting.renderers.harmony import HarmonyRenderer
from support.templates import MODERN, STRICT

HI = [{"role": "user", "content": "Hi"}]


def byte_tokenizer(directory: Path, *special: str, bos: bool = False) -> Tokenizer:
    """One token per byte, and ``special`` tokens behind them; with ``bos`` the first of those opens every text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(special))
    if bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{special[0]} $A", special_tokens=[(special[0], backend.token_to_id(special[0]))]
        )
    backend.save(str(directory / "tokenizer.json"))
    return load_tokenizer(directory)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("bytes"), "<s>", "</s>", "<|end|>", bos=True)


@pytest.fixture(scope="module")
def prompter(tokenizer: Tokenizer) -> Prompter:
    return Prompter(tokenizer, ChatTemplate(MODERN, {"bos_token": "<s>"}))


async def test_a_conversation(prompter: Prompter, tokenizer: Tokenizer) -> None:
    prompt = await prompter.chat(HI, reasoning_effort="none", chat_template_kwargs={"unknown": 1})
    assert prompt.text == "<|user|>\nHi<|end|>\n<|assistant|>\n<think>\n</think>\n"
    assert tokenizer.decode(prompt.token_ids, skip_special_tokens=False) == prompt.text
    assert tokenizer.token_to_id("<|end|>") in prompt.token_ids
    assert prompt.tail == "<|end|>\n<|assistant|>\n<think>\n</think>\n"
    assert prompt.passed_over == ["unknown"]


async def test_long_and_short_prompts_are_made_alike(prompter: Prompter) -> None:
    for size in (1, INLINE_CHARACTERS * 3):
        messages = [{"role": "user", "content": "é" * size}]
        assert await prompter.chat(messages) == prompter.render_chat(messages)
        assert await prompter.completion("é" * size) == prompter.encode("é" * size)


@pytest.mark.parametrize(
    ("how", "opens"),
    [
        ({}, True),
        ({"add_generation_prompt": True}, True),
        ({"add_generation_prompt": False}, False),
        ({"continue_final_message": True}, False),
        ({"continue_final_message": True, "add_generation_prompt": False}, False),
    ],
)
async def test_how_a_prompt_ends(prompter: Prompter, how: dict[str, Any], opens: bool) -> None:
    messages = [*HI, {"role": "assistant", "content": "so far"}]
    prompt = await prompter.chat(messages, **how)
    assert prompt.text.endswith("<think>") == opens
    assert prompt.text.endswith("so far") == bool(how.get("continue_final_message"))


@pytest.mark.parametrize(
    ("how", "param"),
    [
        ({"documents": "x"}, "documents"),
        ({"documents": [{"text": "x"}, "y"]}, "documents[1]"),
        ({"tools": "x"}, "tools"),
        ({"tools": [{"type": "function"}, 5]}, "tools[1]"),
        ({"chat_template_kwargs": [1]}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
    ],
)
async def test_every_refusal_names_the_field(prompter: Prompter, how: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        await prompter.chat(HI, **how)
    assert refused.value.param == param


async def test_deep_tools_are_refused(prompter: Prompter) -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(BadRequestError, match="deeply"):
        await prompter.chat(HI, [{"type": "function", "function": {"name": "f", "parameters": deep}}])


async def test_contradictions_are_refused(prompter: Prompter) -> None:
    with pytest.raises(BadRequestError, match="exclude each other") as refused:
        await prompter.chat(HI, continue_final_message=True, add_generation_prompt=True)
    assert refused.value.param == "continue_final_message"


async def test_special_tokens_are_added_once(tokenizer: Tokenizer) -> None:
    bos = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.token_to_id("<s>")
    with_bos = Prompter(tokenizer, ChatTemplate("{{ bos_token }}{{ messages[0].content }}", {"bos_token": "<s>"}))
    without = Prompter(tokenizer, ChatTemplate("{{ messages[0].content }}", {"bos_token": "<s>"}))
    for prompter, add, count in ((with_bos, False, 1), (with_bos, True, 1), (without, False, 0), (without, True, 1)):
        prompt = await prompter.chat(HI, add_special_tokens=add)
        assert list(prompt.token_ids).count(bos) == count
    assert list((await without.completion("x")).token_ids).count(bos) == 1
    assert list((await without.completion("x", add_special_tokens=False)).token_ids).count(bos) == 0


async def test_token_ids_are_taken_as_they_are(prompter: Prompter) -> None:
    ids = list(prompter.tokenizer.encode("héllo"))
    prompt = await prompter.completion(ids)
    assert prompt == Prompt(ids, "héllo")


async def test_half_a_surrogate_pair_is_replaced(prompter: Prompter) -> None:
    prompt = await prompter.chat([{"role": "user", "content": "a\ud83db"}])
    assert "a\ufffdb" in prompter.tokenizer.decode(prompt.token_ids)


async def test_a_model_without_a_template(tokenizer: Tokenizer) -> None:
    with pytest.raises(NotSupportedError, match="--chat-template") as refused:
        await Prompter(tokenizer).chat(HI)
    assert refused.value.status == 400
    assert (await Prompter(tokenizer).completion("x", add_special_tokens=False)).text == "x"


# -- templates out of requests ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trusting(tokenizer: Tokenizer) -> Iterator[Prompter]:
    prompter = Prompter(tokenizer, ChatTemplate(STRICT, {"bos_token": "<s>"}), request_templates=True)
    yield prompter
    prompter.close()


async def test_they_are_refused_by_default(prompter: Prompter) -> None:
    with pytest.raises(BadRequestError, match="takes no chat templates from requests") as refused:
        await prompter.chat(HI, chat_template="x")
    assert refused.value.param == "chat_template"


async def test_they_are_used_where_they_are_allowed(trusting: Prompter) -> None:
    prompt = await trusting.chat(HI, chat_template="{{ messages[0].content }}!", chat_template_kwargs={"x": 1})
    assert (prompt.text, prompt.passed_over) == ("Hi!", ["x"])
    with pytest.raises(BadRequestError, match="must be a Jinja text"):
        await trusting.chat(HI, chat_template=["x"])
    with pytest.raises(BadRequestError, match="not valid Jinja"):
        await trusting.chat(HI, chat_template="{% if %}")


# -- the event loop ---------------------------------------------------------------------------------------------------


async def longest_pause(work: asyncio.Future[Any]) -> float:
    """Seconds that the loop was kept from turning at a time while ``work`` ran."""
    longest = 0.0
    while not work.done():
        before = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - before)
        await asyncio.sleep(0.0005)
    return longest


async def test_the_loop_turns_while_a_long_prompt_is_made(prompter: Prompter) -> None:
    """100,000 tokens in 2,000 turns. Other work on this machine may stop us too, so the best of a few runs counts."""
    messages = [{"role": role, "content": "word " * 10} for _ in range(1000) for role in ("user", "assistant")]
    conversation = [*messages, *HI]
    before = time.perf_counter()
    assert len(prompter.render_chat(conversation).token_ids) > 100_000
    here = time.perf_counter() - before
    assert here > 0.006, "this would not be felt if it were done on the loop"
    pauses = []
    for _ in range(10):
        work = asyncio.ensure_future(prompter.chat(conversation))
        pauses.append(await longest_pause(work))
        assert len((await work).token_ids) > 100_000
        if pauses[-1] < here / 4:
            break
    assert min(pauses) < here / 4, pauses


async def test_a_harmful_template_does_not_stop_the_loop(trusting: Prompter) -> None:
    endless = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
    began = time.perf_counter()
    work = asyncio.ensure_future(trusting.chat(HI, chat_template=endless))
    pause = await longest_pause(work)
    lasted = time.perf_counter() - began
    with pytest.raises(BadRequestError, match="too long"):
        await work
    assert pause < lasted / 2
    assert (await trusting.chat(HI)).text == "<s>[INST]Hi[/INST]"


# -- families without a template --------------------------------------------------------------------------------------


def test_families_are_known_by_their_tokens(tmp_path: Path, tokenizer: Tokenizer) -> None:
    harmony = byte_tokenizer(tmp_path, "<|start|>", "<|channel|>", "<|message|>", "<|call|>", "<|return|>", "<|end|>")
    renderer = known_renderer(harmony, tmp_path)
    assert isinstance(renderer, HarmonyRenderer)
    prompt = Prompter(harmony, renderer).render_chat(HI)
    assert prompt.token_ids[0] == harmony.token_to_id("<|start|>")
    assert known_renderer(tokenizer, tmp_path) is None


@pytest.mark.parametrize("name", ["TOOLS_SYSTEM_TEMPLATE", "TOOLS_TEMPLATE"])
def test_deepseek_is_known_by_its_files(tmp_path: Path, name: str) -> None:
    deepseek = byte_tokenizer(tmp_path, "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")
    assert known_renderer(deepseek, tmp_path) is None
    (tmp_path / "encoding").mkdir()
    (tmp_path / "encoding" / "encoding_dsv.py").write_text(f'{name} = "Tools: {{tool_schemas}}"\n', encoding="utf-8")
    renderer = known_renderer(deepseek, tmp_path)
    assert renderer is not None
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert 'Tools: {"name": "f"}' in Prompter(deepseek, renderer).render_chat(HI, tools).text
