"""The machine: text in, events out. One for reasoning, content and tool calls together.

A ``Machine`` is the state that a format's reader acts on: the tape it reads from, and the few things it can say
(``write`` text, ``call``, ``arguments``, ``end_call``). Its rules, the same for all families:

- White space next to a marker is framing. It is held until it is known what stands behind it, and comes out only
  between two pieces of the same text, never at an end of it that touches a marker. Everything else is exact.
- An opener is a suspicion (``suspect``) until the header of a call is complete (``call`` commits it); a false alarm is
  released whole, as text of the region it stood in. A committed call ends open reasoning.
- All pieces of one kind that come out of one ``feed`` are joined, so the number of events does not depend on how the
  reader found them.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import TypeAlias

from portico.events import CallArguments, CallEnd, CallStart, Content, Event, Reasoning
from portico.parsing.schema import Schema
from portico.parsing.tape import Markers, Tape, markers
from portico.parsing.whole import Whole

__all__ = ["Machine", "OutputReader", "proper", "random_id"]

OutputReader: TypeAlias = "Callable[[Machine], Generator[None, None, None]]"
BLANK = " \t\r\n"
_NAME = re.compile(r"[\w$@][\w.\-/:$@]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def random_id(index: int, name: str) -> str:
    """An identifier for a call whose format carries none."""
    return "call_" + uuid.uuid4().hex[:24]


def proper(name: str) -> bool:
    """Whether a tool that is not declared may be called so."""
    return _NAME.fullmatch(name) is not None


class Voice:
    """One kind of text (reasoning or content): what it has said and the white space it holds back."""

    __slots__ = ("event", "framed", "held", "said")

    def __init__(self, event: type[Reasoning] | type[Content]) -> None:
        self.event = event
        self.said = False  # some text has come out
        self.held: list[str] = []  # trailing white space, not out yet
        self.framed = False  # a marker touches the held white space (or the start of the text)


def _recovered(tape: Tape, recoveries: list[tuple[str, str]], kind: str) -> None:
    """Something was read that the format does not allow."""
    recoveries.append((kind, tape.text[max(0, tape.at - 60) : tape.at + 20]))


class Machine:
    """One answer being read. ``tools`` maps declared names to their argument schemas."""

    __slots__ = (
        "aside",
        "calling",
        "calls",
        "content",
        "declared",
        "final",
        "first_only",
        "index",
        "last",
        "new_id",
        "open_call",
        "outcomes",
        "parts",
        "promised",
        "prompt_tail",
        "ready",
        "reasoning",
        "recovered",
        "recoveries",
        "speaking",
        "spilled",
        "stopped",
        "structure",
        "tape",
        "thinking",
        "tools",
        "voice",
        "wary",
        "whole",
    )  # fmt: skip

    def __init__(
        self,
        tools: Mapping[str, Schema],
        *,
        thinking: bool,
        new_id: Callable[[int, str], str],
        first_only: bool = False,
    ) -> None:
        self.tape = Tape()
        self.prompt_tail = ""
        self.calling = bool(tools)  # whether tool markup means anything
        self.promised = False  # a call must come: what may be the beginning of one is never text
        self.stopped = False  # the engine stopped by itself: what is open is as complete as it gets
        self.aside = ""  # text found in front of a call, behind its framing's opener
        self.spilled: list[str] = []  # text found inside a call that is no part of it
        self.tools = tools
        self.new_id = new_id
        self.first_only = first_only  # calls after the first are read but not reported
        self.reasoning, self.content = Voice(Reasoning), Voice(Content)
        self.thinking = thinking
        self.voice = self.reasoning if thinking else self.content
        self.reasoning.framed = thinking  # the opener in the prompt
        self.last = ""  # the last character of text written
        self.calls = 0  # committed so far
        self.open_call = False
        self.index = -1
        self.recoveries: list[tuple[str, str]] = []  # the kind of each, and the text that it was made at
        self.recovered = partial(_recovered, self.tape, self.recoveries)  # told the kind of each
        self.whole = Whole(None, self.recovered)  # the open call's arguments
        self.wary = False  # what is read is a recovery: only declared names are believed
        self.final = markers()  # what ends an answer
        self.structure = markers()  # what begins a call or ends one
        self.declared: Markers | None = None  # the names of the tools, once they are looked for
        self.outcomes = {"call": 0, "false_alarm": 0, "undecodable": 0, "truncated": 0}
        self.speaking: type[Reasoning] | type[Content] | type[CallArguments] | None = None
        self.parts: list[str] = []  # pieces of ``speaking``, not yet an event
        self.ready: list[Event] = []

    # -- text -------------------------------------------------------------------------------------------------------

    def write(self, text: str) -> None:
        """Text of the current region."""
        voice = self.voice
        if not voice.held and not voice.framed and text[-1:] not in BLANK:
            self._say(voice.event, text)  # the common case
            voice.said = True
            self.last = text[-1]
            return
        body = text.strip(BLANK)
        if not body:
            if text:
                voice.held.append(text)
            return
        start = text.index(body[0])
        lead, tail = text[:start], text[start + len(body) :]
        if voice.said or not voice.framed:
            body = "".join(voice.held) + lead + body
        self._say(voice.event, body)
        voice.said = True
        voice.held = [tail] if tail else []
        voice.framed = False
        self.last = body[-1]

    def exactly(self, text: str) -> None:
        """Text of the current region in which no white space is framing."""
        self._say(self.voice.event, text)

    def frame(self) -> None:
        """A marker stands here, next to the current region."""
        self.voice.framed = True

    @property
    def at_line_start(self) -> bool:
        """Whether no text stands in front on the same line."""
        voice = self.voice
        return not voice.said or voice.framed or "\n" in "".join(voice.held)

    def think(self, thinking: bool) -> None:
        """A marker stands here and the region changes."""
        self.voice.framed = True
        self.thinking = thinking
        self.voice = self.reasoning if thinking else self.content
        self.voice.framed = True

    # -- suspicions -------------------------------------------------------------------------------------------------

    def suspect(self, already: str = "") -> None:
        """From here on the text may be markup; ``already`` is the opener just consumed."""
        self.tape.keep(already)

    def false_alarm(self) -> None:
        """It was not: what was consumed since ``suspect`` is text."""
        text = self.tape.release()
        self.aside = ""
        if text:
            ended = self.tape.ended and self.tape.at >= len(self.tape.text)
            if not (ended and self.promised and not self.stopped):
                self.write(text)
            self.outcomes["truncated" if ended else "false_alarm"] += 1

    def cut(self) -> None:
        """The text ends here, before it was complete unless ``stopped``: what waits of a call that was promised is no
        text."""
        if self.promised and not self.stopped and not self.open_call:
            self.tape.at = len(self.tape.text)

    # -- calls ------------------------------------------------------------------------------------------------------

    def call(self, name: str, id: str | None = None) -> None:
        """The header of a call is complete: the suspicion was right."""
        self.tape.commit()
        self.think(False)
        if self.aside:
            self.recovered("text in front of a section's first call")
            self.write(self.aside)
            self.aside = ""
            self.frame()
        name, id = _whole(name), id and _whole(id)
        self.index, self.calls = self.calls, self.calls + 1
        self.open_call = True
        self.whole = Whole(self.tools.get(name), self.recovered)
        self.outcomes["call"] += 1
        if self.index == 0 or not self.first_only:
            self._flush()
            self.ready.append(CallStart(self.index, id or self.new_id(self.index, name), name))

    def arguments(self, text: str) -> None:
        """The next piece of the open call's arguments (JSON text); a lone surrogate becomes its escape."""
        text = self.whole.feed(text)
        if text and (self.index == 0 or not self.first_only):
            if not text.isascii():
                text = _SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
            if self.speaking is CallArguments:
                self.parts.append(text)  # the common case
            else:
                self._say(CallArguments, text)

    def end_call(self) -> None:
        """The arguments are complete, or as complete as they get."""
        rest = self.whole.close()
        if rest and (self.index == 0 or not self.first_only):
            self._say(CallArguments, rest)
        if self.whole.rest:
            self.outcomes["undecodable"] += 1
            self.spill("".join(self.whole.rest))
        self.open_call = False
        if self.index == 0 or not self.first_only:
            self._flush()
            self.ready.append(CallEnd(self.index))
        self.frame()
        self._unspill()

    def named(self, name: str) -> str:
        """The tool that a name means: one that is declared, perhaps behind a group (``functions.f``, ``Group/f``)."""
        if name in self.tools or not name:
            return name
        for sign in "/.:":
            last = name.rpartition(sign)[2]
            if last in self.tools:
                self.recovered("a group in front of a name")
                return last
        return name

    @property
    def names(self) -> Markers:
        """The declared names."""
        if self.declared is None:
            self.declared = markers(*self.tools)
        return self.declared

    def spill(self, text: str) -> None:
        """Text inside a call that is no part of it; it comes out as text behind the call."""
        self.spilled.append(text)

    def no_part(self) -> bool:
        """The suspicion inside an open call is no part of it, so it is text. Where the answer was cut it might have
        become one, and is nothing: then True."""
        text = self.tape.release()
        if self.tape.ended and not self.stopped:
            self.tape.at = len(self.tape.text)
            return True
        self.spill(text)
        return False

    def _unspill(self) -> None:
        if self.spilled:
            text, self.spilled = "".join(self.spilled), []
            self.write(text)

    # -- events -----------------------------------------------------------------------------------------------------

    def _say(self, kind: type[Reasoning] | type[Content] | type[CallArguments], text: str) -> None:
        if self.speaking is not kind:
            self._flush()
            self.speaking = kind
        self.parts.append(text)

    def _flush(self) -> None:
        if self.parts:
            text = self.parts[0] if len(self.parts) == 1 else "".join(self.parts)
            kind = self.speaking
            if kind is CallArguments:
                self.ready.append(CallArguments(self.index, text))
            elif kind is Content:
                self.ready.append(Content(text))
            else:
                self.ready.append(Reasoning(text))
            self.parts = []

    def events(self) -> list[Event]:
        """Everything said since the last time."""
        if self.parts:
            self._flush()
        ready, self.ready = self.ready, []
        return ready

    def held(self) -> tuple[str, str] | None:
        """The text that has come and given no event yet, with the reason; None where no text waits."""
        tape = self.tape
        unread, blank = tape.text[tape.at :], "".join(self.voice.held)
        if tape.kept is not None:
            return blank + "".join(tape.kept) + unread, "may be the header of a call: it is not complete"
        if unread:
            awaited = tape.awaited.spellings if tape.awaited is not None else ()
            possible = sorted(one for one in awaited if one.startswith(unread))
            if possible:
                return blank + unread, f"may be the beginning of {' or '.join(possible[:3])}"
            return blank + unread, "what it means depends on what follows"
        if blank:
            return blank, "white space is dropped if a marker follows"
        return None

    def finish(self) -> None:
        """The text has ended and the reader is through."""
        if self.tape.kept is not None:
            self.false_alarm()
        if self.open_call:
            self.outcomes["truncated"] += 1
            if self.stopped:
                self.end_call()  # the model is done, so this is all there is
            self.open_call = False
            self._unspill()
        for voice in (self.reasoning, self.content):
            if voice.held and not voice.framed and (voice.said or self.stopped or not self.promised):
                self._say(voice.event, "".join(voice.held))
            voice.held = []


def _whole(text: str) -> str:
    """Text that can be encoded: without lone surrogates."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
