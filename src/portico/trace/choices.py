"""One choice's tokens, text and events, with what was held back between them, and why.

What comes from what, at the grain of engine steps:

- Text comes from the step's tokens, and from those of earlier steps whose bytes had to wait for it.
- An event comes from all text that arrived since the last event and is no longer held: its own and the markup around
  it. Text of which a part is still held also belongs to what comes next.
- While a call is read, a value that is no open string is collected, with its key, before it is told, and it is told
  when the piece after it is read: then the text from the step of the event before on belongs to the next event too.

What waits is an artifact of its own, ``held``: it lasts as long as the wait, and what ends the wait is made from it.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec

from portico.events import CallArguments, CallEnd, CallStart, EngineOutput, Event
from portico.generation import Choice, Delta, Held
from portico.trace.artifacts import Lane
from portico.trace.record import Record

__all__ = ["ChoiceTrace"]

HELD_IN: dict[str, Lane] = {"decoding": "text", "parsing": "events", "stop strings": "events"}


class _Text(NamedTuple):
    """A text artifact and where its text ends, in characters of the choice's whole text."""

    id: int
    end: int
    text: str


class ChoiceTrace:
    """Watches one choice (see ``portico.generation.Watch``) and writes into its request's trace."""

    def __init__(self, trace: Record, choice: Choice, number: int) -> None:
        self._trace = trace
        self._choice = choice
        self._number = number
        self._step = -1
        self._steps: list[int] = []  # that have given no text yet
        self._texts: list[_Text] = []  # that have not wholly become events yet
        self._characters = 0
        self._told = 0  # how many of them had arrived before the step that told events last
        self._waiting: dict[str, int] = {}  # part -> the artifact of what it holds
        self._released: list[int] = []
        self._in_string = False  # whether the arguments told so far end inside a string

    def took(self, output: EngineOutput) -> None:
        """Record the step."""
        head = self._trace.head
        if head.first_token is None:
            head.first_token = self._trace.now
        if output.cached_tokens is not None:
            head.cached_tokens = (head.cached_tokens or 0) + output.cached_tokens
        data: dict[str, Any] = {"ids": list(output.token_ids)}
        for name in ("logprobs", "prompt_logprobs", "finish_reason", "stop_token", "cached_tokens", "error"):
            value = getattr(output, name)
            if value is not None:
                data[name] = msgspec.to_builtins(value)
        count = len(output.token_ids)
        label = f"{count} token{'s' * (count != 1)}" + (f", {output.finish_reason}" if output.finish_reason else "")
        self._step = self._add("tokens", "step", label, data, "engines", self._trace.submitted_as)
        self._steps.append(self._step)

    def decoded(self, text: str, seconds: float) -> None:
        """Record the text of the step."""
        if not text:
            return
        of = [*(self._steps or [self._step]), *self._end_wait("decoding")]
        made = self._add("text", "text", _short(text), {"text": text}, "decoding", of, seconds)
        self._characters += len(text)
        self._texts.append(_Text(made, self._characters, text))
        self._steps = []

    def parsed(self, seconds: float) -> None:
        """The events are recorded when it is known what they come to."""

    def gave(self, delta: Delta | None) -> None:
        """Record the step's events, and what waits after it."""
        held = {one.part: one for one in self._choice.held}
        if "decoding" in held and not self._steps:
            self._steps = [self._step]  # it gave text, and the beginning of more
        made = [self._step]
        if delta is not None and (delta.events or delta.finish is not None):
            for part in ("parsing", "stop strings"):
                if part not in held:
                    self._released += self._end_wait(part)
            made = self._events(
                delta, sum(len(held[part].text) for part in ("parsing", "stop strings") if part in held)
            )
        elif self._choice.in_call and self._texts and "parsing" not in held:
            text = "".join(one.text for one in self._texts)
            held["parsing"] = Held("parsing", text, "markup of a call, or a value that is told when it is complete")
        self._trace.made = made
        for part in HELD_IN:
            self._wait(part, held.get(part))
        self._trace.counted()

    def lost(self, why: str) -> None:
        """Record where the engine was lost; what follows is its successor's work."""
        asked = self._trace.submitted_as
        data = {"error": why, "tokens": self._choice.completion_tokens}
        here = self._add("tokens", "lost", "the engine was lost here", data, "engines", asked)
        self._trace.submitted_as = [*asked, here]
        self._trace.counted()

    def _events(self, delta: Delta, held: int) -> list[int]:
        of = [one.id for one in self._texts] + self._released
        self._released = []
        made = [self._event(event, of or [self._step]) for event in delta.events]
        if delta.finish is not None:
            of = [*of, self._step, *self._end_wait("decoding"), *self._end_wait("parsing")]
            data = {"type": "Finish", **msgspec.to_builtins(delta.finish)}
            if delta.stop_reason is not None:
                data["stop_reason"] = delta.stop_reason
            finish = self._add("events", "event", f"Finish: {delta.finish.reason}", data, "generation", of)
            self._trace.finishes.append(finish)
            self._trace.head.finish = delta.finish.reason
            made.append(finish)
        partly = self._characters - held
        last = self._texts[-1].text if self._texts else ""
        if self._choice.in_call and not (self._in_string and self._told_whole(delta, last)):
            partly = min(partly, self._told)
        self._told = self._characters - len(last)
        self._texts = [one for one in self._texts if one.end > partly]
        return made

    @staticmethod
    def _told_whole(delta: Delta, text: str) -> bool:
        """Whether all of ``text`` is the end of what was told: it is inside a string, and nothing else is in it."""
        told = delta.events[-1] if delta.events else None
        return isinstance(told, CallArguments) and told.json_fragment.endswith(
            json.dumps(text, ensure_ascii=False)[1:-1]
        )

    def _event(self, event: Event, of: list[int]) -> int:
        if isinstance(event, CallStart):
            self._in_string = False
        elif isinstance(event, CallArguments):
            self._in_string = _ends_in_string(event.json_fragment, self._in_string)
        elif isinstance(event, CallEnd):
            self._in_string = False
        kind = type(event).__name__
        data = {"type": kind, **msgspec.to_builtins(event)}
        said = data.get("text") or data.get("json_fragment") or data.get("name") or ""
        return self._add("events", "event", f"{kind} {_short(said)}".rstrip(), data, "parsing", of)

    # -- what waits ---------------------------------------------------------------------------------------------------

    def _wait(self, part: str, held: Held | None) -> None:
        """``part`` holds this now, or nothing."""
        waiting = self._waiting.get(part)
        if held is None:
            if waiting is not None:
                self._released += self._end_wait(part)
            return
        if self._trace.head.redacted and " of " in held.reason:  # a marker may hold a name that the client chose
            held = Held(part, held.text, held.reason.partition(" of ")[0])
        data = {"layer": part, "text": held.text, "reason": held.reason}
        if waiting is not None:
            artifact = self._trace.artifacts[waiting]
            if artifact.data.get("text", held.text) in held.text:  # it holds more than before
                artifact.data.update(data if "text" in artifact.data else {"reason": held.reason})
                artifact.of = sorted({*artifact.of, *self._sources(part)})
                artifact.label = f"{_short(held.text)}: {held.reason}" if "text" in artifact.data else held.reason
                self._trace.changed(artifact)
                return
            self._released += self._end_wait(part)
        label = held.reason if self._trace.head.redacted else f"{_short(held.text)}: {held.reason}"
        source = "decoding" if part != "parsing" else "parsing"
        made = self._add(HELD_IN[part], "held", label, data, source, self._sources(part), None)
        if made >= 0:
            self._waiting[part] = made

    def _sources(self, part: str) -> list[int]:
        return list(self._steps) if part == "decoding" else [one.id for one in self._texts]

    def _end_wait(self, part: str) -> list[int]:
        """What ``part`` held is over; returns its artifact, for what comes of it."""
        waiting = self._waiting.pop(part, None)
        if waiting is None:
            return []
        artifact = self._trace.artifacts[waiting]
        artifact.took = self._trace.now - artifact.at
        self._trace.changed(artifact)
        return [waiting]

    def _add(
        self,
        lane: Lane,
        kind: str,
        label: str,
        data: dict[str, Any],
        source: str,
        of: list[int],
        took: float | None = 0.0,
    ) -> int:
        at = self._trace.now - (took or 0.0)
        if self._trace.head.redacted and kind != "step":
            label = data.get("type", kind) if kind != "held" else label
        return self._trace.add(lane, kind, label, data, source, of=of, at=at, took=took, choice=self._number)


def _ends_in_string(fragment: str, inside: bool) -> bool:
    """Whether JSON text is inside a string after ``fragment``, which began inside one or not."""
    escaped = False
    for char in fragment:
        if escaped:
            escaped = False
        elif char == "\\" and inside:
            escaped = True
        elif char == '"':
            inside = not inside
    return inside


def _short(text: str) -> str:
    shown = text if len(text) <= 40 else text[:39] + "…"
    return shown.replace("\n", "⏎")
