"""The Responses API by the clients that speak it, each set up as its users do: OpenAI's SDK for Python, its Agents SDK,
LangChain and pydantic-ai, over recorded answers. Codex stands in ``tests/agents``, JavaScript beside this file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from portico.constraints.trial import byte_vocabulary
from support.custom_tools import CASES
from support.replay import Replaying, replaying
from support.server import running_server
from support.vocabulary import Model
from support.wait import SAFETY

KEY = "sesame"
THOUGHT = "I have to ask."
ANSWERS = {
    "plain": "It is sunny. ☀️",
    "thinks": f"<think>\n{THOUGHT}\n</think>\n\nIt is sunny.",
    "calls": f"<think>\n{THOUGHT}\n</think>\n\nLet me look.\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    "sunny": "Sunny in Paris.",
    "json": '{"city": "Paris"}',
    "long": "word " * 400,
}
PARAMETERS: Any = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": True}


class City(BaseModel):
    city: str


class GetWeather(BaseModel):
    """The weather of a city."""

    city: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replaying]:
    store = str(tmp_path_factory.mktemp("store") / "portico.db")
    with replaying(ANSWERS, keys=[KEY], store=store, tool_parser="hermes", reasoning_parser="qwen3") as up:
        yield up


class TestOpenAI:
    """OpenAI's own SDK, which validates strictly here."""

    @pytest.fixture(scope="class")
    @staticmethod
    def client(server: Replaying) -> Iterator[OpenAI]:
        base = f"{server.url}/v1"
        with OpenAI(base_url=base, api_key=KEY, max_retries=0, timeout=120, _strict_response_validation=True) as one:
            yield one

    def test_create_and_read_again(self, client: OpenAI, server: Replaying) -> None:
        first = client.responses.create(model="tiny", input="[[plain]]", instructions="Be brief.", metadata={"a": "b"})
        assert first.output_text == ANSWERS["plain"]
        assert client.responses.retrieve(first.id) == first
        second = client.responses.create(model="tiny", input="[[thinks]]", previous_response_id=first.id)
        assert second.output_text == "It is sunny."
        items = client.responses.input_items.list(second.id, order="asc")
        assert [item.type for item in items] == ["message"] * 3
        assert ANSWERS["plain"] in server.prompts[-1]
        client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(first.id)
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model="tiny", input="Hi", previous_response_id=first.id)
        assert refused.value.code == "previous_response_not_found"
        counted = client.responses.input_tokens.count(model="tiny", input="[[plain]]", instructions="Be brief.")
        assert first.usage is not None
        assert counted.input_tokens == first.usage.input_tokens

    def test_the_stream_helper(self, client: OpenAI) -> None:
        """It raises on events out of order, and folds them itself."""
        tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
        with client.responses.stream(
            model="tiny", input="[[calls]]", tools=[tool], reasoning={"summary": "auto"}
        ) as it:  # type: ignore[list-item]
            kinds = {event.type for event in it}
            final = it.get_final_response()
        assert {"response.reasoning_text.delta", "response.reasoning_summary_text.delta"} <= kinds
        assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]
        assert final.output_text == "Let me look."
        call = final.output[-1]
        assert call.type == "function_call"
        assert call.parsed_arguments == GetWeather(city="Paris")

    def test_parse(self, client: OpenAI) -> None:
        parsed = client.responses.parse(model="tiny", input="[[json]]", text_format=City)
        assert parsed.output_parsed == City(city="Paris")
        with client.responses.stream(model="tiny", input="[[json]]", text_format=City) as stream:
            assert stream.get_final_response().output_parsed == City(city="Paris")

    def test_a_conversation_that_the_client_keeps(self, client: OpenAI, server: Replaying) -> None:
        """Items go back as they came, thoughts sealed; nothing is stored."""
        fields: Any = {"model": "tiny", "tools": [WEATHER], "store": False, "include": ["reasoning.encrypted_content"]}
        given: Any = [{"role": "user", "content": "[[calls]]"}]
        first = client.responses.create(input=given, **fields)
        given += first.output
        call = first.output[-1]
        assert call.type == "function_call"
        given.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny [[sunny]]"})
        assert client.responses.create(input=given, **fields).output_text == "Sunny in Paris."
        assert f"<think>{THOUGHT}</think>" in server.prompts[-1]
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(first.id)

    def test_background_and_resumption(self, client: OpenAI) -> None:
        seen = []
        stream = client.responses.create(model="tiny", input="[[long]]", background=True, stream=True)
        for event in stream:
            seen.append(event)
            if event.sequence_number == 9:
                break
        stream.close()
        first: Any = seen[0]
        resumed = client.responses.retrieve(first.response.id, stream=True, starting_after=9)
        seen += resumed
        assert [event.sequence_number for event in seen] == list(range(len(seen)))
        last: Any = seen[-1]
        assert last.response.output_text == ANSWERS["long"]
        with client.responses.stream(response_id=first.response.id) as whole:
            assert whole.get_final_response().output_text == ANSWERS["long"]
        assert client.responses.cancel(first.response.id).status == "completed"

    def test_conversations(self, client: OpenAI, server: Replaying) -> None:
        room = client.conversations.create(metadata={"a": "b"}, items=[{"role": "user", "content": "I am Bo."}])
        assert client.responses.create(model="tiny", input="[[plain]]", conversation=room.id).conversation is not None
        assert "I am Bo." in server.prompts[-1]
        more = client.conversations.items.create(room.id, items=[{"role": "user", "content": "Bye."}])
        listed = client.conversations.items.list(room.id, order="asc", limit=2)
        assert [item.type for item in listed] == ["message"] * 4  # by pages
        client.conversations.items.delete(more.data[0].id or "", conversation_id=room.id)
        assert len(list(client.conversations.items.list(room.id))) == 3
        assert client.conversations.update(room.id, metadata={"c": "d"}).metadata == {"c": "d"}
        assert client.conversations.retrieve(room.id).id == room.id
        assert client.conversations.delete(room.id).deleted

    async def test_async(self, server: Replaying) -> None:
        async with (
            AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client,
            client.responses.stream(model="tiny", input="[[plain]]") as stream,
        ):
            pieces = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            final = await stream.get_final_response()
        assert "".join(pieces) == final.output_text == ANSWERS["plain"]


class TestAgents:
    """The Agents SDK, which speaks this API unless it is told otherwise."""

    @pytest.fixture
    def client(self, server: Replaying) -> AsyncOpenAI:
        agents = pytest.importorskip("agents")
        agents.set_tracing_disabled(True)
        # one number for all: by itself the client waits five seconds for a connection
        return AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, timeout=SAFETY)

    @pytest.fixture(params=["OpenAIResponsesModel", "OpenAIResponsesWSModel"])
    async def agent(self, client: AsyncOpenAI, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
        import agents
        from agents import Agent, function_tool

        @function_tool
        def get_weather(city: str) -> str:
            """The weather of a city."""
            return f"sunny in {city} [[sunny]]"

        model = getattr(agents, request.param)(model="tiny", openai_client=client)
        yield Agent(name="a", instructions="Be brief.", model=model, tools=[get_weather])
        await model.close()

    async def test_a_tool_is_run(self, agent: Any, server: Replaying) -> None:
        from agents import Runner

        result = await Runner.run(agent, "[[calls]]")
        assert result.final_output == "Sunny in Paris."
        assert f"<think>{THOUGHT}</think>" in server.prompts[-1]
        assert "Be brief." in server.prompts[-1]
        again = await Runner.run(agent, [*result.to_input_list(), {"role": "user", "content": "[[plain]]"}])
        assert again.final_output == ANSWERS["plain"]

    async def test_streamed_along_a_chain(self, agent: Any, server: Replaying) -> None:
        from agents import Runner

        first = Runner.run_streamed(agent, "[[calls]]", auto_previous_response_id=True)
        kinds = [event.type async for event in first.stream_events()]
        assert "raw_response_event" in kinds
        assert first.final_output == "Sunny in Paris."
        second = Runner.run_streamed(agent, "And? [[plain]]", previous_response_id=first.last_response_id)
        async for _ in second.stream_events():
            pass
        assert second.final_output == ANSWERS["plain"]
        assert "Sunny in Paris." in server.prompts[-1]

    async def test_conversation_sessions(self, agent: Any, client: AsyncOpenAI, server: Replaying) -> None:
        from agents import OpenAIConversationsSession, Runner

        session = OpenAIConversationsSession(openai_client=client)
        await Runner.run(agent, "[[calls]]", session=session)
        result = await Runner.run(agent, "And? [[plain]]", session=session)
        assert result.final_output == ANSWERS["plain"]
        assert "Sunny in Paris." in server.prompts[-1]
        assert len(await session.get_items()) == 8
        popped: Any = await session.pop_item()
        assert popped["role"] == "assistant"
        await session.clear_session()
        assert await session.get_items() == []

    async def test_structured_output(self, client: AsyncOpenAI) -> None:
        from agents import Agent, OpenAIResponsesModel, Runner

        model = OpenAIResponsesModel(model="tiny", openai_client=client)
        result = await Runner.run(Agent(name="a", model=model, output_type=City), "[[json]]")
        assert result.final_output == City(city="Paris")


class TestLangChain:
    @pytest.fixture(params=[False, True], ids=["whole", "chained"])
    def chat(self, server: Replaying, request: pytest.FixtureRequest) -> Any:
        langchain = pytest.importorskip("langchain_openai")
        return langchain.ChatOpenAI(
            model="tiny",
            base_url=f"{server.url}/v1",
            api_key=KEY,
            max_retries=0,
            use_responses_api=True,
            use_previous_response_id=request.param,
            reasoning={"effort": "low", "summary": "auto"},
        )

    def test_a_tool_round_trip(self, chat: Any, server: Replaying) -> None:
        from langchain_core.messages import HumanMessage, ToolMessage

        bound = chat.bind_tools([{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}])
        asked = [HumanMessage("[[calls]]")]
        first = None
        for chunk in bound.stream(asked):
            first = chunk if first is None else first + chunk
        assert first is not None
        assert [(call["name"], call["args"]) for call in first.tool_calls] == [("get_weather", {"city": "Paris"})]
        assert first.text == "Let me look."
        shown = [block for block in first.content_blocks if block["type"] == "reasoning"]
        assert [block["reasoning"] for block in shown] == [THOUGHT]
        result = ToolMessage("sunny [[sunny]]", tool_call_id=first.tool_calls[0]["id"])
        second = bound.invoke([*asked, first, result])
        assert second.text == "Sunny in Paris."
        assert "Let me look." in server.prompts[-1]
        assert f"<think>{THOUGHT}</think>" in server.prompts[-1]
        third = bound.invoke([*asked, first, result, second, HumanMessage("[[plain]]")])
        assert third.text == ANSWERS["plain"]
        assert third.usage_metadata["input_tokens"] == len(server.requests[-1].token_ids)

    def test_structured_output(self, chat: Any) -> None:
        assert chat.with_structured_output(City).invoke("[[json]]") == City(city="Paris")

    def test_a_custom_tool(self, chat: Any) -> None:
        from langchain_openai import custom_tool

        @custom_tool
        def get_weather(city: str) -> str:
            """The weather of a city."""
            return city

        (call,) = chat.bind_tools([get_weather]).invoke("[[calls]]").tool_calls
        assert (call["name"], call["args"]) == ("get_weather", {"__arg1": "Paris"})


class TestPydanticAi:
    @pytest.fixture
    def model(self, server: Replaying) -> Any:
        openai_models = pytest.importorskip("pydantic_ai.models.openai")
        provider = pytest.importorskip("pydantic_ai.providers.openai")
        return openai_models.OpenAIResponsesModel(
            "tiny", provider=provider.OpenAIProvider(base_url=f"{server.url}/v1", api_key=KEY)
        )

    @pytest.mark.parametrize("settings", [{}, {"openai_previous_response_id": "auto"}], ids=["whole", "chained"])
    def test_agent_with_a_tool(self, model: Any, server: Replaying, settings: Any) -> None:
        from pydantic_ai import Agent

        agent = Agent(model, instructions="Be brief.", model_settings=settings)

        @agent.tool_plain
        def get_weather(city: str) -> str:
            """The weather of a city."""
            return f"sunny in {city} [[sunny]]"

        first = agent.run_sync("[[calls]]")
        assert first.output == "Sunny in Paris."
        assert f"<think>{THOUGHT}</think>" in server.prompts[-1]
        second = agent.run_sync("[[plain]]", message_history=first.all_messages())
        assert second.output == ANSWERS["plain"]
        assert "Sunny in Paris." in server.prompts[-1]
        assert server.prompts[-1].count("Be brief.") == 1

    async def test_stream_and_structured_output(self, model: Any) -> None:
        from pydantic_ai import Agent, NativeOutput

        async with Agent(model).run_stream("[[plain]]") as streamed:
            pieces = [piece async for piece in streamed.stream_text(delta=True)]
        assert "".join(pieces) == ANSWERS["plain"]
        result = await Agent(model, output_type=NativeOutput(City)).run("[[json]]")
        assert result.output == City(city="Paris")


def test_a_real_model_writes_what_a_grammar_allows(smollm2_path: Any) -> None:
    """Codex' patches, by a model of 135 million parameters that has never seen one: however far it comes in these
    tokens, it is the beginning of a patch, and as a stream the same."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": CASES["patch"].definition}
    tool: Any = {"type": "custom", "name": "apply_patch", "description": "Edits files.", "format": grammar}
    choice: Any = {"type": "custom", "name": "apply_patch"}
    fields: Any = {"model": "smollm2", "tools": [tool], "tool_choice": choice, "temperature": 0}
    with running_server("smollm2", "--store", "none", "--log-level", "warning") as up:
        client = OpenAI(base_url=up.base_url, api_key="none", max_retries=0)
        asked = {"input": "Write hello into a.txt.", "max_output_tokens": 60}
        whole: Any = client.responses.create(**asked, **fields)
        *_, last = client.responses.create(**asked, **fields, stream=True)
    for response in (whole, last.response):
        (call,) = response.output
        assert (call.type, call.name) == ("custom_tool_call", "apply_patch")
        assert len(call.input) > 20
        assert Model(byte_vocabulary()).begins(CASES["patch"].definition, call.input)
