"""What of a conversation does not reach the prompt is named in the header, in the client's own words, on every path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from portico.protocols.anthropic.signatures import Signer
from support.replay import replaying

SECRET = "a secret"
THOUGHT = "Deep thought, indeed."
BARE = """{% for m in messages %}<|{{ m.role }}|>{% if m.content is string %}{{ m.content }}{% else %}
{%- for part in m.content or [] %}{{ part.text }}{% endfor %}{% endif %}
{%- for call in m.tool_calls or [] %}[{{ call.function.name }}]{% endfor %}{% endfor %}<|assistant|>"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with replaying({"a": "Hello"}, reasoning_parser="qwen3", signing_key=SECRET, template=BARE) as server:
        yield server.url


def warned(url: str, path: str, messages: list[dict[str, Any]]) -> str:
    limit = {} if path.endswith("count_tokens") else {"max_tokens": 5}
    answer = httpx.post(url + path, json={"model": "tiny", "messages": messages, **limit})
    assert answer.status_code == 200, answer.text
    return answer.headers.get("x-portico-warning", "").removeprefix("left out of the prompt: ")


def thinking(text: str = THOUGHT) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": Signer(SECRET).sign(text)}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_thoughts_of_the_messages_api(url: str, path: str) -> None:
    text = {"type": "text", "text": "So be it."}
    call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "found"}

    def turns(*answers: list[dict[str, Any]], then: Any = "And?") -> list[dict[str, Any]]:
        said = [{"role": "assistant", "content": blocks} for blocks in answers]
        return [{"role": "user", "content": "What?"}, *said, {"role": "user", "content": then}]

    assert warned(url, path, turns([thinking(), text])) == "messages[1].content[0]"
    assert warned(url, path, turns([thinking(), call], then=[result])) == "messages[1].content[0]"
    assert warned(url, path, turns([text], [thinking(), thinking("More."), text])) == (
        "messages[2].content[0], messages[2].content[1]"
    )
    assert warned(url, path, turns([text])) == ""


def test_tools_that_no_template_shows(url: str) -> None:
    """Also where one of them is spoken of."""
    function = {"type": "function", "function": {"name": "look_around", "parameters": {"type": "object"}}}
    other = {"type": "function", "function": {"name": "go_home"}}
    body = {"messages": [{"role": "user", "content": "Please look_around."}], "max_tokens": 5}
    for tools, place in (
        ([other], "tools (the model's template has no place for them)"),
        ([{"type": "web_search"}, function, other], "tools[0] (web_search, which this server does not run), tools[2]"),
    ):
        answer = httpx.post(url + "/v1/chat/completions", json={**body, "tools": tools})
        assert answer.headers["x-portico-warning"] == f"left out of the prompt: {place}"


def test_a_kind_of_thinking_that_is_not_known(url: str) -> None:
    question = [{"role": "user", "content": "What?"}]
    body = {"model": "tiny", "max_tokens": 5, "messages": question, "thinking": {"type": "lateral"}}
    answer = httpx.post(url + "/v1/messages", json=body)
    assert answer.headers["x-portico-warning"] == "left out of the prompt: thinking.type (lateral)"


@pytest.mark.parametrize(
    ("turn", "place"),
    [
        ({"content": "So.", "reasoning": THOUGHT}, "messages[1].reasoning"),
        ({"content": "So.", "reasoning_content": THOUGHT}, "messages[1].reasoning_content"),
        (
            {"content": "So.", "reasoning_details": [{"type": "reasoning.text", "text": THOUGHT}]},
            "messages[1].reasoning_details",
        ),
        (
            {"content": [{"type": "text", "text": "So."}, {"type": "thinking", "thinking": THOUGHT}]},
            "messages[1].content[1]",
        ),
        (
            {"content": [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "So."}]},
            "messages[1].content[0] (redacted thinking)",
        ),
        ({"content": [{"type": "refusal", "refusal": "So."}]}, ""),
    ],
)
def test_thoughts_of_chat_completions(url: str, turn: dict[str, Any], place: str) -> None:
    question, then = {"role": "user", "content": "What?"}, {"role": "user", "content": "And?"}
    assert warned(url, "/v1/chat/completions", [question, {"role": "assistant", **turn}, then]) == place
