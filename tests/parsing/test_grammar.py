"""The grammar of a family's calls: it holds what the writer writes, and what it makes is read as calls."""

from __future__ import annotations

import json
import random
from typing import Any

import llguidance
import llguidance.numpy
import pytest
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from portico import grammar as g
from portico.constraints.lark import to_lark
from portico.constraints.limits import Limits
from portico.parsing import answer_frame, calls_grammar, parse, render_calls
from support.streams import TOOL_PARSERS

TOOLS: list[dict[str, Any]] = [
    {
        "name": "book",
        "parameters": {
            "type": "object",
            "properties": {
                "who": {"type": "string"},
                "seats": {"type": "integer", "minimum": 1, "maximum": 9},
                "window": {"type": "boolean"},
                "rows": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 2},
                "fare": {
                    "type": "object",
                    "properties": {"kind": {"type": "string", "enum": ["low", "full"]}},
                    "required": ["kind"],
                    "additionalProperties": False,
                },
                "class": {"type": "string", "enum": ["a", "b"]},
            },
            "required": ["who", "seats"],
            "additionalProperties": False,
        },
    },
    {"name": "ping", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}},
]
CALLS = [
    {
        "name": "book",
        "arguments": {
            "who": "Ann <a> \n✓",
            "seats": 2,
            "window": True,
            "rows": [1, 2],
            "fare": {"kind": "low"},
            "class": "b",
        },
    },
    {"name": "ping", "arguments": {}},
    {"name": "book", "arguments": {"who": "", "seats": 1}},
]
GRAMMAR_TOOLS = [g.Tool(tool["name"], g.Json(tool["parameters"])) for tool in TOOLS]
EOS = 256


class Bytes:
    """A vocabulary of the 256 bytes."""

    eos_token_id = bos_token_id = EOS
    tokens = [bytes([byte]) for byte in range(256)] + [b"<eos>"]
    special_token_ids = [EOS]  # noqa: RUF012

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


@pytest.fixture(scope="module")
def tokenizer() -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(Bytes()))


def matcher(
    tokenizer: LLTokenizer, tool_parser: str, high: int | None = None, tools: list[g.Tool] = GRAMMAR_TOOLS
) -> LLMatcher:
    found = calls_grammar(tool_parser, tools, high)
    assert found is not None
    grammar = LLMatcher.grammar_from_lark(to_lark(found.calls, {}, Limits()).text)
    assert LLMatcher.validate_grammar(grammar, tokenizer) == ""
    return LLMatcher(tokenizer, grammar)


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_the_grammar_holds_what_the_writer_writes(tool_parser: str, tokenizer: LLTokenizer) -> None:
    for calls in (CALLS[:1], CALLS[1:2], CALLS):
        text = render_calls(calls, tool_parser, TOOLS)
        found = matcher(tokenizer, tool_parser)
        data = list(text.encode())
        assert found.validate_tokens(data) == len(data), text
        assert found.consume_tokens(data)
        assert found.is_accepting()


@pytest.mark.parametrize("kind", ["string", ["string", "null"]], ids=str)
@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_a_string_is_held_to_its_length_and_pattern(tool_parser: str, kind: Any, tokenizer: LLTokenizer) -> None:
    code = {"type": kind, "minLength": 2, "maxLength": 3, "pattern": "^[a-c]+$"}
    schema = {"type": "object", "properties": {"code": code}, "required": ["code"], "additionalProperties": False}
    tool = {"name": "open", "parameters": schema}
    found = matcher(tokenizer, tool_parser, tools=[g.Tool("open", g.Json(schema))])
    loose = tool_parser == "sarashina"  # whose strings have another spelling than patterns are about
    for text, fits in [("ab", True), ("cab", True), ("a", False), ("abca", False), ("xy", loose)]:
        written = render_calls([{"name": "open", "arguments": {"code": text}}], tool_parser, [tool])
        reader, data = found.deep_copy(), list(written.encode())
        assert bool(reader.try_consume_tokens(data) == len(data) and reader.is_accepting()) is fits, written


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_a_value_may_be_of_any_of_its_types(tool_parser: str, tokenizer: LLTokenizer) -> None:
    level = {"type": ["integer", "boolean", "null"], "minimum": 0, "maximum": 9}
    schema = {"type": "object", "properties": {"level": level}, "required": ["level"], "additionalProperties": False}
    tool = {"name": "set", "parameters": schema}
    found = matcher(tokenizer, tool_parser, tools=[g.Tool("set", g.Json(schema))])
    for value, fits in [(7, True), (True, True), (False, True), (None, True), (12, False)]:
        written = render_calls([{"name": "set", "arguments": {"level": value}}], tool_parser, [tool])
        reader, data = found.deep_copy(), list(written.encode())
        assert bool(reader.try_consume_tokens(data) == len(data) and reader.is_accepting()) is fits, written


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_references_are_followed_into_definitions(tool_parser: str, tokenizer: LLTokenizer) -> None:
    digit = {"type": "integer", "minimum": 0, "maximum": 9}
    point = {"type": "object", "properties": {"x": {"$ref": "#/$defs/digit"}, "y": {"$ref": "#/definitions/digit"}},
             "required": ["x", "y"], "additionalProperties": False}  # fmt: skip
    members = {"at": {"$ref": "#/$defs/point"}, "all": {"type": "array", "items": {"$ref": "#/definitions/digit"}}}
    schema = {"type": "object", "properties": members, "required": ["at", "all"], "additionalProperties": False,
              "$defs": {"digit": digit, "point": point}, "definitions": {"digit": digit}}  # fmt: skip
    tool = {"name": "go", "parameters": schema}
    found = matcher(tokenizer, tool_parser, tools=[g.Tool("go", g.Json(schema))])
    for arguments, fits in [
        ({"at": {"x": 1, "y": 2}, "all": [3, 4]}, True),
        ({"at": {"x": 1, "y": 20}, "all": []}, False),
        ({"at": {"x": 1, "y": 2}, "all": [30]}, False),
    ]:
        written = render_calls([{"name": "go", "arguments": arguments}], tool_parser, [tool])
        reader, data = found.deep_copy(), list(written.encode())
        assert bool(reader.try_consume_tokens(data) == len(data) and reader.is_accepting()) is fits, written


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_at_most_one_call_where_calls_are_not_parallel(tool_parser: str, tokenizer: LLTokenizer) -> None:
    both = list(render_calls(CALLS[1:], tool_parser, TOOLS).encode())
    assert matcher(tokenizer, tool_parser, high=1).validate_tokens(both) < len(both)


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_the_opener_begins_the_grammar(tool_parser: str) -> None:
    found = calls_grammar(tool_parser, GRAMMAR_TOOLS)
    assert found is not None
    text = render_calls(CALLS[:1], tool_parser, TOOLS)
    assert all(text.startswith(opener) for opener in found.openers)


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_what_the_grammar_makes_is_read_as_calls(tool_parser: str, tokenizer: LLTokenizer) -> None:
    chance = random.Random(4)
    for _ in range(2):
        text = _sample(matcher(tokenizer, tool_parser, high=1), tokenizer, chance)
        if text is None:
            continue
        found = parse(text, tool_parser, tools=TOOLS)
        assert len(found.tool_calls) == 1, text
        assert found.content == ""
        call = found.tool_calls[0]
        arguments = json.loads(call.arguments)
        assert call.complete
        if call.name == "book":
            assert isinstance(arguments["who"], str)
            assert 1 <= arguments["seats"] <= 9
        else:
            assert (call.name, arguments) == ("ping", {})


def _sample(found: LLMatcher, tokenizer: LLTokenizer, chance: random.Random) -> str | None:
    """A text that the grammar allows; None where chance did not find its end."""
    mask = llguidance.numpy.allocate_token_bitmask(1, tokenizer.vocab_size)
    made: list[int] = []
    for _ in range(400):
        llguidance.numpy.fill_next_token_bitmask(found, mask, 0)
        allowed = [token for token in range(257) if mask[0][token // 32] >> (token % 32) & 1]
        if found.is_stopped() or allowed == [EOS] or (EOS in allowed and found.is_accepting()):
            return bytes(made).decode(errors="replace")
        readable = [token for token in allowed if 32 <= token < 127 or token == 10]
        closing = [token for token in readable if chr(token) in "\"'}])<>/|\n"]
        token = chance.choice(closing if closing and chance.random() < 0.6 else readable or allowed[:1])
        found.consume_token(token)
        made.append(token)
    return None


def test_frames() -> None:
    closed = answer_frame(None, "qwen3", "<think>\n\n</think>\n\n")
    assert closed.thought is None
    opened = answer_frame(None, "qwen3", "<think>\n")
    assert opened == g.Frame(g.Chain((g.Until(("</think>",)), g.Exactly("\n\n"))), may_skip=False)
    free = answer_frame("hermes", "qwen3", "")
    assert free.may_skip
    assert answer_frame("hermes", None) == g.Frame()
    assert answer_frame("openai", "openai_gptoss").header == g.Exactly("<|channel|>final<|message|>")
    assert calls_grammar("kimi_vl", GRAMMAR_TOOLS) is None
    assert calls_grammar("hermes", []) is None
