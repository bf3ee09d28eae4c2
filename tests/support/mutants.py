"""Law 8, whole arguments, tried on damaged answers: what every family's writer makes, with one marker or two broken.

    PYTHONPATH=tests python tests/support/mutants.py [--count N] [--seed N] [--family NAME …] [--show N]

reports violations per 10,000 mutants, by family. A mutant has markers deleted, doubled, damaged by a character, without
their slash, or swapped for another family's; values hold markers, quotes of every kind and line ends at either end.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from portico.parsing import Unwritable, render_calls
from portico.parsing.folding import fold
from portico.parsing.registry import program
from portico.parsing.wire import Literal, Optional, Part, parts
from support.streams import TOOL_PARSERS, TOOLS, cut_every, run

TEXTS = [
    "ls -la", "it's ok", 'say "hi" now', "\nfirst\nlast\n", "a, b: c = d", "{x} [y] (z)", "1 < 2 > 0", "5", "null",
    "Größe ✓", "cut -d ',' -f 2", "`code`", "f(a='x')", '{"k": 1}',
]  # fmt: skip
OTHERS: dict[str, Any] = {
    "priority": 73519,
    "to": ["anna", "bob"],
    "extra": {"k": "vvv"},
    "urgent": True,
    "color": "teal",
}
SECOND: list[dict[str, Any]] = [
    {"name": "ping", "arguments": {}},
    {"name": "send_note", "arguments": {"text": "other"}},
]
_WORD = re.compile(r"\W+|_")


class Mutant(NamedTuple):
    """A damaged answer; the calls that it was made of, and what was done to it."""

    text: str
    calls: list[dict[str, Any]]
    damage: str


@cache
def markers_of(tool_parser: str, inner: bool = False) -> list[str]:
    """The markers of a family as they are written, brackets are none; ``inner``: those inside a call too."""
    found = program(tool_parser, None)
    if not inner:
        return sorted(m.replace("*>", ">") for m in found.special_tokens if len(m) > 2)
    templates = [word for calls in (found.calls, found.written) if calls is not None for word in _templates(calls)]
    every = {word for template in templates for word in _literals(parts(template)) if not word.isalpha()}
    return sorted(m.replace("*>", ">") for m in found.special_tokens | every if len(m) > 2)


def _templates(calls: Any) -> Iterator[str]:
    for shape in getattr(calls, "shapes", (calls,)):
        body = getattr(shape, "body", None)
        codec = getattr(body, "arguments", None)
        yield from (getattr(body, "header", ""), getattr(body, "close", ""), getattr(codec, "param", ""))


def _literals(template: Sequence[Part]) -> Iterator[str]:
    for part in template:
        if isinstance(part, Literal):
            yield part.core
        elif isinstance(part, Optional):
            yield from _literals(part.parts)


@cache
def every_marker() -> list[str]:
    return sorted({marker for tool_parser in TOOL_PARSERS for marker in markers_of(tool_parser)})


def answers(tool_parser: str, chance: random.Random) -> tuple[str, list[dict[str, Any]]]:
    """An answer of one or two calls, and these."""
    while True:
        text = chance.choice(TEXTS)
        if chance.random() < 0.1:
            text += chance.choice(markers_of(tool_parser) or [""])
        arguments: dict[str, Any] = {"text": text}
        for key, value in OTHERS.items():
            if chance.random() < 0.35:
                arguments[key] = value
        calls = [{"name": "send_note", "arguments": arguments}]
        if chance.random() < 0.4:
            calls.append(chance.choice(SECOND))
        try:
            written = render_calls(calls, tool_parser, TOOLS)
        except Unwritable:
            continue
        return chance.choice(["", "", "Well.\n"]) * (
            not written.startswith((" to=", " ->", ">>>", "<|"))
        ) + written, calls


def mutants(tool_parser: str, count: int, seed: int, inner: bool = False) -> Iterator[Mutant]:
    """Damaged answers of one family, the same for the same seed; ``inner``: markers inside a call are broken too."""
    chance = random.Random(f"{tool_parser} {seed}")
    every = sorted(markers_of(tool_parser, inner), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, every)) or r"[\[\]{}()]")
    for _ in range(count):
        text, calls = answers(tool_parser, chance)
        done = []
        for _ in range(chance.choice((1, 1, 2))):
            found = list(pattern.finditer(text))
            if not found:
                break
            at = chance.choice(found)
            kind, marker = damaged(at.group(), chance)
            done.append(f"{kind} {at.group()!r}")
            text = text[: at.start()] + marker + text[at.end() :]
        yield Mutant(text, calls, ", ".join(done))


def damaged(marker: str, chance: random.Random) -> tuple[str, str]:
    kind = chance.choice(("deleted", "deleted", "doubled", "character", "unslashed", "swapped"))
    if kind == "deleted":
        return kind, ""
    if kind == "doubled":
        return kind, marker * 2
    if kind == "unslashed" and "/" in marker:
        return kind, marker.replace("/", "", 1)
    if kind == "swapped":
        return kind, chance.choice(every_marker())
    at = chance.randrange(len(marker))
    return "character", marker[:at] + chance.choice(["", "x", " "]) + marker[at + 1 :]


def squashed(text: str) -> str:
    """Letters and digits only, so that escapes and framing make no difference."""
    return _WORD.sub("", re.sub(r"\\u[0-9a-f]{4}|\\[nrt]", "", text))


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield json.dumps(value)


def split(text: str, markers: list[str]) -> list[str]:
    longest_first = sorted(markers, key=len, reverse=True)
    return re.split("|".join(map(re.escape, longest_first)), text) if markers else [text]


def shows(marker: str, text: str) -> bool:
    """Whether a marker stands in a text; a plain word, a fence, or a piece of a longer tag, is none."""
    return (
        not marker.strip("/=:").isalpha()
        and marker != "```"
        and re.search(re.escape(marker) + (r"(?!\w)" * marker[-1].isalnum()), text) is not None
    )


def violations(tool_parser: str, mutant: Mutant) -> list[str]:
    """What of the law this answer breaks."""
    whole = run([mutant.text], tool_parser)
    found = fold(whole)
    broken = []
    if run(list(mutant.text), tool_parser) != whole or run(cut_every(mutant.text, 3), tool_parser) != whole:
        broken.append("it depends on the cut")
    written, said = squashed(mutant.text), [squashed(found.content), squashed(found.reasoning)]
    before = [leaf for call in mutant.calls for leaf in leaves(call["arguments"])]
    marked = any(marker in leaf for leaf in before for marker in markers_of(tool_parser))
    for call in found.tool_calls:
        try:
            arguments = json.loads(call.arguments)
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            broken.append(f"arguments are no object: {call.arguments!r}")
            continue
        own = [one["arguments"] for one in mutant.calls if one["name"] == call.name]
        if not arguments and own and {} not in own:
            broken.append(f"{call.name} without its arguments")
        said.append(squashed(call.arguments))
        for leaf in leaves(arguments):
            if squashed(leaf) not in written:
                broken.append(f"invented: {leaf!r}")
            if not marked and any(shows(marker, leaf) for marker in markers_of(tool_parser)):
                broken.append(f"a marker in an argument: {leaf!r}")
    words = [word for leaf in before for word in split(leaf, markers_of(tool_parser))]  # a marker in a value may be one
    broken += [f"lost: {w!r}" for w in words if squashed(w) in written and not any(squashed(w) in one for one in said)]
    if len(found.tool_calls) == len(mutant.calls) and not marked:
        broken += [f"a marker shows: {m!r}" for m in markers_of(tool_parser) if shows(m, found.content)]
    return broken


def main(given: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=200, help="mutants of each family")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--family", action="append")
    options.add_argument("--inner", action="store_true", help="break the markers of headers and arguments too")
    options.add_argument("--show", type=int, default=0, help="how many violations to show of each family")
    chosen = options.parse_args(given)
    total = 0
    names = chosen.family or TOOL_PARSERS
    for tool_parser in names:
        bad = [
            (m, v)
            for m in mutants(tool_parser, chosen.count, chosen.seed, chosen.inner)
            if (v := violations(tool_parser, m))
        ]
        total += len(bad)
        print(f"{tool_parser:24} {len(bad) * 10_000 // chosen.count:6}", flush=True)
        for mutant, what in bad[: chosen.show]:
            print(f"    {mutant.damage}\n      {mutant.text!r}\n      {'; '.join(what)[:600]}")
    print(f"{'all':24} {total * 10_000 // (chosen.count * len(names)):6} per 10,000 mutants")


if __name__ == "__main__":
    main()
