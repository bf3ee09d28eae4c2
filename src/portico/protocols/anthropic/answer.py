"""The answer of Messages: a generation's deltas become events, or one body.

The stream is an automaton: ``message_start`` with the prompt's tokens at admission, a ``ping``, the blocks in their
order (``blocks``), one ``message_delta`` with why it stopped and what it cost, ``message_stop``. When it fails, an
``error`` event ends it. The whole body comes from the same automaton with another writer behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import orjson

from portico.errors import PorticoError
from portico.events import Content, Finish
from portico.generation import Delta, Generation, Model, Usage
from portico.protocols import sse
from portico.protocols.anthropic import errors
from portico.protocols.anthropic.blocks import Blocks, Display
from portico.protocols.anthropic.schema import MessagesRequest
from portico.protocols.anthropic.signatures import Signer

__all__ = ["PING", "Edits", "MessageBody", "MessageStream"]

PING = sse.event(b'{"type":"ping"}', "ping")

Edits: TypeAlias = Sequence[dict[str, Any]]  # what context management has cleared, as clients are told


def _usage(usage: Usage) -> dict[str, Any]:
    """Token counts as Anthropic has them: input is what was not found in the cache."""
    cached = usage.cached_tokens or 0
    return {
        "input_tokens": usage.prompt_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def _message(id: str, model: Model, usage: Usage) -> dict[str, Any]:
    """A message that has said nothing yet."""
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model.name,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**_usage(usage), "service_tier": "standard"},
    }


def _managed(edits: Edits | None) -> dict[str, Any]:
    """What was cleared, where the request asked for it."""
    return {} if edits is None else {"context_management": {"applied_edits": edits}}


def _display(request: MessagesRequest, model: Model) -> str:
    """Thoughts are for who asks for them; a model that thinks all the same is not heard."""
    thinking = request.thinking
    if thinking is None:
        return Display.SHOWN if model.thinking_by_default else Display.HIDDEN
    if thinking.type == "disabled":
        return Display.HIDDEN
    return Display.OMITTED if thinking.display == "omitted" else Display.SHOWN


class _Ending:
    """Why the answer stopped."""

    def __init__(self, request: MessagesRequest, generation: Generation) -> None:
        self._cut_by_context = generation.spec.sampling.max_tokens < request.max_tokens
        self.finish: Finish | None = None
        self.stop: str | int | None = None

    def feed(self, delta: Delta) -> None:
        """Look at one delta."""
        if delta.finish is not None:
            self.finish, self.stop = delta.finish, delta.stop_reason

    def told(self, calls: int) -> dict[str, str | None]:
        """``stop_reason`` and ``stop_sequence`` after ``calls`` tool calls."""
        if isinstance(self.stop, str):
            return {"stop_reason": "stop_sequence", "stop_sequence": self.stop}
        if self.finish is not None and self.finish.reason == "length":
            reason = "model_context_window_exceeded" if self._cut_by_context else "max_tokens"
        else:
            reason = "tool_use" if calls else "end_turn"
        return {"stop_reason": reason, "stop_sequence": None}


# -- streaming --------------------------------------------------------------------------------------------------------


class MessageStream:
    """Deltas of one generation -> server-sent events."""

    def __init__(
        self,
        request: MessagesRequest,
        generation: Generation,
        model: Model,
        signer: Signer,
        *,
        message_id: str,
        request_id: str,
        edits: Edits | None = None,
    ) -> None:
        self._generation = generation
        self._edits = edits
        self._request_id = request_id
        self._message = _message(message_id, model, generation.usage)
        self._ending = _Ending(request, generation)
        self._frames = _Frames()
        self._blocks = Blocks(self._frames, signer, _display(request, model))

    def start(self) -> bytes:
        """``message_start`` and a ping; sent at admission, long before the first token."""
        return _event("message_start", message=self._message) + PING

    def feed(self, delta: Delta, position: int = 0) -> bytes:
        """The events of one delta."""
        events = delta.events
        self._ending.feed(delta)
        if len(events) == 1 and type(events[0]) is Content and self._blocks.open == "text":
            return self._frames.text(events[0].text)  # the commonest case
        self._blocks.feed(events)
        return self._frames.take()

    def finish(self) -> bytes:
        """The end of the last block, why it stopped and what it cost, and the end."""
        self._blocks.close()
        ending = self._ending.told(self._blocks.calls)
        return b"".join(
            (
                self._frames.take(),
                _event("message_delta", delta=ending, usage=_usage(self._generation.usage), **_managed(self._edits)),
                _event("message_stop"),
            )
        )

    def fail(self, error: PorticoError) -> bytes:
        """The stream cannot go on: an error event, and nothing after it."""
        return errors.stream_event(error, self._request_id)

    def keep_alive(self) -> bytes:
        """What a silent stream says now and then; Anthropic's clients know pings, not comments."""
        return PING


def _event(kind: str, **fields: Any) -> bytes:
    return sse.event(orjson.dumps({"type": kind, **fields}), kind)


class _Frames:
    """Writes blocks as events. What is the same in every delta of a block is encoded once."""

    def __init__(self) -> None:
        self._index = -1
        self._frames: list[bytes] = []
        self._before_text = b""

    def start(self, block: dict[str, Any]) -> None:
        self._index += 1
        self._frames.append(_event("content_block_start", index=self._index, content_block=block))
        head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":'
        self._head = head % self._index
        self._before_text = self._head + b'"text_delta","text":'

    def delta(self, kind: str, key: str, text: str) -> None:
        self._frames += (self._head, b'"%b","%b":' % (kind.encode(), key.encode()), orjson.dumps(text), b"}}\n\n")

    def stop(self, tool_input: str | None) -> None:
        self._frames.append(_event("content_block_stop", index=self._index))

    def text(self, text: str) -> bytes:
        """One text delta of the open block."""
        return self._before_text + orjson.dumps(text) + b"}}\n\n" if text else b""

    def take(self) -> bytes:
        """What has been written since the last time."""
        frames = b"".join(self._frames)
        self._frames.clear()
        return frames


# -- the whole body ---------------------------------------------------------------------------------------------------


class MessageBody:
    """Deltas of one generation -> the body of the whole answer."""

    def __init__(
        self,
        request: MessagesRequest,
        generation: Generation,
        model: Model,
        signer: Signer,
        *,
        message_id: str,
        edits: Edits | None = None,
    ) -> None:
        self._generation = generation
        self._edits = edits
        self._model = model
        self._message_id = message_id
        self._ending = _Ending(request, generation)
        self._fold = _Fold()
        self._blocks = Blocks(self._fold, signer, _display(request, model))

    def feed(self, delta: Delta, position: int = 0) -> None:
        """Fold one delta in."""
        self._ending.feed(delta)
        self._blocks.feed(delta.events)

    def body(self) -> bytes:
        """The response body, once the answer is finished."""
        self._blocks.close()
        message = _message(self._message_id, self._model, self._generation.usage)
        message["content"] = self._fold.content
        message.update(self._ending.told(self._blocks.calls), **_managed(self._edits))
        return orjson.dumps(message)


class _Fold:
    """Writes blocks as values."""

    def __init__(self) -> None:
        self.content: list[dict[str, Any]] = []
        self._texts: dict[str, list[str]] = {}

    def start(self, block: dict[str, Any]) -> None:
        self.content.append(dict(block))
        self._texts = {}

    def delta(self, kind: str, key: str, text: str) -> None:
        self._texts.setdefault(key, []).append(text)

    def stop(self, tool_input: str | None) -> None:
        block = self.content[-1]
        if tool_input is not None:
            block["input"] = orjson.Fragment(tool_input)  # the model's own text: no number or order of keys is lost
            return
        for key, pieces in self._texts.items():
            block[key] = "".join(pieces)
