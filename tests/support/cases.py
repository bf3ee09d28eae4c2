"""Recorded cases (shared test material): reading one in pieces, and comparing what came out with what must."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from portico.events import Event, Message
from portico.parsing import OutputParser
from support.effort import EXHAUSTIVE
from support.shared import shared_path
from support.streams import cut, merged

TOKEN = re.compile(r"<[^<>\s]{1,40}>|\w{1,6}|\s|.", re.DOTALL)


@cache
def families() -> dict[str, Any]:
    return dict(json.loads(shared_path("cases/families.json").read_text()))


def load(name: str) -> list[dict[str, Any]]:
    """The cases of a file; skips the calling module where it is absent."""
    return [json.loads(line) for line in shared_path(f"cases/{name}.jsonl").read_text().splitlines()]


def prompt_tail(case: dict[str, Any]) -> str:
    if "prompt_tail" in case:
        return str(case["prompt_tail"])
    family = families().get(case["family"], {})
    tail, think = family.get("prompt_tail") or "", family.get("think")
    if case["prompt_ends_in_reasoning"]:
        if (case.get("chat_template_kwargs") or {}).get("reasoning_effort") == "low":
            return f"{tail}<ifm|think_faster>"
        return tail + think[0]
    return tail + think[0] + think[1] if family.get("prefilled") else tail


def read(case: dict[str, Any], pieces: list[str], finish: str = "") -> list[Event]:
    parser = OutputParser(
        case["tool_parser"],
        case["reasoning_parser"],
        tools=case["tools"],
        prompt_tail=prompt_tail(case),
        parallel=case.get("parallel", True),
        response_template=case.get("response_template"),
        new_id=None if "id_pattern" in case else lambda index, name: f"id-{index}",
    )
    events: list[Event] = []
    for piece in pieces:
        events += parser.feed(piece)
    return merged([*events, *parser.close(finish or ("length" if case["finish_reason"] == "length" else "stop"))])


def lenient(text: str) -> Any:
    """What a reader of prefixes makes of arguments that were cut short."""
    closers: list[str] = []
    inside = escape = False
    for char in text:
        if escape:
            escape = False
        elif inside:
            escape = char == "\\"
            inside = char != '"'
        elif char == '"':
            inside = True
        elif char in "{[":
            closers.append("}" if char == "{" else "]")
        elif char in "}]":
            closers.pop()
    return json.loads(text + ('"' if inside else "") + "".join(reversed(closers)))


def differences(case: dict[str, Any], expected: dict[str, Any], found: Message) -> Iterator[str]:
    for kind, text in (("reasoning", found.reasoning), ("content", found.content)):
        wanted = expected.get(kind) or ""
        if (text != wanted) if case.get("exact") else (text.split() != wanted.split()):
            yield f"{kind}: {text!r}, not {wanted!r}"
    wanted_calls = expected.get("tool_calls") or []
    if [call["name"] for call in wanted_calls] != [call.name for call in found.tool_calls]:
        yield f"calls: {found.tool_calls}"
        return
    for wanted_call, call in zip(wanted_calls, found.tool_calls, strict=True):
        if wanted_call.get("id", call.id) != call.id:
            yield f"id: {call.id!r}"
        if "id_pattern" in case and not re.fullmatch(case["id_pattern"], call.id):
            yield f"id: {call.id!r}"
        if "arguments_raw" in wanted_call:
            if call.arguments != wanted_call["arguments_raw"]:
                yield f"arguments: {call.arguments!r}"
            continue
        complete = wanted_call.get("complete", True)
        value = json.loads(call.arguments) if complete else lenient(call.arguments)
        if json.dumps(value, sort_keys=True) != json.dumps(wanted_call["arguments"], sort_keys=True):
            yield f"arguments: {call.arguments!r}"
        if call.complete != complete:
            yield f"complete: {call.complete}"


@cache
def tokens(text: str) -> list[str]:
    return TOKEN.findall(text)


def all_cuts(text: str, seed: str) -> Iterator[list[str]]:
    yield list(text)
    words = tokens(text)
    chance = random.Random(seed)
    sizes = (1, 2, 3, 5, 8)
    for size in sizes if EXHAUSTIVE else chance.sample(sizes, 2):
        yield ["".join(group) for group in (words[at : at + size] for at in range(0, len(words), size))]
    places = range(1, len(text))
    for place in places if EXHAUSTIVE else chance.sample(places, min(4, len(places))):
        yield cut(text, place)
    for _ in range(200 if EXHAUSTIVE else 2):
        yield cut(text, *(chance.randrange(len(text) + 1) for _ in range(chance.randrange(1, 10))))
