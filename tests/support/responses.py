"""What the tests of the Responses API share: its events as an automaton of our own, read from the description and not
from the code, and the schemas of both descriptions where they are at hand."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from support.openapi import allow_null
from support.shared import shared_file

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ENDS = {"response.completed": "completed", "response.incomplete": "incomplete", "response.failed": "failed"}
TEXTS = {  # events that carry pieces of a text: the key of the whole text in their .done
    "response.output_text": "text",
    "response.reasoning_text": "text",
    "response.reasoning_summary_text": "text",
    "response.function_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
    "response.mcp_call_arguments": "arguments",
}
HOLDERS = {
    "response.output_text": "message",
    "response.reasoning_text": "reasoning",
    "response.reasoning_summary_text": "reasoning",
    "response.function_call_arguments": "function_call",
    "response.custom_tool_call_input": "custom_tool_call",
    "response.mcp_call_arguments": "mcp_call",
}
PARTS = ("response.content_part", "response.reasoning_summary_part")


def events_of(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream as it was sent; each repeats its type."""
    events = []
    for frame in data.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if not line.startswith(":"))
        event = json.loads(fields["data"])
        assert event["type"] == fields["event"]
        events.append(event)
    return events


def assert_in_order(events: list[dict[str, Any]], *, background: bool = False, over: bool = True) -> None:
    """The sequence is one that the API knows: numbers without gaps, items one after the other, every text the sum of
    its pieces, one end that holds all items as they were done."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    head = ["response.created", *(["response.queued"] if background else []), "response.in_progress"]
    assert kinds[: len(head)] == head
    done: list[dict[str, Any]] = []
    item: dict[str, Any] | None = None
    texts: dict[str, list[str]] = {}
    parts: dict[str, int] = {}
    for number, event in enumerate(events[len(head) :], len(head)):
        kind = event["type"]
        stem, _, last = kind.rpartition(".")
        if kind == "response.in_progress":  # a sign of life
            continue
        if kind in ENDS:
            assert number == len(events) - 1
            response = event["response"]
            assert response["status"] in (ENDS[kind], "cancelled")
            if kind != "response.failed" and response["status"] != "cancelled":
                assert item is None
                assert response["output"] == done
            else:
                assert response["output"][: len(done)] == done
            return
        assert event["output_index"] == len(done), kind
        if kind == "response.output_item.added":
            assert item is None
            item = event["item"]
            assert item.get("status", "in_progress") == "in_progress"
            texts, parts = {}, {}
            continue
        assert item is not None, kind
        if kind == "response.output_item.done":
            assert (event["item"]["id"], event["item"]["type"]) == (item["id"], item["type"])
            assert all(count == 0 for count in parts.values())
            _holds(event["item"], {name: "".join(pieces) for name, pieces in texts.items()})
            done.append(event["item"])
            item = None
            continue
        assert event["item_id"] == item["id"]
        if stem in PARTS:
            parts[stem] = parts.get(stem, 0) + (1 if last == "added" else -1)
            assert parts[stem] in (0, 1)
        elif stem in TEXTS:
            assert item["type"] == HOLDERS[stem]
            if last == "delta":
                texts.setdefault(stem, []).append(event["delta"])
            else:
                assert event[TEXTS[stem]] == "".join(texts.get(stem, []))
                texts.setdefault(stem, [])
        else:
            assert stem in ("response.mcp_call", "response.mcp_list_tools", "response.compaction"), kind
    assert not over, "the stream has no end"


def _holds(item: dict[str, Any], texts: dict[str, str]) -> None:
    """The finished item has what its events told."""
    found = {
        "message": lambda: {"response.output_text": item["content"][0]["text"]},
        "reasoning": lambda: {
            "response.reasoning_text": item["content"][0]["text"],
            **({"response.reasoning_summary_text": item["summary"][0]["text"]} if item["summary"] else {}),
        },
        "function_call": lambda: {"response.function_call_arguments": item["arguments"]},
        "custom_tool_call": lambda: {"response.custom_tool_call_input": item["input"]},
        "mcp_call": lambda: {"response.mcp_call_arguments": item["arguments"]},
    }.get(item["type"], dict)()
    assert {name: text for name, text in texts.items() if text} == {n: t for n, t in found.items() if t}


@lru_cache(maxsize=2)
def _schemas(name: str) -> dict[str, Any] | None:
    path = shared_file(f"specs/{name}")
    if path is None:
        return None
    schemas: dict[str, Any] = json.loads(path.read_text())["components"]["schemas"]
    allow_null(schemas)
    return schemas


@lru_cache(maxsize=128)
def _validator(description: str, schema: str) -> Draft202012Validator | None:
    schemas = _schemas(description)
    if schemas is None or schema not in schemas:
        return None
    return Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": {"schemas": schemas}})


OPENAI, OPEN = "openai-openapi.json", "openresponses-2026-04-24.json"


@lru_cache(maxsize=2)
def _event_schemas(description: str) -> dict[str, str]:
    """The type of each event -> its schema."""
    found: dict[str, str] = {}
    for name, schema in (_schemas(description) or {}).items():
        kind = schema.get("properties", {}).get("type", {}) if isinstance(schema, dict) else {}
        values = kind.get("enum") or ([kind["const"]] if "const" in kind else [])
        single = len(values) == 1 and str(values[0]).startswith("response.") and not name.startswith("Beta")
        if single and "sequence_number" in schema["properties"]:
            found[str(values[0])] = name
    return found


def assert_valid(response: Any, *, functions: bool = False) -> None:
    """A response object is one to the SDK's types and to OpenAI's description; with ``functions`` alone for tools also
    to that of Open Responses, which knows no others."""
    TypeAdapter(Response).validate_json(json.dumps(response), strict=True)
    check(OPENAI, "Response", response)
    if functions:
        check(OPEN, "ResponseResource", response)


def assert_valid_event(event: dict[str, Any], *, functions: bool = False) -> None:
    """So is an event."""
    EVENT.validate_json(json.dumps(event))
    for description in (OPENAI, OPEN) if functions else (OPENAI,):
        name = _event_schemas(description).get(event["type"])
        if name is not None:
            check(description, name, _without_usage(event) if description == OPENAI else event)


def _without_usage(event: dict[str, Any]) -> dict[str, Any]:
    """OpenAI sends null for usage before the end; its own description has no null there."""
    response = event.get("response")
    if response is None or response["usage"] is not None:
        return event
    return {**event, "response": {key: value for key, value in response.items() if key != "usage"}}


def is_valid(description: str, schema: str, value: Any) -> bool | None:
    """Whether the description takes the value; None where it is not at hand."""
    validator = _validator(description, schema)
    return None if validator is None else validator.is_valid(value)


def check(description: str, schema: str, value: Any) -> None:
    validator = _validator(description, schema)
    if validator is None:
        return
    problems = sorted(validator.iter_errors(value), key=lambda error: list(error.absolute_path))
    assert not problems, f"{description} {schema}:\n" + "\n".join(
        f"{list(p.absolute_path)}: {p.message[:400]}" for p in problems[:3]
    )
