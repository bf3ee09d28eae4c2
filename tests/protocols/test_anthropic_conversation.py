"""Anthropic's messages, tools and thinking as the neutral conversation that prompting takes."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from portico.errors import BadRequestError, NotSupportedError
from portico.protocols.anthropic.conversation import Conversation, read_conversation
from portico.protocols.anthropic.ids import call_id_for_client, call_id_for_model
from portico.protocols.anthropic.schema import ToolChoice
from portico.protocols.anthropic.signatures import Signer
from portico.protocols.anthropic.tools import neutral_choice, neutral_tools

SIGNER = Signer("a secret")
SIZE = {"display_width_px": 800, "display_height_px": 600}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}


def read(messages: list[dict[str, Any]], system: Any = None, modalities: tuple[str, ...] = ()) -> Conversation:
    return read_conversation(messages, system, SIGNER, modalities)


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": blocks[0] if isinstance(blocks[0], str) else list(blocks)}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


class TestTurns:
    def test_plain(self) -> None:
        assert read([user("Hi")], "Be brief.").messages == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ]

    def test_blocks_keep_their_borders_and_lose_cache_marks(self) -> None:
        marked = text("two", cache_control={"type": "ephemeral"})
        found = read([user(text("one"), marked)], [text("sys"), text("tem", cache_control={"type": "ephemeral"})])
        assert found.messages == [
            {"role": "system", "content": [text("sys"), text("tem")]},
            {"role": "user", "content": [text("one"), text("two")]},
        ]
        assert found.left_out == []

    def test_late_system_messages_stay_where_they_are(self) -> None:
        messages = [user("a"), {"role": "system", "content": "note"}, user("b")]
        assert [message["role"] for message in read(messages, "first").messages] == ["system", "user", "system", "user"]

    def test_neighbours_of_one_role_are_one_turn(self) -> None:
        found = read([user("a"), user(text("b")), {"role": "assistant", "content": "c"}, user("d")])
        assert found.messages[0] == {"role": "user", "content": [text("a"), text("b")]}
        assert len(found.messages) == 3

    def test_the_bookkeeping_of_coding_agents_is_no_prompt(self) -> None:
        """It differs in every request, so it would also spoil every shared prefix."""
        found = read([user("Hi")], [text("x-anthropic-billing-header: cc_version=2.1; cch=00000;"), text("Be brief.")])
        assert found.messages[0] == {"role": "system", "content": "Be brief."}

    def test_an_assistant_message_at_the_end_is_continued(self) -> None:
        assert read([user("Hi"), {"role": "assistant", "content": "The answer is ("}]).prefilled
        assert not read([user("Hi")]).prefilled

    @pytest.mark.parametrize(
        ("messages", "param"),
        [
            ([{"content": "x"}], "messages[0].role"),
            ([{"role": "user"}], "messages[0].content"),
            ([{"role": "user", "content": 5}], "messages[0].content"),
            ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
            ([{"role": "user", "content": [{"text": "x"}]}], "messages[0].content[0]"),
            ([user("a"), user(text("b"), {"type": "text"})], "messages[1].content[1].text"),
            ([user({"type": "tool_result", "content": "x"})], "messages[0].content[0].tool_use_id"),
            ([user({"type": "image", "source": "x"})], "messages[0].content[0].source"),
            ([{"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}], "messages[0].content[0].id"),
            ([{"role": "assistant", "content": [{"type": "thinking"}]}], "messages[0].content[0].thinking"),
            ([user({"type": "no_such_block"})], "messages"),
            (
                [user("a"), {"role": "assistant", "content": [{"type": "tool_use", "id": "i", "name": "f"}]}],
                "messages[1]",
            ),
            ([user("a"), {"role": "assistant", "content": ""}], "messages[1]"),
        ],
    )
    def test_refusals_name_the_place(self, messages: list[dict[str, Any]], param: str) -> None:
        with pytest.raises(BadRequestError) as caught:
            read(messages)
        assert caught.value.param == param

    def test_unknown_blocks_are_left_out_and_told(self) -> None:
        found = read(
            [
                user(text("a"), {"type": "hologram", "x": 1}),
                {
                    "role": "assistant",
                    "content": [
                        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
                        text("b"),
                    ],
                },
                user("c"),
            ]
        )
        assert [message["content"] for message in found.messages] == ["a", "b", "c"]
        assert found.left_out == ["messages[0].content[1] (hologram)", "messages[1].content[0] (server_tool_use)"]


class TestTools:
    def call(self, id: str = "toolu_1", **more: Any) -> dict[str, Any]:
        return {"type": "tool_use", "id": id, "name": "look", "input": {"at": "it"}, **more}

    def test_calls_and_results(self) -> None:
        found = read(
            [
                user("Look."),
                {"role": "assistant", "content": [text("Looking."), self.call(), self.call("toolu_2")]},
                user(
                    text("And now?"),
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "green"},
                    {"type": "tool_result", "tool_use_id": "toolu_2", "content": [text("a"), text("b")]},
                ),
            ]
        )
        function = {"name": "look", "arguments": {"at": "it"}}
        assert found.messages[1:] == [
            {
                "role": "assistant",
                "content": "Looking.",
                "tool_calls": [
                    {"id": "toolu_1", "type": "function", "function": function},
                    {"id": "toolu_2", "type": "function", "function": function},
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "content": "green"},
            {"role": "tool", "tool_call_id": "toolu_2", "content": [text("a"), text("b")]},
            {"role": "user", "content": "And now?"},
        ]

    @pytest.mark.parametrize(
        ("content", "shown"),
        [
            ("no such file", "Error: no such file"),
            ("Error: no such file", "Error: no such file"),
            (None, "Error"),
            ([], "Error"),
            ([text("x"), text("y")], [text("Error: x"), text("y")]),
        ],
    )
    def test_a_failed_result_says_so(self, content: Any, shown: Any) -> None:
        result = {"type": "tool_result", "tool_use_id": "t", "content": content, "is_error": True}
        assert read([user(result)]).messages == [{"role": "tool", "tool_call_id": "t", "content": shown}]

    def test_pictures_reach_a_model_that_sees(self) -> None:
        result = {"type": "tool_result", "tool_use_id": "t", "content": [text("shot:"), PNG]}
        by_url = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
        found = read([user(result, by_url)], modalities=("image",))
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
        assert found.messages == [
            {"role": "tool", "tool_call_id": "t", "content": [text("shot:"), picture]},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
        ]

    def test_pictures_for_a_blind_model(self) -> None:
        """A user is told; an agent's conversation goes on, because it cannot take a tool's result back."""
        with pytest.raises(NotSupportedError) as caught:
            read([user(text("What is it?"), PNG)])
        assert caught.value.param == "messages[0].content[1]"
        found = read([user({"type": "tool_result", "tool_use_id": "t", "content": [PNG]})])
        assert "cannot see images" in found.messages[0]["content"]
        assert found.left_out == ["messages[0].content[0].content[0] (this model cannot see images)"]

    def test_old_pictures_for_a_blind_model(self) -> None:
        seen = [user(text("What is it?"), PNG), {"role": "assistant", "content": [text("Red."), PNG]}]
        found = read([*seen, user(text("Sure?"))])
        assert found.left_out == [
            "messages[0].content[1] (this model cannot see images)",
            "messages[1].content[1] (this model cannot see images)",
        ]
        assert "cannot see images" in str(found.messages[0]["content"])
        with pytest.raises(NotSupportedError) as caught:
            read([*seen, user(PNG)])
        assert caught.value.param == "messages[2].content[0]"

    @pytest.mark.parametrize("role", ["tool", "developer", "User", "", None, 5])
    def test_roles_that_are_none(self, role: object) -> None:
        with pytest.raises(BadRequestError) as caught:
            read([user("Hi"), {"role": role, "content": "x"}])
        assert caught.value.param == "messages[1].role"

    def test_ids_of_the_model_come_back_to_it(self) -> None:
        for own in ("functions.look:0", "0", "a1b2c3d4e", "call_0123456789abcdef", "toolu_0123", "ü"):
            known = call_id_for_client(own)
            assert call_id_for_model(known) in (own, "toolu_" + own.removeprefix("call_"))
            assert known.isascii()
            assert known.replace("_", "").replace("-", "").isalnum()
        assert call_id_for_client("0") != call_id_for_client("0")
        assert call_id_for_model("toolu_" + "ab" * 12) == "toolu_" + "ab" * 12

    def test_declared_tools(self) -> None:
        tools = [
            {"name": "a", "description": "Does a.", "input_schema": {"type": "object"}, "strict": True},
            {"type": "custom", "name": "b", "input_schema": {"properties": {}}, "cache_control": {"type": "ephemeral"}},
        ]
        assert neutral_tools(tools).tools == [
            {
                "type": "function",
                "function": {"name": "a", "description": "Does a.", "parameters": {"type": "object"}, "strict": True},
            },
            {"type": "function", "function": {"name": "b", "parameters": {"type": "object", "properties": {}}}},
        ]

    @pytest.mark.parametrize(
        ("tool", "words"),
        [
            ({"type": "bash_20250124"}, "tools[1].name"),
            ({"type": "bash_20250124", "name": "first"}, "unique"),
            ({"type": "computer_20250124", "name": "computer", "display_width_px": 800}, "display_height_px"),
            ({"name": "a"}, "input_schema"),
            ({"input_schema": {}}, "tools[1].name"),
            ({"name": "first", "input_schema": {}}, "unique"),
        ],
    )
    def test_tools_that_cannot_be(self, tool: dict[str, Any], words: str) -> None:
        with pytest.raises(BadRequestError) as caught:
            neutral_tools([{"name": "first", "input_schema": {}}, tool])
        assert words in caught.value.message
        assert "tools[1]" in caught.value.message

    def test_deferred_tools_wait_until_they_are_referenced(self) -> None:
        tools = [{"name": "find", "input_schema": {}}, {"name": "late", "input_schema": {}, "defer_loading": True}]
        reference = {
            "type": "tool_result",
            "tool_use_id": "t",
            "content": [{"type": "tool_reference", "tool_name": "late"}],
        }
        found = read([user(reference)])
        assert [tool["function"]["name"] for tool in neutral_tools(tools).tools] == ["find"]
        shown = neutral_tools(tools, found.referenced_tools)
        assert [tool["function"]["name"] for tool in shown.tools] == ["find", "late"]
        assert shown.places == [0, 1]
        with pytest.raises(BadRequestError):
            neutral_tools(tools[1:])
        by_anthropic = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
        assert [tool["function"]["name"] for tool in neutral_tools([by_anthropic, *tools[1:]]).tools] == ["late"]

    def test_what_servers_run_is_left_out(self) -> None:
        tools = [
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
            {"name": "f", "input_schema": {}},
            {"type": "mcp_toolset", "mcp_server_name": "x"},
            {"type": "bash_20250124", "name": "bash"},
        ]
        shown = neutral_tools(tools)
        assert [tool["function"]["name"] for tool in shown.tools] == ["f", "bash"]
        assert shown.places == [1, 3]
        assert [words.split()[:2] for words in shown.left_out] == [
            ["tools[0]", "(web_search_20250305,"],
            ["tools[2]", "(mcp_toolset,"],
        ]

    @pytest.mark.parametrize(
        ("kind", "more", "call"),
        [
            ("bash_20241022", {}, {"command": "ls"}),
            ("bash_20250124", {}, {"restart": True}),
            ("text_editor_20241022", {}, {"command": "undo_edit", "path": "/a"}),
            ("text_editor_20250124", {}, {"command": "insert", "path": "/a", "insert_line": 1, "new_str": "x"}),
            ("text_editor_20250429", {}, {"command": "view", "path": "/a", "view_range": [1, -1]}),
            ("text_editor_20250728", {}, {"command": "insert", "path": "/a", "insert_line": 1, "insert_text": "x"}),
            ("memory_20250818", {}, {"command": "rename", "old_path": "/memories/a", "new_path": "/memories/b"}),
            ("computer_20241022", SIZE, {"action": "left_click", "coordinate": [1, 2]}),
            ("computer_20250124", SIZE, {"action": "scroll", "scroll_direction": "down", "scroll_amount": 3}),
            ("computer_20251124", {**SIZE, "enable_zoom": True}, {"action": "zoom", "region": [0, 0, 9, 9]}),
        ],
    )
    def test_tools_known_by_their_type(self, kind: str, more: dict[str, Any], call: dict[str, Any]) -> None:
        (shown,) = neutral_tools([{"type": kind, "name": "own", **more}]).tools
        schema = shown["function"]["parameters"]
        assert shown["function"]["name"] == "own"
        assert shown["function"]["description"]
        jsonschema.validate(call, {**schema, "additionalProperties": False})
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**call, "surprise": 1}, {**schema, "additionalProperties": False})

    def test_choices(self) -> None:
        tools = neutral_tools([{"name": "a", "input_schema": {}}]).tools
        assert neutral_choice(None, tools) == "auto"
        assert neutral_choice(ToolChoice(type="auto"), tools) == "auto"
        assert neutral_choice(ToolChoice(type="none"), []) == "none"
        assert neutral_choice(ToolChoice(type="any"), tools) == "required"
        named = neutral_choice(ToolChoice(type="tool", name="a"), tools)
        assert named == {"type": "function", "function": {"name": "a"}}
        for choice, offered in ((ToolChoice(type="any"), []), (ToolChoice(type="tool", name="b"), tools)):
            with pytest.raises(BadRequestError):
                neutral_choice(choice, offered)


class TestThinking:
    def turn(self, *blocks: dict[str, Any]) -> Conversation:
        return read([user("Hi"), {"role": "assistant", "content": [*blocks, text("Yes.")]}, user("Sure?")])

    def thought(self, words: str, signature: str) -> dict[str, Any]:
        return {"type": "thinking", "thinking": words, "signature": signature}

    def test_own_thoughts_are_replayed(self) -> None:
        first, second = self.thought("hm 🤔", SIGNER.sign("hm 🤔")), self.thought("ah", SIGNER.sign("ah"))
        assert self.turn(first, second).messages[1] == {
            "role": "assistant",
            "content": "Yes.",
            "reasoning": "hm 🤔\n\nah",
        }

    def test_omitted_thoughts_travel_in_their_signature(self) -> None:
        found = self.turn(self.thought("", SIGNER.sign("hidden", carry=True)))
        assert found.messages[1]["reasoning"] == "hidden"

    @pytest.mark.parametrize(
        ("words", "signature"),
        [
            ("other words", SIGNER.sign("hm")),
            ("hm", Signer("another secret").sign("hm")),
            ("hm", Signer().sign("hm")),
            ("hm", "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds"),
            ("hm", ""),
            ("hm", "no base64 ✗"),
            ("hm", SIGNER.sign("hm", carry=True)),
            ("", SIGNER.sign("hm")),
            ("", SIGNER.sign("hm", carry=True)[:-4] + "AAAA"),
        ],
        ids=[str(number) for number in range(9)],
    )
    def test_thoughts_of_others_are_left_out(self, words: str, signature: str) -> None:
        found = self.turn(self.thought(words, signature))
        assert found.messages[1] == {"role": "assistant", "content": "Yes."}
        assert found.left_out == ["messages[1].content[0] (thinking that was not signed here)"]

    def test_redacted_thoughts_are_left_out(self) -> None:
        found = self.turn({"type": "redacted_thinking", "data": "EmwKAhgB"})
        assert found.messages[1] == {"role": "assistant", "content": "Yes."}
        assert found.left_out == ["messages[1].content[0] (redacted thinking)"]

    def test_every_process_has_a_secret_of_its_own(self) -> None:
        one, other = Signer(), Signer()
        assert one.verify("hm", one.sign("hm")) == "hm"
        assert other.verify("hm", one.sign("hm")) is None
        assert Signer("same").verify("hm", Signer("same").sign("hm")) == "hm"


class TestDocuments:
    def test_text_is_shown_with_its_borders(self) -> None:
        plain = {
            "type": "document",
            "title": "Rules",
            "context": "Valid in May.",
            "source": {"type": "text", "media_type": "text/plain", "data": "No dogs."},
        }
        parts = {"type": "document", "source": {"type": "content", "content": [text("a"), text("b")]}}
        hit = {"type": "search_result", "source": "https://example.com", "title": "T", "content": [text("found")]}
        found = read([user(plain, parts, hit)])
        assert [part["text"] for part in found.messages[0]["content"]] == [
            '<document title="Rules">\nValid in May.\n\nNo dogs.\n</document>',
            "<document>\na\nb\n</document>",
            '<search_result source="https://example.com" title="T">\nfound\n</search_result>',
        ]

    @pytest.mark.parametrize("kind", ["base64", "url", "file"])
    def test_what_cannot_be_read_is_refused(self, kind: str) -> None:
        with pytest.raises(NotSupportedError):
            read([user({"type": "document", "source": {"type": kind}})])
        result = {
            "type": "tool_result",
            "tool_use_id": "t",
            "content": [{"type": "document", "source": {"type": kind}}],
        }
        assert "not supported" in read([user(result)]).messages[0]["content"]
