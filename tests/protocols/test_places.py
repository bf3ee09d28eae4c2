"""An error names the place in the client's own request, however the conversation was taken apart for the model."""

from __future__ import annotations

from typing import Any

import pytest

from portico.errors import BadRequestError
from portico.protocols.anthropic import messages
from portico.protocols.anthropic.schema import MessagesRequest
from portico.protocols.anthropic.signatures import Signer
from portico.protocols.places import Origin, Places
from portico.protocols.validation import parse_fields
from support.generation import tiny_model

ABLE = frozenset({"generate", "constraints"})
PLAIN = {"type": "object", "properties": {}}


def refused(*turns: dict[str, Any], **fields: Any) -> BadRequestError:
    """The error of a request, from its reading to its admission."""
    model = tiny_model(capabilities=ABLE, tool_parser="hermes")
    body = {"model": "tiny", "max_tokens": 10, "messages": list(turns), **fields}
    request = parse_fields(MessagesRequest, body)

    def admit() -> None:
        asked = messages.read_request(request, model, Signer(None))
        with asked.places.told():
            prompt = model.prompter.render_chat(**asked.prompt_arguments)
            messages.generation(request, asked, prompt, model, "r")

    with pytest.raises(BadRequestError) as caught:
        admit()
    return caught.value


def user(*blocks: dict[str, Any] | str) -> dict[str, Any]:
    return {"role": "user", "content": blocks[0] if isinstance(blocks[0], str) else list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def call(name: str, id: str = "toolu_1") -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": {}}


def result(id: str = "toolu_1") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": "ok"}


def test_a_call_behind_a_system_prompt_and_results() -> None:
    error = refused(
        user("a"),
        {"role": "assistant", "content": [text("Two."), call("f", "toolu_1"), call("g", "toolu_2")]},
        user(result("toolu_1"), result("toolu_2"), text("and then")),
        {"role": "assistant", "content": [text("One more."), call("")]},
        user(result()),
        system="Be brief.",
    )
    assert error.param == "messages[3].content[1].name"
    assert error.message.startswith("messages[3].content[1].name must be text")


def test_a_turn_of_several_messages() -> None:
    error = refused(
        user("a"), user("b"), {"role": "assistant", "content": "c"}, {"role": "assistant", "content": [call("")]}
    )
    assert error.param is not None
    assert error.param.startswith("messages[3]")


def test_a_tool_behind_one_that_is_not_shown() -> None:
    bad = {"name": "bad", "input_schema": {"type": "object", "not": {"type": "string"}}, "strict": True}
    hidden = {"name": "hidden", "input_schema": PLAIN, "defer_loading": True}
    error = refused(user("a"), tools=[hidden, {"name": "good", "input_schema": PLAIN}, bad])
    assert error.param is not None
    assert error.param.startswith("tools[2]")
    assert "tools[1]" not in error.message


ORIGINS = [
    Origin(["system"]),
    Origin(["messages[0].content", "messages[1].content[0]"]),
    Origin(
        ["messages[2].content[0]"],
        ["messages[2].content[1]"],
        ["messages[2].content[2]", "messages[2].content[3]"],
    ),
]


@pytest.mark.parametrize(
    ("neutral", "own"),
    [
        ("messages[0].content", "system"),
        ("messages[1]", "messages"),
        ("messages[1].role", "messages"),
        ("messages[1].content[1].type", "messages[1].content[0]"),
        ("messages[2].content[0]", "messages[2].content[0]"),
        ("messages[2].tool_calls[0].function.arguments", "messages[2].content[1].input"),
        ("messages[2].tool_calls[7]", "messages[2]"),
        ("messages[9].content", "messages"),
        ("tools[0].function.parameters", "tools[3].input_schema"),
        ("tools[0].function.name", "tools[3].name"),
        ("messages[2].reasoning", "messages[2].content[2], messages[2].content[3]"),
        ("messages[1].reasoning", "messages"),
        ("tools[5]", "tools"),
        ("max_tokens", "max_tokens"),
        ("response_format", "output_config.format"),
        ("response_format.json_schema.schema", "output_config.format.schema"),
        (None, None),
    ],
)
def test_every_kind_of_place(neutral: str | None, own: str | None) -> None:
    with (
        pytest.raises(BadRequestError) as caught,
        Places(ORIGINS, [3], schema="input_schema", answer="output_config.format").told(),
    ):
        raise BadRequestError(f"In {neutral}, something is wrong.", param=neutral)
    assert caught.value.param == own
    assert caught.value.message == f"In {own}, something is wrong."


CHAT = Places(None, [0, 2])
RESPONSES = Places(ORIGINS, [3], root="input", arguments="arguments", flat=True, answer="text.format")


@pytest.mark.parametrize(
    ("neutral", "chat", "responses"),
    [
        ("messages[1].content[1].image_url.url", None, "messages[1].content[0].image_url.url"),
        ("messages[0].content[0]", None, "system"),
        ("messages[2].content[0].text", None, "messages[2].content[0].text"),
        ("messages[2].tool_calls[0].function.name", None, "messages[2].content[1].name"),
        ("messages[2].tool_calls[0].function.arguments", None, "messages[2].content[1].arguments"),
        ("messages[2].tool_calls[0].id", None, "messages[2].content[1]"),
        ("messages[2].content[1]", None, "messages[2]"),
        ("messages[3]", None, "input"),
        ("messages[4]", None, "input"),
        ("tools[0].function.name", "tools[0].function.name", "tools[3].name"),
        ("tools[1].function.parameters", "tools[2].function.parameters", "tools"),
        ("tools[0].custom.format", "tools[0].custom.format", "tools[3].format"),
        ("tools[2].function.name", "tools.name", "tools.name"),
        ("response_format.json_schema.schema", None, "text.format.schema"),
    ],
)
def test_every_protocol_has_its_own(neutral: str, chat: str | None, responses: str) -> None:
    """None: it is where the neutral one is."""
    assert CHAT.words(neutral) == (chat or neutral)
    assert RESPONSES.words(neutral) == responses
    assert RESPONSES.words(f"{neutral} and {neutral}.") == f"{responses} and {responses}."
