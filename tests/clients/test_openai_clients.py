"""The clients that people use, against a running server: OpenAI's own SDKs in Python and JavaScript, LangChain, LiteLLM
and Vercel's AI SDK; chat, streams, a whole round of tools, structured output, embeddings, errors.

Once over recorded answers, where the model's part is known to the letter, and once over the real models, where it is
the constraint that makes a model of 135 million parameters call tools.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.lib.streaming.chat import (
    ChunkEvent,
    ContentDeltaEvent,
    ContentDoneEvent,
    FunctionToolCallArgumentsDoneEvent,
)
from pydantic import BaseModel, Field

from portico.engines.replay import Script
from support.bert import embedded
from support.certain import CAPITAL, beginning
from support.generation import tiny_tokenizer
from support.js import Script as Js
from support.js import js  # noqa: F401  (a fixture)
from support.openai_client import client_of
from support.openapi import assert_valid
from support.replay import Replaying, replaying
from support.server import RunningServer, running_server
from support.tokenizers import unpacked

KEY = "sesame"
ANSWERS: dict[str, str | Script] = {
    "plain": "It is sunny. ☀️",
    "thinks": "<think>\nWhich city? 🗼\n</think>\n\nIt is sunny.",
    "calls": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>',
    "thinks_and_calls": "<think>\nI ask.\n</think>\n\nLet me look.\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    "answer": "Sunny in both.",
    "json": '{"city": "Paris"}',
    "fails": Script(tiny_tokenizer().encode("It is "), finish_reason="error", error="The GPU is on fire."),
}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}]


class City(BaseModel):
    city: str


class Paris(BaseModel):
    """A city that a model can name in one way only."""

    city: Literal["Paris"]


class GetWeather(BaseModel):
    """The weather of a city."""

    city: str


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **fields}


@pytest.fixture(scope="module")
def replay() -> Iterator[Replaying]:
    with replaying(
        ANSWERS,
        tool_parser="hermes",
        reasoning_parser="qwen3",
        reasoning_content=True,
        keys=[KEY],
        embedding_size=8,
        capabilities=frozenset({"generate", "logprobs", "prompt_logprobs", "constraints", "embed"}),
    ) as up:
        yield up


@pytest.fixture(scope="module")
def real(smollm2_path: Path, minilm_path: Path) -> Iterator[RunningServer]:
    with running_server("smollm2", "--embedding-model", "minilm", "--log-level", "warning") as up:
        yield up


# -- recorded answers --------------------------------------------------------------------------------------------------


class TestPython:
    """OpenAI's Python SDK, which validates strictly here."""

    @pytest.fixture(scope="class")
    @staticmethod
    def client(replay: Replaying) -> Iterator[OpenAI]:
        base = f"{replay.url}/v1"
        with OpenAI(base_url=base, api_key=KEY, max_retries=0, timeout=120, _strict_response_validation=True) as one:
            yield one

    def test_create(self, client: OpenAI) -> None:
        raw = client.chat.completions.with_raw_response.create(**ask("[[plain]]"), extra_headers={"X-Request-Id": "r7"})
        completion = raw.parse()
        assert completion.choices[0].message.content == "It is sunny. ☀️"
        assert completion.id == "chatcmpl-r7"
        assert completion._request_id == raw.headers["x-request-id"] == "r7"
        assert raw.headers["content-type"] == "application/json"
        assert_valid("CreateChatCompletionResponse", json.loads(raw.text))

    def test_stream_helper(self, client: OpenAI) -> None:
        with client.chat.completions.stream(**ask("[[plain]]"), stream_options={"include_usage": True}) as stream:
            events = list(stream)
            final = stream.get_final_completion()
        deltas = [event.delta for event in events if isinstance(event, ContentDeltaEvent)]
        (done,) = (event for event in events if isinstance(event, ContentDoneEvent))
        assert len(deltas) > 1
        assert "".join(deltas) == done.content == final.choices[0].message.content == "It is sunny. ☀️"
        assert final.choices[0].message.role == "assistant"
        whole = client.chat.completions.create(**ask("[[plain]]"))
        assert final.usage == whole.usage

    def test_every_chunk_is_as_described(self, replay: Replaying) -> None:
        for text in ("[[plain]]", "[[thinks_and_calls]]"):
            body = ask(text, stream=True, tools=TOOLS, logprobs=True, stream_options={"include_usage": True})
            response = post(replay, body)
            assert response.headers["content-type"].startswith("text/event-stream")
            *frames, done, rest = response.content.split(b"\n\n")
            assert (done, rest) == (b"data: [DONE]", b"")
            for frame in frames:
                assert_valid("CreateChatCompletionStreamResponse", json.loads(frame.removeprefix(b"data: ")))

    def test_reasoning(self, client: OpenAI) -> None:
        message: Any = client.chat.completions.create(**ask("[[thinks]]")).choices[0].message
        assert (message.reasoning, message.reasoning_content) == ("Which city? 🗼",) * 2
        with client.chat.completions.stream(**ask("[[thinks]]")) as stream:
            chunks = [event.chunk.choices[0].delta for event in stream if isinstance(event, ChunkEvent)]
            final: Any = stream.get_final_completion().choices[0].message
        assert "".join(getattr(delta, "reasoning_content", "") for delta in chunks) == "Which city? 🗼"
        assert (final.reasoning, final.reasoning_content, final.content) == ("Which city? 🗼",) * 2 + ("It is sunny.",)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_tool_round_trip(self, client: OpenAI, replay: Replaying, streamed: bool) -> None:
        request = ask("[[calls]]", tools=TOOLS)
        if streamed:
            with client.chat.completions.stream(**request) as stream:
                events = list(stream)
                first = stream.get_final_completion().choices[0]
            done = [event.arguments for event in events if isinstance(event, FunctionToolCallArgumentsDoneEvent)]
            assert [json.loads(arguments) for arguments in done] == [{"city": "Paris"}, {"city": "Rome"}]
        else:
            first = client.chat.completions.create(**request).choices[0]
        calls: Any = first.message.tool_calls
        assert first.finish_reason == "tool_calls"
        assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
        assert len({call.id for call in calls}) == 2
        request["messages"] += [
            first.message.model_dump(exclude_unset=True),
            *({"role": "tool", "tool_call_id": call.id, "content": "sunny [[answer]]"} for call in calls),
        ]
        second = client.chat.completions.create(**request).choices[0]
        assert (second.message.content, second.finish_reason) == ("Sunny in both.", "stop")
        assert f'[call {calls[1].id} get_weather {{"city": "Rome"}}]' in replay.prompts[-1]

    def test_parse(self, client: OpenAI) -> None:
        parsed = client.chat.completions.parse(**ask("[[json]]"), response_format=City)
        assert parsed.choices[0].message.parsed == City(city="Paris")
        with client.chat.completions.stream(**ask("[[json]]"), response_format=City) as stream:
            assert stream.get_final_completion().choices[0].message.parsed == City(city="Paris")

    def test_parse_a_tool(self, client: OpenAI) -> None:
        tools = [openai.pydantic_function_tool(GetWeather, name="get_weather")]
        message = (
            client.chat.completions.parse(**ask("[[calls]]"), tools=tools, tool_choice="required").choices[0].message
        )
        assert [call.function.parsed_arguments for call in message.tool_calls or ()] == [
            GetWeather(city="Paris"),
            GetWeather(city="Rome"),
        ]

    def test_several_choices(self, client: OpenAI) -> None:
        with client.chat.completions.stream(**ask("[[plain]]", n=3)) as stream:
            final = stream.get_final_completion()
        assert [(choice.index, choice.message.content) for choice in final.choices] == [
            (index, "It is sunny. ☀️") for index in range(3)
        ]

    def test_length(self, client: OpenAI) -> None:
        whole = client.chat.completions.create(**ask("[[plain]]", max_completion_tokens=5)).choices[0]
        assert (whole.message.content, whole.finish_reason) == ("It is", "length")
        with (
            pytest.raises(openai.LengthFinishReasonError),
            client.chat.completions.stream(**ask("[[json]]", max_tokens=3), response_format=City) as stream,
        ):
            stream.get_final_completion()

    def test_logprobs(self, client: OpenAI) -> None:
        request = ask("[[plain]]", logprobs=True, top_logprobs=1)
        with client.chat.completions.stream(**request) as stream:
            streamed = stream.get_final_completion().choices[0].logprobs
        whole = client.chat.completions.create(**request).choices[0].logprobs
        assert streamed is not None
        assert whole is not None
        assert streamed.content == whole.content
        assert bytes(b for entry in whole.content or () for b in entry.bytes or ()).decode() == "It is sunny. ☀️"

    def test_completions(self, replay: Replaying) -> None:
        # strictly, the SDK takes no chunk without a finish reason, not even OpenAI's own
        client = OpenAI(base_url=f"{replay.url}/v1", api_key=KEY, max_retries=0)
        request: Any = {"model": "tiny", "prompt": ["[[plain]]", "[[answer]]"], "max_tokens": 50, "n": 2}
        whole = client.completions.create(**request)
        assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
        assert [choice.text for choice in whole.choices] == ["It is sunny. ☀️"] * 2 + ["Sunny in both."] * 2
        texts = [""] * 4
        for chunk in client.completions.create(**request, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        assert texts == [choice.text for choice in whole.choices]

    def test_embeddings(self, replay: Replaying) -> None:
        # strictly, the SDK takes no base64, for which it asks itself
        client = OpenAI(base_url=f"{replay.url}/v1", api_key=KEY, max_retries=0)
        usual = client.embeddings.create(model="tiny", input=["a", "b"])
        floats = client.embeddings.create(model="tiny", input=["a", "b"], encoding_format="float")
        assert np.allclose([one.embedding for one in usual.data], [one.embedding for one in floats.data], atol=1e-6)
        short = client.embeddings.create(model="tiny", input="a", dimensions=3)
        assert math.isclose(sum(x * x for x in short.data[0].embedding), 1, rel_tol=1e-5)
        assert len(short.data[0].embedding) == 3

    def test_models(self, client: OpenAI) -> None:
        assert [one.id for one in client.models.list()] == ["tiny"]
        assert client.models.retrieve("tiny").created == client.models.list().data[0].created

    def test_errors(self, client: OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(**{**ask("x"), "model": "nobody"})
        assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
        assert unknown.value.request_id
        with pytest.raises(openai.BadRequestError) as bad:
            client.chat.completions.create(**ask("x", temperature=-1))
        assert (bad.value.code, bad.value.param) == ("invalid_value", "temperature")
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").models.list()
        with pytest.raises(openai.InternalServerError, match="on fire"):
            client.chat.completions.create(**ask("[[fails]]"))
        with pytest.raises(openai.APIError, match="on fire"):
            list(client.chat.completions.create(**ask("[[fails]]"), stream=True))

    def test_a_full_server_is_tried_again(self) -> None:
        """429 and 503 bring Retry-After, which the SDK obeys until a place is free: here, once it was refused."""
        turns = threading.Semaphore(1)
        refused = []

        def seen(response: httpx.Response) -> None:
            if response.status_code == 429:
                refused.append(response.headers["retry-after"])
                turns.release(1000)

        http = httpx.Client(event_hooks={"response": [seen]})
        with (
            replaying({"slow": "x" * 200}, max_per_key=1, turns=turns) as up,
            OpenAI(base_url=f"{up.url}/v1", api_key="x", max_retries=4, http_client=http) as patient,
        ):
            stream = patient.chat.completions.create(**ask("x"), stream=True)
            answer = patient.chat.completions.create(**ask("x", max_tokens=3))
            assert answer.choices[0].message.content == "xxx"
            assert refused
            stream.close()

    async def test_async(self, replay: Replaying) -> None:
        async with AsyncOpenAI(base_url=f"{replay.url}/v1", api_key=KEY, max_retries=0) as client:
            whole = await client.chat.completions.create(**ask("[[plain]]"))
            async with client.chat.completions.stream(**ask("[[calls]]"), tools=TOOLS) as stream:
                called = await stream.get_final_completion()
            text = ""
            async for chunk in await client.chat.completions.create(**ask("[[plain]]"), stream=True):
                text += chunk.choices[0].delta.content or ""
            parsed = await client.chat.completions.parse(**ask("[[json]]"), response_format=City)
            embedding = await client.embeddings.create(model="tiny", input="a")
        assert text == whole.choices[0].message.content == "It is sunny. ☀️"
        assert len(called.choices[0].message.tool_calls or ()) == 2
        assert parsed.choices[0].message.parsed == City(city="Paris")
        assert len(embedding.data[0].embedding) == 8


class TestJavaScript:
    """OpenAI's JavaScript SDK under Node: all scenarios in one process."""

    SCENARIOS = (
        *("create", "stream", "raw_stream", "tool_round_trip", "run_tools", "parse", "parse_tool"),
        *("completions", "embeddings", "models", "abort", "errors"),
    )

    @pytest.fixture(scope="class")
    @staticmethod
    def told(js: Js, replay: Replaying) -> dict[str, Any]:  # noqa: F811
        scenarios = TestJavaScript.SCENARIOS
        return dict(zip(scenarios, js("openai.mjs", replay.url, *scenarios, key=KEY), strict=True))

    def test_create(self, told: dict[str, Any]) -> None:
        choice = told["create"]["completion"]["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("It is sunny. ☀️", "stop")
        assert told["create"]["request_id"] == told["create"]["header"]

    def test_stream(self, told: dict[str, Any]) -> None:
        streamed, whole = told["stream"]["completion"], told["create"]["completion"]
        message = streamed["choices"][0]["message"]
        assert told["stream"]["text"] == message["content"] == "It is sunny. ☀️"
        assert message["role"] == "assistant"
        assert streamed["usage"] == whole["usage"]
        deltas = [chunk["choices"][0]["delta"] for chunk in told["raw_stream"]]
        assert [delta["role"] for delta in deltas if "role" in delta] == ["assistant"]
        assert "".join(delta.get("reasoning", "") for delta in deltas) == "Which city? 🗼"

    def test_tools(self, told: dict[str, Any]) -> None:
        first, second = told["tool_round_trip"]["first"], told["tool_round_trip"]["second"]
        calls = first["message"]["tool_calls"]
        assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
        assert first["finish_reason"] == "tool_calls"
        assert second["message"]["content"] == "Sunny in both."
        assert told["run_tools"] == {"seen": [{"city": "Paris"}, {"city": "Rome"}], "answer": "Sunny in both."}

    def test_structured_output(self, told: dict[str, Any]) -> None:
        assert told["parse"] == {"parsed": {"city": "Paris"}, "streamed": {"city": "Paris"}}
        assert told["parse_tool"] == [{"city": "Paris"}, {"city": "Rome"}]

    def test_the_rest(self, told: dict[str, Any]) -> None:
        assert told["completions"] == {"whole": "It is sunny. ☀️", "text": "It is sunny. ☀️"}
        assert np.allclose(told["embeddings"]["usual"], told["embeddings"]["floats"], atol=1e-6)
        assert [one["id"] for one in told["models"]["listed"]] == ["tiny"] == [told["models"]["one"]["id"]]
        assert told["abort"] is True

    def test_errors(self, told: dict[str, Any]) -> None:
        found = {name: (one["class"], one["status"], one["code"]) for name, one in told["errors"].items()}
        assert found == {
            "unknown_model": ("NotFoundError", 404, "model_not_found"),
            "bad_request": ("BadRequestError", 400, "invalid_value"),
            "bad_key": ("AuthenticationError", 401, "invalid_api_key"),
            "engine": ("InternalServerError", 500, "engine_error"),
            "mid_stream": ("APIError", None, "engine_error"),
        }


@pytest.mark.parametrize("ai", [6, 7])
@pytest.mark.parametrize("provider", ["openai", "compatible"])
def test_vercel(js: Js, replay: Replaying, provider: str, ai: int) -> None:  # noqa: F811
    prompts = {"plain": "[[plain]]", "loop": "[[thinks_and_calls]]", "object": "[[json]]"}
    told = js("ai_openai.mjs", replay.url, provider, json.dumps(prompts), key=KEY, ai=ai)[0]
    assert told["errors"] == []
    assert (told["plain"], told["finish"]) == ("It is sunny. ☀️", "stop")
    assert told["usage"]["totalTokens"] == told["usage"]["inputTokens"] + told["usage"]["outputTokens"]
    assert told["calls"] == told["streamed_calls"] == [["get_weather", {"city": "Paris"}]]
    assert told["steps"] == ["tool-calls", "stop"]
    assert told["whole"] == told["streamed"] == "Sunny in both."
    assert told["object"] == told["streamed_object"] == {"city": "Paris"}
    assert [len(vector) for vector in told["embeddings"]] == [8, 8]
    if provider == "compatible":  # the other reads no reasoning from chat completions
        assert told["reasoning"] == "I ask."
        assert told["parts"]["reasoning-delta"] > 1


class TestLangChain:
    @pytest.fixture(scope="class")
    @staticmethod
    def chat(replay: Replaying) -> Any:
        langchain = pytest.importorskip("langchain_openai")
        where = {"base_url": f"{replay.url}/v1", "api_key": KEY, "max_retries": 0}
        return langchain.ChatOpenAI(model="tiny", stream_usage=True, **where)

    def test_invoke_and_stream(self, chat: Any) -> None:
        whole = chat.invoke("[[plain]]")
        assert whole.content == "It is sunny. ☀️"
        streamed = None
        for chunk in chat.stream("[[plain]]"):
            streamed = chunk if streamed is None else streamed + chunk
        assert streamed is not None
        assert streamed.content == whole.content
        assert streamed.usage_metadata == whole.usage_metadata
        assert streamed.response_metadata["finish_reason"] == whole.response_metadata["finish_reason"] == "stop"

    async def test_async(self, chat: Any) -> None:
        assert (await chat.ainvoke("[[plain]]")).content == "It is sunny. ☀️"
        assert "".join([chunk.content async for chunk in chat.astream("[[plain]]")]) == "It is sunny. ☀️"

    def test_tool_round_trip(self, chat: Any) -> None:
        from langchain_core.messages import HumanMessage, ToolMessage
        from langchain_core.tools import tool

        @tool
        def get_weather(city: str) -> str:
            """The weather of a city."""
            return f"sunny in {city} [[answer]]"

        bound = chat.bind_tools([get_weather])
        asked = [HumanMessage("[[calls]]")]
        first = None
        for chunk in bound.stream(asked):
            first = chunk if first is None else first + chunk
        assert first is not None
        assert [call["args"] for call in first.tool_calls] == [{"city": "Paris"}, {"city": "Rome"}]
        assert [call["args"] for call in bound.invoke(asked).tool_calls] == [{"city": "Paris"}, {"city": "Rome"}]
        results = [ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]) for call in first.tool_calls]
        assert bound.invoke([*asked, first, *results]).content == "Sunny in both."

    @pytest.mark.parametrize(("method", "prompt"), [("json_schema", "[[json]]"), ("function_calling", "[[calls]]")])
    def test_structured_output(self, chat: Any, method: str, prompt: str) -> None:
        model = City if method == "json_schema" else type("get_weather", (City,), {"__doc__": "The weather."})
        assert chat.with_structured_output(model, method=method).invoke(prompt).city == "Paris"

    def test_embeddings(self, replay: Replaying) -> None:
        langchain = pytest.importorskip("langchain_openai")
        where = {"base_url": f"{replay.url}/v1", "api_key": KEY, "max_retries": 0}
        # with the check it would send ids of OpenAI's own tokenizer, which no other model understands
        embeddings = langchain.OpenAIEmbeddings(model="tiny", check_embedding_ctx_length=False, **where)
        assert [len(vector) for vector in embeddings.embed_documents(["a", "b"])] == [8, 8]
        assert embeddings.embed_query("a") == embeddings.embed_documents(["a"])[0]


def test_litellm(replay: Replaying) -> None:
    python = os.environ.get("PORTICO_LITELLM_PYTHON") or sys.executable
    if python == sys.executable and importlib.util.find_spec("litellm") is None:
        pytest.skip("LiteLLM is not installed: it wants an environment of its own, see tests/support/litellm_client.py")
    script = Path(__file__).parent.parent / "support" / "litellm_client.py"
    done = subprocess.run([python, script, replay.url, KEY], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    for provider in ("openai", "hosted_vllm"):
        one = told[provider]
        assert one["text"] == one["rebuilt"] == "It is sunny."
        assert one["reasoning"] == one["rebuilt_reasoning"] == "Which city? 🗼"
        assert one["usage"] == one["rebuilt_usage"]
        assert one["finish"] == ["tool_calls", "tool_calls"]
        assert one["calls"] == [[{"city": "Paris"}, {"city": "Rome"}]] * 2
        assert (one["second"], one["structured"], one["later"]) == ("Sunny in both.", "Paris", "It is sunny. ☀️")
        assert one["errors"] == ["NotFoundError", "BadRequestError", "AuthenticationError"]
    assert told["embeddings"] == [8, 8]
    assert told["text_completion"] == "It is sunny. ☀️"


# -- the stream and the whole are one ----------------------------------------------------------------------------------

WORDS = ["sun", " and", " rain", "\n", " naïve", " 🦜🦜", "END", "<think>", "</think>", "<tool_call>", "</tool_call>"]
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Pa\\u00e9ris 🗼", "n": [1, 2.50]}}\n</tool_call>'


def seeded(seed: int) -> tuple[str, dict[str, Any]]:
    """An answer, and a request for it, that nobody would have thought of."""
    chance = random.Random(seed)
    text = "".join(chance.choice(WORDS) for _ in range(chance.randint(1, 30)))
    if chance.random() < 0.5:
        text = f"<think>\n{text}\n</think>\n\n" + "".join(chance.choice(WORDS) for _ in range(8))
    if chance.random() < 0.5:
        text += CALL * chance.randint(1, 3) + chance.choice(["", "\n", " bye"])
    fields: dict[str, Any] = {"seed": seed, "n": chance.choice([1, 1, 3])}
    if chance.random() < 0.6:
        fields["tools"] = TOOLS
    if chance.random() < 0.4:
        fields["stop"] = chance.sample(["END", "rain", "🦜", "d", "\n"], 2)
    if chance.random() < 0.4:
        fields |= {"logprobs": True, "top_logprobs": 1}
    if chance.random() < 0.4:
        fields["max_tokens"] = chance.randint(1, 150)
    if chance.random() < 0.3:
        fields["include_reasoning"] = False
    if chance.random() < 0.3:
        fields["return_token_ids"] = True
    return text, fields


def folded(content: bytes) -> dict[str, Any]:
    """What a stream amounts to, in the shape of a whole answer. Every string of a delta is concatenated, as SDKs do."""
    choices: dict[int, dict[str, Any]] = {}
    usage = None
    for frame in content.split(b"\n\n")[:-2]:
        chunk = json.loads(frame.removeprefix(b"data: "))
        usage = chunk.get("usage") or usage
        for piece in chunk["choices"]:
            choice = choices.setdefault(
                piece["index"], {"message": {}, "logprobs": [], "token_ids": [], "finishes": []}
            )
            message, delta = choice["message"], piece["delta"]
            for name in ("role", "content", "reasoning", "reasoning_content"):
                if name in delta:
                    message[name] = message.get(name, "") + delta[name]
            for call in delta.get("tool_calls", ()):
                calls = message.setdefault("tool_calls", [])
                if call["index"] == len(calls):
                    calls.append({"name": "", "arguments": ""})
                for name in ("name", "arguments"):
                    calls[call["index"]][name] += call["function"].get(name, "")
            choice["logprobs"] += (piece.get("logprobs") or {"content": []})["content"]
            choice["token_ids"] += piece.get("token_ids", [])
            if piece["finish_reason"]:
                choice["finishes"].append((piece["finish_reason"], piece.get("stop_reason")))
    return {"choices": [choices[index] for index in sorted(choices)], "usage": usage}


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """A whole answer in the shape of ``folded``."""
    choices = []
    for choice in body["choices"]:
        message = {name: value for name, value in choice["message"].items() if name not in ("refusal", "tool_calls")}
        message["content"] = message["content"] or ""
        details = message.pop("reasoning_details", [])
        assert "".join(one["text"] for one in details) == message.get("reasoning", "")
        if "tool_calls" in choice["message"]:
            message["tool_calls"] = [call["function"] for call in choice["message"]["tool_calls"]]
        choices.append(
            {
                "message": message,
                "logprobs": (choice["logprobs"] or {"content": []})["content"],
                "token_ids": choice.get("token_ids", []),
                "finishes": [(choice["finish_reason"], choice.get("stop_reason"))],
            }
        )
    return {"choices": choices, "usage": body["usage"]}


def test_a_hundred_streams_equal_their_whole() -> None:
    cases = [seeded(seed) for seed in range(100)]
    answers = {str(seed): text for seed, (text, _) in enumerate(cases)}
    finishes, calls = set(), 0
    with (
        replaying(answers, tool_parser="hermes", reasoning_parser="qwen3") as up,
        httpx.Client(base_url=up.url, timeout=120) as http,
    ):
        for seed, (_, fields) in enumerate(cases):
            body = ask(f"[[{seed}]]", **fields)
            whole = plain(http.post("/v1/chat/completions", json=body).json())
            options = {"stream": True, "stream_options": {"include_usage": True}}
            assert folded(http.post("/v1/chat/completions", json=body | options).content) == whole, (seed, cases[seed])
            finishes |= {finish for choice in whole["choices"] for finish, _ in choice["finishes"]}
            calls += sum(len(choice["message"].get("tool_calls", ())) for choice in whole["choices"])
    assert finishes == {"stop", "length", "tool_calls"}
    assert calls > 30


@pytest.mark.slow
def test_twenty_streams_of_the_real_model_equal_their_whole(real: RunningServer) -> None:
    """An engine's arithmetic depends on where in its cache a sequence lies, by a thousandth or so; where that has
    decided between two tokens, both are asked for again. A front door that is at fault is so every time."""
    topics = ["a fox", "the sea", "emoji 🎉", "a list of fruits", "Japanese 東京"]

    def both(body: dict[str, Any]) -> list[dict[str, Any]]:
        answers = [
            plain(http.post("/v1/chat/completions", json=body).json()),
            folded(http.post("/v1/chat/completions", json=body | {"stream": True, "stream_options": usage}).content),
        ]
        for answer in answers:
            answer["usage"].pop("prompt_tokens_details")  # the second finds the first's prompt in the cache
            for entry in (entry for choice in answer["choices"] for entry in choice["logprobs"]):
                assert entry.pop("logprob") <= 0
        return answers

    usage = {"include_usage": True}
    again = 0
    with httpx.Client(base_url=real.url, timeout=120) as http:
        for seed in range(20):
            body = ask(f"Tell me about {topics[seed % 5]}.", model="smollm2", seed=seed, max_tokens=24, logprobs=True)
            body |= {"temperature": 0.8 if seed % 2 else 0, "top_k": 5, "return_token_ids": True}
            whole, streamed = both(body)
            while streamed != whole and again < 5:
                again += 1
                whole, streamed = both(body)
            assert streamed == whole, seed


# -- counts ------------------------------------------------------------------------------------------------------------


def test_usage_is_what_hugging_face_counts(real: RunningServer) -> None:
    """Prompts as the reference tokenizer counts their rendering; answers token by token, the one that ends them too."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(unpacked() / "smollm2" / "tokenizer.json"))
    prompts = [
        "Hi",
        "Wie geht's? 🦜 naïve",
        "東京 \n\n  tabs\tand   spaces",
        "x" * 500,
        "1234567 8,9",
    ]
    with httpx.Client(base_url=real.url, timeout=120) as http:
        for prompt in prompts:
            body = ask(prompt, model="smollm2", max_tokens=12, temperature=0, return_token_ids=True)
            text = http.post("/v1/chat/completions/render", json=body).json()["prompt"]
            answer = http.post("/v1/chat/completions", json=body).json()
            ids = answer["choices"][0]["token_ids"]
            usage = answer["usage"]
            assert usage["prompt_tokens"] == len(tokenizer.encode(text, add_special_tokens=False).ids)
            assert usage["completion_tokens"] == len(ids)  # the end counts, and is shown
            assert tokenizer.decode(ids) == answer["choices"][0]["message"]["content"]
            counted = http.post("/v1/completions", json={"prompt": prompt, "max_tokens": 1}).json()["usage"]
            assert counted["prompt_tokens"] == len(tokenizer.encode(prompt, add_special_tokens=True).ids)


def test_usage_of_recorded_answers(replay: Replaying) -> None:
    tokenizer = tiny_tokenizer()
    for name, text in ANSWERS.items():
        if isinstance(text, str):
            usage = post(replay, ask(f"[[{name}]]", tools=TOOLS)).json()["usage"]
            assert usage["completion_tokens"] == len(tokenizer.encode(text))
            assert usage["prompt_tokens"] == len(tokenizer.encode(replay.prompts[-1]))
    stopped = post(replay, ask("[[plain]]", stop="sun")).json()["usage"]
    assert stopped["completion_tokens"] == len("It is sun")


# -- the real models ---------------------------------------------------------------------------------------------------


class TestRealModels:
    @pytest.fixture(scope="class")
    @staticmethod
    def client(real: RunningServer) -> Iterator[OpenAI]:
        with client_of(real) as one:
            yield one

    QUESTION = "What is the weather in Paris?"

    @pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
    def test_tool_round_trip(self, client: OpenAI, choice: Any) -> None:
        tools = [openai.pydantic_function_tool(Paris, name="get_weather")]
        request = ask(self.QUESTION, model="smollm2", tools=tools, temperature=0, max_tokens=80)
        request["tool_choice"] = choice
        if choice == "required":
            request["parallel_tool_calls"] = False
        whole = client.chat.completions.create(**request).choices[0]
        with client.chat.completions.stream(**request) as stream:
            first = stream.get_final_completion().choices[0]
        (call,), (same,) = first.message.tool_calls or (), whole.message.tool_calls or ()
        for one in (call, same):
            assert json.loads(one.function.arguments) == {"city": "Paris"}
        assert first.finish_reason == whole.finish_reason == ("tool_calls" if choice == "required" else "stop")
        request["messages"] += [
            first.message.model_dump(exclude_unset=True, include={"role", "content", "tool_calls"}),
            {"role": "tool", "tool_call_id": call.id, "content": "sunny, 21 degrees"},
        ]
        answer = client.chat.completions.create(**{**request, "tool_choice": "none"}).choices[0]
        assert answer.message.content
        assert not answer.message.tool_calls

    def test_structured_output(self, client: OpenAI) -> None:
        class Book(BaseModel):
            title: Literal["The Sea", "The Deep 🌊"]
            pages: Literal[100, 200]
            genres: list[Literal["novel"]] = Field(max_length=2)

        request = ask("A book about the sea.", model="smollm2", temperature=0, max_tokens=300)
        parsed = client.chat.completions.parse(**request, response_format=Book)
        assert isinstance(parsed.choices[0].message.parsed, Book)
        with client.chat.completions.stream(**request, response_format=Book) as stream:
            assert isinstance(stream.get_final_completion().choices[0].message.parsed, Book)

    def test_prompt_logprobs(self, client: OpenAI) -> None:
        extra = {"prompt_logprobs": 2}
        chat: Any = client.chat.completions.create(**ask("Hi", model="smollm2", max_tokens=1), extra_body=extra)
        always = {"logit_bias": {"1000": 100}, "temperature": 0}
        prompt: Any = {"model": "smollm2", "prompt": "One two three", "max_tokens": 2, **always}
        text: Any = client.completions.create(**prompt, extra_body=extra)
        for found, count in (
            (chat.prompt_logprobs, chat.usage.prompt_tokens),
            (text.choices[0].prompt_logprobs, text.usage.prompt_tokens),
        ):
            assert len(found) == count
            assert found[0] is None
            for entry in found[1:]:
                assert 2 <= len(entry) <= 3
                ranks = {one["rank"] for one in entry.values() if "rank" in one}
                assert ranks == {1, 2}
                assert all(one["logprob"] <= 0 and isinstance(one["decoded_token"], str) for one in entry.values())
        echoed = client.completions.create(**prompt, echo=True, logprobs=2).choices[0]
        assert echoed.logprobs is not None
        assert "".join(echoed.logprobs.tokens or ()) == echoed.text == "One two three" + text.choices[0].text
        values = [next(iter(entry.values()))["logprob"] for entry in text.choices[0].prompt_logprobs[1:]]
        assert (echoed.logprobs.token_logprobs or [])[1 : len(values) + 1] == pytest.approx(values, abs=0.05)
        streamed = ""
        tokens: list[str] = []
        for chunk in client.completions.create(**prompt, echo=True, logprobs=2, stream=True):
            streamed += chunk.choices[0].text
            tokens += (chunk.choices[0].logprobs.tokens or []) if chunk.choices[0].logprobs else []
        assert (streamed, tokens) == (echoed.text, echoed.logprobs.tokens)
        only = client.completions.create(**{**prompt, "max_tokens": 0}, echo=True, logprobs=1)
        assert only.choices[0].text == "One two three"
        assert only.usage is not None
        assert only.usage.completion_tokens == 0
        assert len((only.choices[0].logprobs or text).tokens or ()) == only.usage.prompt_tokens

    def test_embeddings_are_the_reference_s(self, client: OpenAI, minilm_checkpoint: Path) -> None:
        texts = [
            "A bridge crosses the river.",
            "Zwei Brücken überqueren den Fluß; déjà vu, naïve façade.",
            "東京は日本の首都です。 🦜",
            "def f(x):\n    return x ** 2  # squares",
            "the quick brown fox jumps over the lazy dog " * 20,
            "q",
        ]
        reference = embedded(minilm_checkpoint, texts)
        found = client.embeddings.create(model="minilm", input=texts)
        cosines = [float(np.dot(one.embedding, vector)) for one, (_, vector) in zip(found.data, reference, strict=True)]
        assert min(cosines) >= 0.999, cosines
        assert found.usage.prompt_tokens == sum(len(ids) for ids, _ in reference)
        by_ids = client.embeddings.create(model="minilm", input=[ids for ids, _ in reference])
        for one, other in zip(found.data, by_ids.data, strict=True):
            assert float(np.dot(one.embedding, other.embedding)) > 0.9999
        cut = client.embeddings.create(model="minilm", input=texts[4], extra_body={"truncate_prompt_tokens": 16})
        ids = reference[4][0]
        same = client.embeddings.create(model="minilm", input=[[*ids[:15], ids[-1]]])
        assert float(np.dot(cut.data[0].embedding, same.data[0].embedding)) > 0.9999
        half = client.embeddings.create(model="minilm", input=texts[0], dimensions=100).data[0].embedding
        full = np.array(found.data[0].embedding[:100])
        assert float(np.linalg.norm(half)) == pytest.approx(1, abs=1e-5)
        assert float(np.dot(half, full / np.linalg.norm(full))) > 0.9999

    def test_score_and_rerank(self, real: RunningServer) -> None:
        documents = ["The stock market fell today.", "A cat sleeps on the sofa.", "Kittens are young cats."]
        with httpx.Client(base_url=real.url, timeout=120) as http:
            vectors = http.post("/v1/embeddings", json={"model": "minilm", "input": ["a cat", *documents]}).json()[
                "data"
            ]
            query, *rest = (np.array(one["embedding"]) for one in vectors)
            cosines = [float(query @ vector) for vector in rest]
            scored = http.post("/v1/score", json={"model": "minilm", "text_1": "a cat", "text_2": documents}).json()
            assert [one["score"] for one in scored["data"]] == pytest.approx(cosines, abs=1e-3)
            assert (scored["object"], scored["data"][0]["object"]) == ("list", "score")
            paired = http.post("/v1/score", json={"queries": documents, "documents": documents}).json()
            assert [one["score"] for one in paired["data"]] == pytest.approx([1] * 3, abs=1e-3)
            body = {"model": "minilm", "query": "a cat", "documents": [*documents[:2], {"text": documents[2]}]}
            ranked = http.post("/v1/rerank", json=body).json()
            order = sorted(range(3), key=lambda index: -cosines[index])
            assert [one["index"] for one in ranked["results"]] == order
            assert [one["document"]["text"] for one in ranked["results"]] == [documents[index] for index in order]
            assert ranked["usage"]["total_tokens"] > 0
            best = http.post("/v1/rerank", json={**body, "top_n": 1, "return_documents": False}).json()["results"]
            assert best == [{"index": order[0], "relevance_score": pytest.approx(cosines[order[0]], abs=1e-3)}]
            for path, wrong in (
                ("/v1/rerank", {"query": "a", "documents": []}),
                ("/v1/rerank", {"query": "", "documents": ["a"]}),
                ("/v1/rerank", {"query": "a", "documents": ["b"], "top_n": 0}),
                ("/v1/rerank", {"model": "smollm2", "query": "a", "documents": ["b"]}),
                ("/v1/score", {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}),
                ("/v1/score", {"text_1": "a", "text_2": "word " * 600}),
            ):
                refused = http.post(path, json=wrong)
                assert refused.status_code == 400, refused.text
                assert set(refused.json()["error"]) == {"message", "type", "param", "code"}

    def test_other_clients(self, js: Js, real: RunningServer) -> None:  # noqa: F811
        settings = {"model": "smollm2", "embedding_model": "minilm", "max_tokens": 200}
        names = ("stream", "required_tool", "embeddings")
        told = dict(zip(names, js("openai.mjs", real.url, *names, **settings), strict=True))
        assert told["stream"]["text"] == told["stream"]["completion"]["choices"][0]["message"]["content"] != ""
        for form in ("whole", "first"):
            (call,) = told["required_tool"][form]["message"]["tool_calls"]
            assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
        assert np.allclose(told["embeddings"]["usual"], told["embeddings"]["floats"], atol=1e-4)
        prompts = {"plain": "Hi", "loop": self.QUESTION, "object": "A city, as JSON.", "choice": "required"}
        vercel = js("ai_openai.mjs", real.url, "compatible", json.dumps(prompts), **settings)[0]
        assert vercel["errors"] == []
        assert vercel["calls"] == vercel["streamed_calls"] == [["get_weather", {"city": "Paris"}]]
        assert vercel["object"] == vercel["streamed_object"] == {"city": "Paris"}
        assert len(vercel["embeddings"][0]) == 384

    def test_langchain(self, real: RunningServer) -> None:
        langchain = pytest.importorskip("langchain_openai")
        where = {"base_url": real.base_url, "api_key": "none", "max_retries": 0}
        chat = langchain.ChatOpenAI(model="smollm2", temperature=0, max_tokens=200, **where)
        assert chat.invoke(CAPITAL).content.startswith(beginning(real))
        assert chat.with_structured_output(Paris).invoke("Where?") == Paris(city="Paris")
        (call,) = (
            chat.bind_tools([Paris], tool_choice="required", parallel_tool_calls=False).invoke("Where?").tool_calls
        )
        assert (call["name"], call["args"]) == ("Paris", {"city": "Paris"})
        embeddings = langchain.OpenAIEmbeddings(model="minilm", check_embedding_ctx_length=False, **where)
        assert len(embeddings.embed_query("a cat")) == 384


def post(server: Replaying, body: dict[str, Any]) -> httpx.Response:
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=120)
