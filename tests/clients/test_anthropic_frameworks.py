"""Frameworks that speak Anthropic's API on top of its SDK: LangChain and pydantic-ai."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.replay import Replaying, replaying

ANSWERS = {
    "plain": "It is sunny. ☀️",
    "calls": "<think>\nI have to ask.\n</think>\n\nLet me look.\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    "sunny": "Sunny in Paris.",
    "json": '{"city": "Paris", "country": "France"}',
}


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying(ANSWERS, tool_parser="hermes", reasoning_parser="qwen3", thinking_by_default=True) as up:
        yield up


class TestLangChain:
    @pytest.fixture
    def chat(self, server: Replaying) -> Any:
        langchain = pytest.importorskip("langchain_anthropic")
        return langchain.ChatAnthropic(
            model="tiny", base_url=server.url, api_key="none", max_tokens=4000, max_retries=0
        )

    def test_invoke(self, chat: Any) -> None:
        message = chat.invoke("[[plain]]")
        assert message.content == "It is sunny. ☀️"
        assert message.response_metadata["stop_reason"] == "end_turn"
        assert message.usage_metadata["output_tokens"] > 0

    def test_stream(self, chat: Any) -> None:
        whole = chat.invoke("[[plain]]")
        streamed = None
        for chunk in chat.stream("[[plain]]"):
            streamed = chunk if streamed is None else streamed + chunk
        assert streamed is not None
        assert streamed.text == whole.text
        assert streamed.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]
        assert streamed.usage_metadata["input_tokens"] == whole.usage_metadata["input_tokens"]

    def test_tool_round_trip(self, chat: Any, server: Replaying) -> None:
        from langchain_core.messages import HumanMessage, ToolMessage
        from langchain_core.tools import tool

        @tool
        def get_weather(city: str) -> str:
            """The weather of a city."""
            return f"sunny in {city} [[sunny]]"

        bound = chat.bind_tools([get_weather])
        asked = [HumanMessage("[[calls]]")]
        first = None
        for chunk in bound.stream(asked):
            first = chunk if first is None else first + chunk
        assert [(call["name"], call["args"]) for call in first.tool_calls] == [("get_weather", {"city": "Paris"})]
        (call,) = first.tool_calls
        result = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
        second = bound.invoke([*asked, first, result])
        assert second.content == "Sunny in Paris."
        assert "<think>I have to ask.</think>" in server.prompts[-1]


class TestPydanticAi:
    @pytest.fixture
    def model(self, server: Replaying) -> Any:
        pytest.importorskip("pydantic_ai")
        anthropic = pytest.importorskip("pydantic_ai.models.anthropic")
        provider = pytest.importorskip("pydantic_ai.providers.anthropic")
        return anthropic.AnthropicModel(
            "tiny",
            profile={"supports_json_schema_output": True},
            provider=provider.AnthropicProvider(base_url=server.url, api_key="none"),
        )

    def test_agent_with_a_tool(self, model: Any, server: Replaying) -> None:
        from pydantic_ai import Agent

        agent = Agent(model, system_prompt="Be brief.")

        @agent.tool_plain
        def get_weather(city: str) -> str:
            """The weather of a city."""
            return f"sunny in {city} [[sunny]]"

        result = agent.run_sync("[[calls]]")
        assert result.output == "Sunny in Paris."
        assert "<think>I have to ask.</think>" in server.prompts[-1]
        assert "Be brief." in server.prompts[-1]

    async def test_stream(self, model: Any) -> None:
        from pydantic_ai import Agent

        async with Agent(model).run_stream("[[plain]]") as streamed:
            pieces = [piece async for piece in streamed.stream_text(delta=True)]
        assert "".join(pieces) == "It is sunny. ☀️"

    def test_structured_output(self, model: Any) -> None:
        from pydantic import BaseModel
        from pydantic_ai import Agent, NativeOutput, PromptedOutput

        class City(BaseModel):
            city: str
            country: str

        for wanted in (NativeOutput(City), PromptedOutput(City)):
            agent = Agent(model, output_type=wanted)
            assert agent.run_sync("[[json]]").output == City(city="Paris", country="France")
