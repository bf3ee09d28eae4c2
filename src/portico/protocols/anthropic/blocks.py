"""Content blocks: parsing's events in the only order that Anthropic's protocol knows.

``Blocks`` is an automaton with at most one open block. What an event means depends only on which block is open; every
path through it is ``start delta* stop`` per block, with indexes 0, 1, 2, …, whatever events come. Stream and body are
two writers behind the same automaton, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from portico.events import CallArguments, CallEnd, CallStart, Content, Event, Reasoning
from portico.protocols.anthropic.ids import call_id_for_client
from portico.protocols.anthropic.signatures import Signer
from portico.protocols.anthropic.tool_input import ToolInput

__all__ = ["Blocks", "Display", "Writer"]


class Display:
    """What becomes of thinking: ``SHOWN``, ``OMITTED`` (only its signature, which then carries it) or ``HIDDEN``."""

    SHOWN, OMITTED, HIDDEN = "shown", "omitted", "hidden"


class Writer(Protocol):
    """Where blocks go."""

    def start(self, block: dict[str, Any]) -> None:
        """A block begins; ``block`` is how it looks when empty."""
        ...

    def delta(self, kind: str, key: str, text: str) -> None:
        """``text`` is added to the open block: ``{"type": kind, key: text}``."""
        ...

    def stop(self, tool_input: str | None) -> None:
        """The block is complete; ``tool_input`` is the JSON text of a tool call's input."""
        ...


class Blocks:
    """Events in, blocks out."""

    def __init__(self, writer: Writer, signer: Signer, display: str = Display.SHOWN) -> None:
        self.open: str | None = None  # the type of the open block
        self.calls = 0
        self._writer = writer
        self._signer = signer
        self._display = display
        self._thought: list[str] = []
        self._input = ToolInput()

    def feed(self, events: Sequence[Event]) -> None:
        """Take the events of one delta."""
        for event in events:
            kind = type(event)
            if kind is Content:
                self._content(event.text)  # type: ignore[union-attr]
            elif kind is Reasoning:
                self._reasoning(event.text)  # type: ignore[union-attr]
            elif kind is CallArguments:
                if self.open == "tool_use":
                    self._write("input_json_delta", "partial_json", self._input.feed(event.json_fragment))  # type: ignore[union-attr]
            elif kind is CallStart:
                self._call(event)  # type: ignore[arg-type]
            elif kind is CallEnd and self.open == "tool_use":
                self._end_call(complete=True)

    def close(self) -> None:
        """The answer has ended: end the block that is open. A call that is still open was cut off."""
        if self.open == "thinking":
            signature = self._signer.sign("".join(self._thought), carry=self._display == Display.OMITTED)
            self._writer.delta("signature_delta", "signature", signature)
            self._thought = []
        elif self.open == "tool_use":
            self._end_call(complete=False)
        if self.open is not None:
            self._writer.stop(None)
            self.open = None

    def _content(self, text: str) -> None:
        if not text:
            return
        if self.open != "text":
            self._start("text", {"type": "text", "text": ""})
        self._writer.delta("text_delta", "text", text)

    def _reasoning(self, text: str) -> None:
        if not text or self._display == Display.HIDDEN:
            return
        if self.open != "thinking":
            self._start("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        self._thought.append(text)
        if self._display == Display.SHOWN:
            self._writer.delta("thinking_delta", "thinking", text)

    def _call(self, call: CallStart) -> None:
        id = call_id_for_client(call.id)
        self._start("tool_use", {"type": "tool_use", "id": id, "name": call.name, "input": {}})
        self._input = ToolInput()
        self.calls += 1

    def _end_call(self, complete: bool) -> None:
        self._write("input_json_delta", "partial_json", self._input.close(complete))
        self._writer.stop(self._input.whole)
        self.open = None

    def _start(self, kind: str, block: dict[str, Any]) -> None:
        self.close()
        self.open = kind
        self._writer.start(block)

    def _write(self, kind: str, key: str, text: str) -> None:
        if text:
            self._writer.delta(kind, key, text)
