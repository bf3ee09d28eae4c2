"""What a request promises is kept while sampling: forced calls and structured outputs of a model that would never
manage on its own."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from support.effort import EXHAUSTIVE
from support.openai_client import client_of
from support.server import RunningServer, running_server
from support.tiny_models import write

AT_ONCE = 8


@pytest.fixture(scope="module")
def server(smollm2_path: Path) -> Iterator[RunningServer]:
    with running_server("smollm2", "--log-level", "warning", "--max-sequences", "16") as running:
        yield running


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """What to serve where the grammar alone decides: a model whose words mean nothing, and cost as little."""
    directory = tmp_path_factory.mktemp("tiny")
    (directory / "template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    model = write("llama", directory / "tiny.gguf")
    return [model, "--served-model-name", "smollm2", "--chat-template", directory / "template.jinja"]


def schema(random_: random.Random, depth: int = 0) -> dict[str, Any]:
    """A small schema of any kind; bounded, so that answers are short."""
    kinds = ["boolean", "integer", "enum", "const", "string", "null"]
    if depth < 2:
        kinds += ["object", "array"]
    kind = random_.choice(kinds)
    match kind:
        case "integer":
            return {"type": "integer", "minimum": 0, "maximum": random_.choice([1, 9, 99])}
        case "enum":
            return {"enum": random_.sample(["red", "blau", "vert", "黒", 7, None, True], 3)}
        case "const":
            return {"const": random_.choice(["a b", 5, 'say "hi"', "🚀"])}
        case "string":
            return {"type": "string", "maxLength": random_.choice([2, 6])}
        case "object":
            return object_schema(random_, depth + 1)
        case "array":
            return {"type": "array", "items": schema(random_, depth + 1), "minItems": 1, "maxItems": 2}
    return {"type": kind}


def object_schema(random_: random.Random, depth: int) -> dict[str, Any]:
    names = random_.sample(["city", "days", "unit", "größe", "a-b", "x"], random_.randint(1, 2))
    return {
        "type": "object",
        "properties": {name: schema(random_, depth) for name in names},
        "required": names,
        "additionalProperties": False,
    }


def tools(random_: random.Random) -> list[dict[str, Any]]:
    return [
        {"type": "function", "function": {"name": name, "parameters": object_schema(random_, 1)}}
        for name in random_.sample(["get_weather", "book", "search-web", "f2"], 2)
    ]


@pytest.mark.parametrize("calls", [8, *([200] if EXHAUSTIVE else [])])
async def test_forced_calls_are_valid_every_one(server: RunningServer, calls: int) -> None:
    await _forced(server, calls)


@pytest.mark.slow
async def test_forced_calls_of_a_model_that_knows_nothing_are_valid(tiny: list[str | Path]) -> None:
    with running_server(*tiny, "--tool-parser", "hermes", "--log-level", "warning", "--max-sequences", "8") as running:
        await _forced(running, 100)


async def _forced(server: RunningServer, calls: int) -> None:
    async def force(one: AsyncOpenAI, number: int, slots: asyncio.Semaphore) -> int:
        random_ = random.Random(number)
        offered = tools(random_)
        named = number % 2 == 0
        choice: Any = "required"
        if named:
            choice = {"type": "function", "function": {"name": offered[1]["function"]["name"]}}
        async with slots:
            answer = await one.chat.completions.create(
                model="smollm2",
                messages=[{"role": "user", "content": f"Please help me, case {number}."}],
                tools=offered,  # type: ignore[arg-type]
                tool_choice=choice,
                parallel_tool_calls=False,
                temperature=0.8,
                seed=number,
                max_tokens=1000,
            )
        message = answer.choices[0].message
        assert answer.choices[0].finish_reason == ("stop" if named else "tool_calls"), (number, answer)
        assert not message.content
        assert message.tool_calls is not None
        assert len(message.tool_calls) == 1
        call = message.tool_calls[0]
        assert call.type == "function"
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in offered}
        if named:
            assert call.function.name == offered[1]["function"]["name"]
        jsonschema.validate(json.loads(call.function.arguments), schemas[call.function.name])
        return 1

    slots = asyncio.Semaphore(AT_ONCE)
    async with AsyncOpenAI(base_url=server.base_url, api_key="none", max_retries=0, timeout=600) as one:
        kept = await asyncio.gather(*(force(one, number, slots) for number in range(calls)))
    assert sum(kept) == calls


@pytest.mark.slow
@pytest.mark.parametrize("parser", ["hermes", "qwen3_coder", "mistral", "llama3_json", "pythonic", "deepseek_v31"])
def test_native_framing_of_families(tiny: list[str | Path], parser: str) -> None:
    """Forced calls come in the family's own words, and its own parser reads them, streamed or not."""
    offered = tools(random.Random(5))
    arguments: dict[str, Any] = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "Call it."}],
        "tools": offered,
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 0,
        "max_tokens": 1000,
    }
    with (
        running_server(*tiny, "--tool-parser", parser, "--log-level", "warning") as running,
        client_of(running) as one,
    ):
        whole = one.chat.completions.create(**arguments).choices[0]
        assert whole.finish_reason == "tool_calls"
        assert whole.message.tool_calls
        call = whole.message.tool_calls[0].function  # type: ignore[union-attr]
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in offered}
        jsonschema.validate(json.loads(call.arguments), schemas[call.name])
        pieces, name = "", ""
        for chunk in one.chat.completions.create(**arguments, stream=True):
            for delta in chunk.choices[0].delta.tool_calls or ():
                name += delta.function.name or "" if delta.function else ""
                pieces += delta.function.arguments or "" if delta.function else ""
        assert (name, pieces) == (call.name, call.arguments)


def test_named_choice_ends_with_stop(client: OpenAI) -> None:
    offered = tools(random.Random(1))
    answer = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "Do."}],
        tools=offered,  # type: ignore[arg-type]
        tool_choice={"type": "function", "function": {"name": offered[0]["function"]["name"]}},
        max_tokens=1000,
        temperature=0,
    )
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.tool_calls


class TestStructuredOutputs:
    def ask(self, client: OpenAI, **promise: Any) -> str:
        arguments: dict[str, Any] = {
            "model": "smollm2",
            "messages": [{"role": "user", "content": "Describe a fox."}],
            "temperature": 100,  # so hot that the seed decides, and no rounding of the model's
            "seed": 3,
            "max_tokens": 250,
            **promise,
        }
        whole = client.chat.completions.create(**arguments).choices[0]
        text = ""
        for chunk in client.chat.completions.create(**arguments, stream=True):
            text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        assert text == whole.message.content
        assert whole.finish_reason == "stop", text
        return text

    def test_json_schema(self, client: OpenAI) -> None:
        wanted = {
            "type": "object",
            "properties": {"colour": {"enum": ["red", "grey"]}, "legs": {"$ref": "#/$defs/count"}},
            "required": ["colour", "legs"],
            "additionalProperties": False,
            "$defs": {"count": {"type": "integer", "minimum": 0, "maximum": 8}},
        }
        promise = {"type": "json_schema", "json_schema": {"name": "fox", "schema": wanted, "strict": True}}
        jsonschema.validate(json.loads(self.ask(client, response_format=promise)), wanted)

    def test_choice_and_regex(self, client: OpenAI) -> None:
        choice = self.ask(client, extra_body={"structured_outputs": {"choice": ["fox", "wolf 🐺"]}})
        assert choice in ("fox", "wolf 🐺")
        text = self.ask(client, extra_body={"structured_outputs": {"regex": "[a-c]{3}-[0-9]{2}"}})
        assert re.fullmatch("[a-c]{3}-[0-9]{2}", text)

    def test_grammar(self, client: OpenAI) -> None:
        gbnf = 'root ::= "yes" " " number\nnumber ::= [0-9] [0-9]'
        assert re.fullmatch("yes [0-9]{2}", self.ask(client, extra_body={"structured_outputs": {"grammar": gbnf}}))

    def test_json_object(self, client: OpenAI) -> None:
        answer = client.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": "A JSON object with one key."}],
            response_format={"type": "json_object"},
            temperature=0,
            max_tokens=200,
        )
        text = answer.choices[0].message.content or ""
        assert text.lstrip().startswith("{")
        if answer.choices[0].finish_reason == "stop":
            assert isinstance(json.loads(text), dict)

    def test_completions_too(self, client: OpenAI) -> None:
        answer = client.completions.create(
            model="smollm2",
            prompt="Colour:",
            max_tokens=20,
            extra_body={"structured_outputs": {"choice": ["red", "blue"]}},
        )
        assert answer.choices[0].text in ("red", "blue")

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("promise", "param"),
        [
            ({"response_format": {"type": "xml"}}, "response_format.type"),
            ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
            (
                {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strin"}}}},
                "response_format.json_schema.schema",
            ),
            (
                {
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {"name": "x", "strict": True, "schema": {"type": "string", "pattern": "(("}},
                    }
                },
                "response_format.json_schema.schema",
            ),
            ({"structured_outputs": {"regex": "(a"}}, "structured_outputs.regex"),
            ({"structured_outputs": {"grammar": "start: undefined_rule"}}, "structured_outputs.grammar"),
            ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
            ({"tool_choice": "required"}, "tool_choice"),
        ],
    )
    def test_what_cannot_be_promised_is_refused_first(
        self, client: OpenAI, promise: dict[str, Any], param: str, stream: bool
    ) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model="smollm2", messages=[{"role": "user", "content": "x"}], stream=stream, extra_body=promise
            )
        assert caught.value.param == param

    def test_a_hostile_schema_costs_little(self, client: OpenAI) -> None:
        nested: dict[str, Any] = {"type": "string"}
        for _ in range(300):
            nested = {"type": "object", "properties": {"a": nested}, "required": ["a"]}
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(
                model="smollm2",
                messages=[{"role": "user", "content": "x"}],
                response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": nested}},
                timeout=120,
            )
        assert client.models.list().data  # and the server is well
