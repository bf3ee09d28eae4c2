"""What the parsing tests share: running a parser over pieces, merging events, cutting text, and sample answers.

The samples are made by each family's own writer, so a new page brings its samples with it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

from portico.events import CallArguments, Content, Event, Reasoning
from portico.parsing import OutputParser, families, render_calls
from portico.parsing.calls import Calls
from portico.parsing.either import Either
from portico.parsing.family import Reasoning as ReasoningFormat
from portico.parsing.registry import program

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "send_note",
            "parameters": {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "to": {"type": "array", "items": {"type": "string"}},
                    "priority": {"type": "integer"},
                    "weight": {"type": "number"},
                    "urgent": {"type": "boolean"},
                    "extra": {"type": "object", "properties": {"k": {"type": "string"}, "n": {"type": "integer"}}},
                    "color": {"type": ["string", "null"]},
                },
                "required": ["text"],
            },
        },
    },
    {"type": "function", "function": {"name": "ping", "parameters": {"type": "object", "properties": {}}}},
]
NOTE = {
    "text": 'Größe "A"\n  if x < 3: {y} ✓',
    "to": ["ann", "bob"],
    "priority": 9007199254740993,
    "weight": -2.5,
    "urgent": True,
    "extra": {"k": "v", "n": 0},
    "color": None,
}

# One name of every description: names that share one are told apart by nothing.
_FAMILIES = list(families().values())
TOOL_PARSERS = list(
    {
        described: name
        for family in reversed(_FAMILIES)
        for name, described in reversed(family.tools.items())
        if isinstance(described, Calls | Either) or program(name, None).written is not None  # to make one is dear
    }.values()
)[::-1]
REASONING_PARSERS = list(
    {d: name for family in reversed(_FAMILIES) for name, d in reversed(family.reasoning.items())}.values()
)[::-1]


def run(
    pieces: Iterable[str],
    tool_parser: str | None,
    reasoning_parser: str | None = None,
    *,
    finish: str = "stop",
    **how: Any,
) -> list[Event]:
    """All events of an answer that comes in these pieces; ids are made predictable, neighbours are merged."""
    how.setdefault("tools", TOOLS)
    parser = OutputParser(tool_parser, reasoning_parser, new_id=lambda index, name: f"id-{index}", **how)
    events: list[Event] = []
    for piece in pieces:
        events += parser.feed(piece)
    return merged([*events, *parser.close(finish)])


def merged(events: Sequence[Event]) -> list[Event]:
    """Neighbouring pieces of the same text made one."""
    found: list[Event] = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, Content) and isinstance(last, Content):
            found[-1] = Content(last.text + event.text)
        elif isinstance(event, Reasoning) and isinstance(last, Reasoning):
            found[-1] = Reasoning(last.text + event.text)
        elif isinstance(event, CallArguments) and isinstance(last, CallArguments) and last.index == event.index:
            found[-1] = CallArguments(last.index, last.json_fragment + event.json_fragment)
        else:
            found.append(event)
    return found


def cut(text: str, *places: int) -> list[str]:
    """The text in pieces, cut at these places."""
    edges = [0, *sorted(places), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


def cut_every(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def cuts(text: str, seed: int, count: int) -> Iterable[list[str]]:
    """Single characters, a few even sizes, and random cuts."""
    yield list(text)
    for size in (2, 3, 7):
        yield cut_every(text, size)
    chance = random.Random(seed)
    for _ in range(count):
        yield cut(text, *(chance.randrange(len(text) + 1) for _ in range(chance.randrange(1, 8))))


def thought(reasoning_parser: str | None, text: str) -> str:
    """A thought as this family writes it; nothing where its thoughts need more than markers."""
    if reasoning_parser is None:
        return ""
    described = program(None, reasoning_parser).reasoning
    if not isinstance(described, ReasoningFormat) or described.shown:
        return ""
    opened = described.open if isinstance(described.open, str) else described.open[0]
    closed = described.close if isinstance(described.close, str) else described.close[0]
    return f"{opened}{text}{closed}".replace("*>", ">")


@cache
def sample_answers(tool_parser: str) -> tuple[str, ...]:
    """Answers with calls, as the family writes them: one full call, two calls, and text in front of a call."""
    calls = [{"name": "send_note", "arguments": NOTE}, {"name": "ping", "arguments": {}}]
    one, two = render_calls(calls[:1], tool_parser, TOOLS), render_calls(calls, tool_parser, TOOLS)
    ping = render_calls(calls[1:], tool_parser, TOOLS)
    return (
        one,
        two,
        f"One moment, please.\n{ping}" if not ping.startswith((" to=", " ->", ">>>", "<|channel|>")) else ping,
    )
