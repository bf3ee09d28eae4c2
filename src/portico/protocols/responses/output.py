"""Output items: parsing's events in the only order that the protocol knows.

``Output`` is an automaton with at most one open item. What an event means depends only on which item is open; every
path through it is ``added … done`` per item, with indexes 0, 1, 2, …, whatever events come:

    message        item.added  content_part.added  output_text.delta*  output_text.done  content_part.done  item.done
    reasoning      item.added  content_part.added  reasoning_text.delta* .done  content_part.done  item.done, and beside
                   them, where a summary was asked for, the same text as the one part of a summary
    function_call  item.added  function_call_arguments.delta*  .done  item.done
    custom call    item.added  custom_tool_call_input.delta*  .done  item.done
    other calls    item.added  item.done, once all of it is here

Stream and body are the same automaton with and without somebody who reads its events, so they cannot disagree.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from portico.events import CallArguments, CallEnd, CallStart, Content, Event, Reasoning
from portico.protocols.openai.custom import InputText
from portico.protocols.responses.events import Events, Pieces
from portico.protocols.responses.ids import item_id
from portico.protocols.responses.sealing import Sealer
from portico.protocols.responses.tools import CLIENT_RUN, Called, Offered

__all__ = ["Output", "ServerCall"]

Item = dict[str, Any]

_EMPTY = {"status": "in_progress", "arguments": "", "output": None, "error": None}  # in an item that has just begun


@dataclass
class ServerCall:
    """A call of a tool that this server runs, once the model has said it all."""

    called: Called
    call_id: str
    arguments: list[str] = field(default_factory=list)


class Output:
    """Events in, items out. ``sealer`` seals thoughts for the client to keep, where it wants that; ``summarized``: they
    are also sent as a summary."""

    def __init__(
        self, events: Events, offered: Offered, *, sealer: Sealer | None = None, summarized: bool = False
    ) -> None:
        self.items: list[Item] = []  # that are done
        self.server_calls: list[ServerCall] = []
        self._events = events
        self._offered = offered
        self._sealer = sealer
        self._summarized = summarized
        self._open: _Open | None = None

    @property
    def so_far(self) -> list[Item]:
        """The items that are done, and the open one as it is."""
        opened = self._open
        if opened is None or isinstance(opened, _ServerCall):  # a call that is not all there has no item
            return self.items
        return [*self.items, opened.item("incomplete")]

    def feed(self, events: Sequence[Event], logprobs: Sequence[dict[str, Any]] = ()) -> None:
        """Take the events of one delta; ``logprobs`` are of its text."""
        for event in events:
            kind = type(event)
            if kind is Content:
                if event.text:  # type: ignore[union-attr]
                    message = self._open if type(self._open) is _Message else self._begin(_Message, self._events)
                    message.feed(event.text, logprobs)  # type: ignore[union-attr]
                    logprobs = ()
            elif kind is Reasoning:
                if event.text:  # type: ignore[union-attr]
                    thought = self._open
                    if type(thought) is not _Thought:
                        thought = self._begin(_Thought, self._events, self._sealer, self._summarized)
                    thought.feed(event.text)  # type: ignore[union-attr]
            elif kind is CallArguments:
                if isinstance(self._open, _Call):
                    self._open.feed(event.json_fragment)  # type: ignore[union-attr]
            elif kind is CallStart:
                self._call(event)  # type: ignore[arg-type]
            elif kind is CallEnd and isinstance(self._open, _Call):
                self.close()

    def adds(self, text: str) -> bytes:
        """Add ``text`` to the message that is open, if one is: all events that are to be told, else none."""
        message = self._open
        if type(message) is not _Message or not text:
            return b""
        message.texts.append(text)
        return self._events.piece_now(message.pieces, text)

    def close(self, status: str = "completed") -> None:
        """End the item that is open."""
        opened, self._open = self._open, None
        if opened is None:
            return
        opened.close(status)
        if isinstance(opened, _ServerCall):
            if status == "completed":
                self.server_calls.append(opened.call)
        else:
            self._done(opened.item(status))

    def whole(self, item: Item, *events: tuple[str, dict[str, Any]]) -> None:
        """An item that the server made itself: added, these events of it, done."""
        self.begin(item, *events)
        self.end(item)

    def begin(self, item: Item, *events: tuple[str, dict[str, Any]]) -> None:
        """The same while it goes on; ``end`` has to be next."""
        self.close()
        added = {key: _EMPTY.get(key, value) for key, value in item.items()} if "status" in item else item
        self._events.add("response.output_item.added", output_index=len(self.items), item=added)
        self._tell(item, events)

    def end(self, item: Item, *events: tuple[str, dict[str, Any]]) -> None:
        """The item as it is now that it is done."""
        self._tell(item, events)
        self._done(item)

    def _tell(self, item: Item, events: Sequence[tuple[str, dict[str, Any]]]) -> None:
        for kind, fields in events:
            self._events.add(kind, item_id=item["id"], output_index=len(self.items), **fields)

    def _begin(self, kind: Any, *facts: Any) -> Any:
        self.close()
        self._open = kind(len(self.items), *facts)
        return self._open

    def _call(self, event: CallStart) -> None:
        called = self._offered.call(event.name)
        call = {"function": _FunctionCall, "custom": _CustomCall, "mcp": _ServerCall}.get(called.kind, _WholeCall)
        self._begin(call, self._events, called, event.id)

    def _done(self, item: Item) -> None:
        self._events.add("response.output_item.done", output_index=len(self.items), item=item)
        self.items.append(item)


class _Open(Protocol):
    """An item that goes on."""

    def close(self, status: str) -> None:
        """Send what ends its parts."""
        ...

    def item(self, status: str) -> Item:
        """The item with all that has come."""
        ...


class _Message:
    def __init__(self, index: int, events: Events) -> None:
        self._events = events
        self._id = item_id("message")
        self.texts: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._place = {"item_id": self._id, "output_index": index, "content_index": 0}
        empty = {"id": self._id, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        events.add("response.output_item.added", output_index=index, item=empty)
        events.add("response.content_part.added", **self._place, part=_output_text("", []))
        self.pieces = Pieces("response.output_text.delta", self._place, b',"logprobs":[]')

    def feed(self, text: str, logprobs: Sequence[dict[str, Any]]) -> None:
        self.texts.append(text)
        if logprobs:
            self._logprobs += logprobs
            self._events.add("response.output_text.delta", **self._place, delta=text, logprobs=list(logprobs))
        else:
            self._events.piece(self.pieces, text)

    def close(self, status: str) -> None:
        text = "".join(self.texts)
        self._events.add("response.output_text.done", **self._place, text=text, logprobs=self._logprobs)
        self._events.add("response.content_part.done", **self._place, part=_output_text(text, self._logprobs))

    def item(self, status: str) -> Item:
        content = [_output_text("".join(self.texts), self._logprobs)]
        return {"id": self._id, "type": "message", "role": "assistant", "status": status, "content": content}


def _output_text(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


class _Thought:
    def __init__(self, index: int, events: Events, sealer: Sealer | None, summarized: bool) -> None:
        self._events = events
        self._sealer = sealer
        self._id = item_id("reasoning")
        self._texts: list[str] = []
        self._place = {"item_id": self._id, "output_index": index, "content_index": 0}
        self._pieces = [Pieces("response.reasoning_text.delta", self._place)]
        empty = {"id": self._id, "type": "reasoning", "status": "in_progress", "summary": [], "content": []}
        events.add("response.output_item.added", output_index=index, item=empty)
        events.add("response.content_part.added", **self._place, part={"type": "reasoning_text", "text": ""})
        self._summary = {"item_id": self._id, "output_index": index, "summary_index": 0} if summarized else None
        if self._summary is not None:
            part = {"type": "summary_text", "text": ""}
            events.add("response.reasoning_summary_part.added", **self._summary, part=part)
            self._pieces.append(Pieces("response.reasoning_summary_text.delta", self._summary))

    def feed(self, text: str) -> None:
        self._texts.append(text)
        for pieces in self._pieces:
            self._events.piece(pieces, text)

    def close(self, status: str) -> None:
        text = "".join(self._texts)
        self._events.add("response.reasoning_text.done", **self._place, text=text)
        self._events.add("response.content_part.done", **self._place, part={"type": "reasoning_text", "text": text})
        if self._summary is not None:
            part = {"type": "summary_text", "text": text}
            self._events.add("response.reasoning_summary_text.done", **self._summary, text=text)
            self._events.add("response.reasoning_summary_part.done", **self._summary, part=part)

    def item(self, status: str) -> Item:
        text = "".join(self._texts)
        summary = [] if self._summary is None else [{"type": "summary_text", "text": text}]
        content = [{"type": "reasoning_text", "text": text}]
        item = {"id": self._id, "type": "reasoning", "status": status, "summary": summary, "content": content}
        if self._sealer is not None:
            item["encrypted_content"] = self._sealer.seal(text, "thought")
        return item


class _Call:
    """A call of any kind: what it holds comes in pieces of JSON text."""

    def __init__(self, index: int, events: Events, called: Called, call_id: str) -> None:
        self._events = events
        self._called = called
        self._call_id = call_id
        self._texts: list[str] = []

    def feed(self, fragment: str) -> None:
        self._texts.append(fragment)

    def close(self, status: str) -> None: ...

    def item(self, status: str) -> Item:
        return {}


class _Streamed(_Call):
    """A call whose text is told as it comes."""

    kind, text_key, event = "", "", ""

    def __init__(self, index: int, events: Events, called: Called, call_id: str) -> None:
        super().__init__(index, events, called, call_id)
        self._id = item_id(self.kind)
        self._place = {"item_id": self._id, "output_index": index}
        self._pieces = Pieces(f"{self.event}.delta", self._place)
        events.add("response.output_item.added", output_index=index, item=self.item("in_progress"))

    def item(self, status: str) -> Item:
        item = {
            "id": self._id,
            "type": self.kind,
            "call_id": self._call_id,
            "name": self._called.name,
            self.text_key: "".join(self._texts),
            "status": status,
        }
        return item if self._called.namespace is None else {**item, "namespace": self._called.namespace}

    def feed(self, fragment: str) -> None:
        super().feed(fragment)
        self._events.piece(self._pieces, fragment)


class _FunctionCall(_Streamed):
    kind, text_key, event = "function_call", "arguments", "response.function_call_arguments"

    def close(self, status: str) -> None:
        text = "".join(self._texts)
        self._events.add(f"{self.event}.done", **self._place, name=self._called.name, arguments=text)


class _CustomCall(_Streamed):
    kind, text_key, event = "custom_tool_call", "input", "response.custom_tool_call_input"

    def __init__(self, index: int, events: Events, called: Called, call_id: str) -> None:
        self._input = InputText()
        super().__init__(index, events, called, call_id)

    def feed(self, fragment: str) -> None:
        text = self._input.feed(fragment)
        if text:
            super().feed(text)

    def close(self, status: str) -> None:
        rest = self._input.close()
        if rest:
            super().feed(rest)
        self._events.add(f"{self.event}.done", **self._place, input="".join(self._texts))


class _WholeCall(_Call):
    """A call of a tool that clients know by type: its item has a shape of its own."""

    def __init__(self, index: int, events: Events, called: Called, call_id: str) -> None:
        super().__init__(index, events, called, call_id)
        self._index = index
        self._id = item_id(f"{called.kind}_call")

    def close(self, status: str) -> None:
        self._events.add("response.output_item.added", output_index=self._index, item=self.item("in_progress"))

    def item(self, status: str) -> Item:
        kind = self._called.kind
        own = CLIENT_RUN[kind]
        try:
            arguments = json.loads("".join(self._texts) or "{}")
        except ValueError:
            arguments = {}
        inside = own.item_of(arguments if isinstance(arguments, dict) else {})
        item: Item = {"id": self._id, "type": f"{kind}_call", "call_id": self._call_id, own.key: inside}
        item["status"] = status
        if kind == "tool_search":
            item["execution"] = "client"
        elif kind == "shell":
            item["environment"] = None
        elif kind == "apply_patch" and status == "incomplete":
            item["status"] = "in_progress"  # it knows no other
        return item


class _ServerCall(_Call):
    """A call of a tool that this server runs: its item is made when it has run."""

    def __init__(self, index: int, events: Events, called: Called, call_id: str) -> None:
        super().__init__(index, events, called, call_id)
        self.call = ServerCall(called, call_id, self._texts)
