"""``hf``: the format that a checkpoint declares itself, in its tokenizer's ``response_template`` (version 1).

The template names the regions of an answer (``thinking``, ``content``, ``tool_calls``), each with an opener and a
closer (literals, lists of them, or regular expressions) and the way its content is coded (``regions``). One region may
have no opener: it takes what stands outside the others. What the prompt says behind the last ``start_anchor`` is read
first, so that a region it opened is open.

Text streams; a coded region is read when it is closed. Calls that cannot be read stay text, whole. The grammar and the
writer come from the same template where it is literal enough to be a description like any page's (``described``).
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from portico import grammar as g
from portico.parsing.calls import Calls
from portico.parsing.described import description
from portico.parsing.family import Family, Reasoning
from portico.parsing.json_text import quoted
from portico.parsing.machine import Machine
from portico.parsing.regions import Match, Region, Regions, regions
from portico.parsing.schema import Schema
from portico.parsing.thought import Thought
from portico.parsing.values import as_json

__all__ = ["Declared", "from_response_template"]

_THOUGHTS = frozenset(("thinking", "reasoning_content", "reasoning"))
_CALLS = "tool_calls"
_BEHIND = 256  # characters that an anchor may look back at


def from_response_template(template: Mapping[str, Any]) -> Family:
    """A family named ``hf``. Raises ``ValueError`` for a template that is none, naming what is wrong with it."""
    declared = Declared(regions(template), *description(template))
    return Family(
        "hf",
        models="a checkpoint that carries a response_template",
        tools={"hf": declared},
        reasoning={"hf": declared},
    )


@dataclass(frozen=True, eq=False)
class Declared:
    """A template; ``calls`` and ``thoughts`` describe as much of it as a page could."""

    regions: Regions
    calls: Calls | None = None
    thoughts: Reasoning | None = None
    opener: str = field(default="")

    @property
    def written(self) -> Calls | None:
        """How calls are written."""
        return self.calls

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """The literals that the regions begin and end with."""
        return tuple(word for region in self.regions.fields.values() for word in region.literals if len(word) > 1)

    def frame(self, prompt_tail: str) -> g.Frame:
        """What stands in front of an answer behind this prompt."""
        return self.thoughts.frame(prompt_tail) if self.thoughts is not None else g.Frame()

    def thinking(self, prompt_tail: str) -> Thought | None:
        """How a thought begins and ends behind this prompt."""
        return self.thoughts.thinking(prompt_tail) if self.thoughts is not None else None

    def read(self, m: Machine) -> Generator[None, None, None]:
        reader = _Reader(m, self.regions)
        reader.silent = True
        reader.more(self.regions.behind_anchor(m.prompt_tail), ended=False)
        reader.begin()
        tape = m.tape
        while True:
            reader.more(tape.take(len(tape.text)), ended=tape.ended)
            if tape.ended:
                return
            yield


class _Reader:
    """The regions of one answer, as they come."""

    def __init__(self, m: Machine, template: Regions) -> None:
        self.m = m
        self.template = template
        self.here: Region | None = template.implicit
        self.body: list[str] = []
        self.opened = ""  # the opener, as it stands in the text
        self.captures: dict[str, str] = {}
        self.text = ""
        self.at = 0
        self.silent = False  # the prompt is being read
        self.joined: set[str] = set()  # regions that have said something

    def begin(self) -> None:
        """The answer begins, in the region that the prompt left open."""
        self.silent = False
        self._enter()

    def more(self, text: str, ended: bool) -> None:
        self.text = self.text[max(0, self.at - _BEHIND) :] + text
        self.at = min(self.at, _BEHIND)
        while True:
            found, hold = self.template.scan(self.here, self.text, self.at, ended)
            if found is None:
                break
            self._say(self.text[self.at : found.start])
            empty = found.start == found.end and not self.body
            self.at = found.end
            self._leave(found, self.text[found.start : found.end])
            if not found.opens and empty:
                break
        if ended and self._cut:
            hold = self.template.scan(self.here, self.text, self.at, ended=False)[1]
        end = len(self.text) if ended and not self._cut else hold
        if end > self.at:
            self._say(self.text[self.at : end])
            self.at = end
        if ended:
            self._leave(None, "")

    @property
    def _cut(self) -> bool:
        """Whether the answer, if it ends, is cut where calls were promised: then what waits is no text."""
        return self.m.promised and not self.m.stopped

    def _say(self, text: str) -> None:
        if not text:
            return
        self.body.append(text)
        here = self.here
        if not self.silent and here is not None and here.is_text and (here.name in _THOUGHTS or here.name == "content"):
            if here.strips:
                self.m.write(text)
            else:
                self.m.exactly(text)

    def _enter(self) -> None:
        here = self.here
        self.m.think(here is not None and here.name in _THOUGHTS)
        if here is not None and here.join and here.name in self.joined:
            self.m.exactly(here.join)

    def _leave(self, found: Match | None, marker: str) -> None:
        """The region ends, at the opener of another, at its closer, or with the answer."""
        here, body = self.here, "".join(self.body)
        captures = {**self.captures, **(found.captures if found is not None and not found.opens else {})}
        if not self.silent:
            if here is not None and body:
                self.joined.add(here.name)
            self.m.frame()
            if here is not None and here.name == _CALLS and (body or self.opened):
                self._calls(here, body, captures, "" if found is None or found.opens else marker, ended=found is None)
        opens = found is not None and found.opens
        self.here = found.region if opens and found is not None else self.template.implicit
        self.captures = found.captures if opens and found is not None else {}
        self.opened = marker if opens else ""
        self.body = []
        if not self.silent:
            self._enter()

    def _calls(self, region: Region, body: str, captures: Mapping[str, str], closer: str, ended: bool) -> None:
        m = self.m
        wanted = _calls_in(region, body, captures) if m.calling else None
        if wanted is None and ended and self._cut:
            m.outcomes["truncated"] += 1
        elif wanted is None:
            if m.calling:
                m.outcomes["false_alarm"] += 1
            m.think(False)
            m.voice.framed = False
            m.write(self.opened + body + closer)
        for name, arguments, id in wanted or ():
            m.call(name, id)
            m.arguments(_arguments(arguments, m.tools.get(name)))
            m.end_call()


def _calls_in(region: Region, body: str, captures: Mapping[str, str]) -> list[tuple[str, Any, str | None]] | None:
    """Name, arguments and id of every call in a region; None where it holds something else."""
    try:
        value = region.value(body, captures)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    found = []
    for call in value if isinstance(value, list) else [value]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(name := function.get("name"), str):
            return None
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except ValueError:
                return None
        if not isinstance(arguments, dict | None):
            return None
        ident = call.get("id")
        found.append((name, arguments or {}, ident if isinstance(ident, str) else None))
    return found


def _arguments(arguments: Mapping[str, Any], schema: Schema | None) -> str:
    members = []
    for key, value in arguments.items():
        member = schema.member(key) if schema is not None else None
        typed = isinstance(value, str) and member is not None and member.types
        text = as_json(value, member) if typed else json.dumps(value, ensure_ascii=False)
        members.append(f"{quoted(key)}: {text}")
    return f"{{{', '.join(members)}}}"
