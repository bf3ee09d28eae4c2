"""Families whose answer is a sequence of messages, each with a header that says what its body is.

    <|start|>assistant<|channel|>analysis<|message|>…<|end|>
    <|start|>assistant to=functions.f<|channel|>…<|message|>{…}<|call|>

The prompt ends inside the first header. The header scanner is tolerant: parts in any order, markers missing, and text
that is no header at all is content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

from portico import grammar as g
from portico.parsing.arguments import Json, arguments_follow, arguments_object
from portico.parsing.calls import Calls
from portico.parsing.ending import Ends
from portico.parsing.machine import Machine, proper
from portico.parsing.strays import without
from portico.parsing.tape import Markers, comes, markers, space, until
from portico.parsing.thought import Thought

__all__ = ["Answers", "Messages", "Route"]

_SPACE = re.compile(r"[\s\"{]")
_SIGN = re.compile(r"[\"{]")  # what stands in no header
_LONGEST = 512  # characters of a header


class Route(NamedTuple):
    """What a header says: the body's kind and, where it goes to a tool, the tool's name."""

    kind: Literal["reasoning", "content", "call", "calls"]
    name: str = ""


_LOOSE = Route("content")  # text outside any message; no marker touches it


class Answers(Protocol):
    """A description of whole answers, thoughts and calls together, with a reader of its own."""

    @property
    def markers(self) -> tuple[str, ...]: ...

    @property
    def calls(self) -> Calls | None: ...

    @property
    def written(self) -> Calls | None:
        """How calls are written, where that takes more than ``calls`` reads."""
        ...

    @property
    def opener(self) -> str: ...

    def read(self, m: Machine) -> Generator[None, None, None]: ...

    def frame(self, prompt_tail: str) -> g.Frame: ...

    def thinking(self, prompt_tail: str) -> Thought | None: ...


@dataclass(frozen=True)
class Messages:
    """``start`` begins a header, one of ``head_end`` ends it and begins the body, one of ``body_end`` ends that.

    ``begins``: what the rest of the first header may begin with, none if any word may. ``route`` judges a header by its
    text and the marker that ended it. ``calls`` writes calls and, for bodies of kind ``calls``, reads them.
    """

    start: tuple[str, ...]
    head_end: tuple[str, ...]
    body_end: tuple[str, ...]
    route: Callable[[str, str], Route]
    calls: Calls
    written: Calls | None = None  # how calls are written, where that takes more than ``calls`` reads
    begins: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()  # tokens outside messages, dropped
    thought: tuple[str, str, str] | None = None  # a thought as it is written: header, end of the body, what follows
    answer: str = ""  # the header of an answer
    opener: str = ""  # with what the header of a call begins, and no other header

    @cached_property
    def markers(self) -> tuple[str, ...]:
        inner = tuple(e for e in self.calls.ends.marks.spellings if len(e) > 1) if self.calls.openers else ()
        every = (*self.start, *self.head_end, *self.body_end, *self.begins, *self.ends, *self.calls.openers, *inner)
        return tuple(dict.fromkeys(word for word in every if word.strip()))

    def frame(self, prompt_tail: str) -> g.Frame:
        """What stands in front of an answer behind this prompt."""
        header = g.Exactly(self.answer) if self.answer else None
        if self.thought is None:
            return g.Frame(header=header)
        head, end, next_ = self.thought
        route = self._from_prompt(prompt_tail)
        if route is not None:
            rest = g.Chain((g.Until((end,)), g.Exactly(next_)))
            return g.Frame(rest, may_skip=False, header=header) if route.kind == "reasoning" else g.Frame()
        return g.Frame(g.Chain((g.Exactly(head), g.Until((end,)), g.Exactly(next_))), may_skip=True, header=header)

    def thinking(self, prompt_tail: str) -> Thought | None:
        """How a thought begins and ends behind this prompt; None where the family has none."""
        if self.thought is None:
            return None
        head, end, next_ = self.thought
        route = self._from_prompt(prompt_tail)
        is_open = route is not None and route.kind == "reasoning"
        return Thought((head.strip(), next_ + head), self.body_end, end + next_, is_open)

    @cached_property
    def _heads(self) -> Markers:
        return markers(*self.head_end, *self.body_end, *self.start, *self._inner)

    @cached_property
    def _inner(self) -> tuple[str, ...]:
        """With what calls begin inside a message, where that says by itself that calls do."""
        heads = (*self.start, *self.begins, *self.head_end)
        return tuple(o for o in (*self.calls.openers, *self.calls.inner) if len(o) > 1 and not o.startswith(heads))

    @cached_property
    def _stops(self) -> Markers:
        inner = (word for word in (*self.begins, *self.head_end) if word.startswith("<"))
        return markers(*self.body_end, *self.start, *inner)

    @cached_property
    def _parts(self) -> Markers:
        """Markers of a header that no body begins with."""
        return markers(*(word for word in self.begins if word.startswith("<")))

    @cached_property
    def _ends(self) -> Ends:
        return Ends(self._stops)

    def read(self, m: Machine) -> Generator[None, None, None]:
        tape = m.tape
        m.final = markers(*self.body_end, *self.ends, *self.start)
        found = self._from_prompt(m.prompt_tail)
        if found is None:
            found = yield from self._header(m, first=True)
        while True:
            stop = yield from self._body(m, found)
            if not stop:
                return
            if stop in self.body_end:
                while (yield from comes(tape, markers(*self.ends, *self.body_end))):
                    pass
                if not (yield from comes(tape, markers(*self.start, *self.begins), take=False)):
                    found = _LOOSE
                    continue
            else:
                tape.at = tape.mark
            found = yield from self._header(m, first=False)

    def _from_prompt(self, tail: str) -> Route | None:
        """Where the prompt ends inside a body, what that body is."""
        at = max(tail.rfind(start) for start in self.start)
        rest = tail[at:] if at >= 0 else tail
        for marker in self.head_end:
            head, found, body = rest.rpartition(marker)
            if found and not any(end in body for end in self.body_end):
                return self.route(head, marker)
        return None

    def _header(self, m: Machine, first: bool) -> Generator[None, None, Route]:
        tape = m.tape
        m.suspect()
        started = yield from comes(tape, markers(*self.start))
        while started and (yield from comes(tape, markers(*self.start))):
            m.recovered("a marker twice")
        if not started and self.begins and not (yield from comes(tape, markers(*self.begins), take=False)):
            m.false_alarm()
            return _LOOSE
        pieces: list[str] = []
        while True:
            hit = self._heads.search(tape.text, tape.at, tape.ended)
            end = hit[0] if hit else len(tape.text)
            strange = (_SIGN if started or self.begins else _SPACE).search(tape.text, tape.at, end)
            if strange:
                end = strange.start()
            room = _LONGEST - sum(map(len, pieces))
            fits = end == (hit[0] if hit else len(tape.text)) and end - tape.at <= room
            end = min(end, tape.at + room)
            if end > tape.at:
                pieces.append(tape.take(end))
            head = self._once("".join(pieces))
            if fits and hit and hit[2] in self.head_end:
                tape.take(hit[1])
                route = self._routed(m, head, hit[2])
                if route.kind == "call" and (yield from comes(tape, self._parts, take=False)):
                    m.recovered("a marker twice")
                    continue
                loose = not self.begins and not started
                if route.kind == "call" and route.name not in ("", *m.tools) and (loose or not proper(route.name)):
                    break
                while hit[2].strip() and (yield from comes(tape, markers(hit[2]))):
                    m.recovered("a marker twice")
                tape.commit()
                return route
            if not fits or (hit and hit[2]) or tape.ended:
                break
            yield
        unended = yield from self._unended(m, head)
        if unended is not None:
            tape.commit()
            m.recovered("a header without its end")
            return unended
        again = started and fits and hit is not None and hit[2] in self.start
        over = not first and (tape.ended or (fits and hit is not None))
        nothing = self._says_nothing(m, head)
        if again or (over and (nothing or (m.calls and m.stopped))):
            tape.commit()
            m.frame()
            if not nothing:
                m.write(without(head, self._parts.spellings))
        m.false_alarm()
        return _LOOSE

    def _routed(self, m: Machine, head: str, marker: str) -> Route:
        """What a header says; a message to a declared tool is a call, whatever it is called else."""
        route = self.route(head, marker)
        if route.kind != "call" and route.name in m.tools:
            m.recovered("a name without its group")
            return Route("call", route.name)
        return route

    def _once(self, head: str) -> str:
        """A header's text; what was written twice in it counts once."""
        for word in self.begins:
            head = head.replace(word * 2, word)
        return head

    def _unended(self, m: Machine, head: str) -> Generator[None, None, Route | None]:
        """What a header says behind which the body begins without a marker between; None if none does."""
        route = self._routed(m, head, "")
        if route.kind == "call" and m.named(route.name) in m.tools:
            return route if (yield from comes(m.tape, markers("{"), take=False)) else None
        words = head.split()
        alone = len(words) == 1 or (len(words) == 2 and words[0][0] == "<")  # it, and what is left of a marker
        named = alone and any(name in words[-1] for name in m.tools)
        if (route.kind == "calls" or not words or named) and (
            yield from comes(m.tape, markers(*self._inner), take=False)
        ):
            return Route("calls")
        return None

    def _says_nothing(self, m: Machine, head: str) -> bool:
        """Whether a header that has no body is markup alone."""
        route = self.route(head, "")
        return (
            head.strip() in ("", *self.begins)
            or route.kind == "calls"
            or (route.kind == "call" and route.name in ("", *m.tools))
        )

    def _call(self, m: Machine, name: str) -> Generator[None, None, None]:
        """The call that a body is; text where it is no object."""
        name = m.named(name)
        if (yield from space(m.tape)) == "{":
            m.call(name)
            yield from arguments_follow(m, Json(), name, self._ends)
            return
        text = yield from arguments_object(m, self._ends, m.tools.get(name))
        if text is None:
            m.recovered("text in place of arguments")
            m.false_alarm()
            return
        m.call(name)
        m.arguments(text)
        m.end_call()

    def _may_lack_opener(self, m: Machine, route: Route) -> Generator[None, None, bool]:
        """Whether a call may come without its opener: behind a header that says so, or none."""
        if route.kind == "calls":
            return not (yield from comes(m.tape, markers(*self.calls.openers), take=False))
        nowhere = route is _LOOSE or (route.kind == "content" and not self.answer.strip())
        return bool(self.calls.objects) and nowhere and not m.thinking and not m.content.said

    def _body(self, m: Machine, route: Route) -> Generator[None, None, str]:
        """Read a body; the marker that ended it, or "" at the end of the text."""
        tape = m.tape
        if route is not _LOOSE or m.thinking:
            m.think(route.kind == "reasoning")
        if route.kind == "call" and m.calling:
            name = route.name
            m.suspect()
            if self.calls.openers and not name:  # the name stands in the body
                yield from self.calls.body.read(m, self.calls)
                if tape.kept is not None:
                    m.false_alarm()
            else:
                yield from self._call(m, name)
        wanted = self._stops
        if m.calling and (yield from self._may_lack_opener(m, route)):
            yield from self.calls.read_unmarked(m, first=True)
        within = (*self.calls.openers, *self._inner) if route.kind == "calls" and m.calling else ()
        if route is _LOOSE and m.calling:
            within = self._inner
        if within or (route is _LOOSE and m.calls and self.calls.openers):
            wanted = markers(
                *wanted.spellings, *within, *(self.calls.closers if m.calls or route is not _LOOSE else ())
            )
        while True:
            stop = yield from until(tape, wanted, m.write)
            if stop in within:
                tape.at = tape.mark
                yield from self.calls.read(m)
                if m.calls and (yield from comes(tape, markers(self.opener.strip()))):
                    m.recovered("a marker twice")
                    m.frame()
                continue
            if stop:
                m.frame()
            if stop in self._stops.spellings or not stop:
                return stop
