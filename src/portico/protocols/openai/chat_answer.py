"""The answer of chat completions: a generation's deltas become chunks, or one body.

The stream is an automaton: role, then deltas, then exactly one finish per choice, then usage where asked, then
``[DONE]``. What does not change from chunk to chunk is encoded once per request. The whole body is the fold of the
same deltas. Absent fields are left out, except where OpenAI's description says null, and what a stream is asked for
stands in all its chunks. Its first and last say which system it was: who keeps either of them, as clients do, has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import orjson

from portico.decoding import chat_logprobs, prompt_logprobs
from portico.errors import PorticoError
from portico.events import CallArguments, CallEnd, CallStart, Content, Event, Finish, Reasoning, TokenLogprob
from portico.generation import Delta, Generation, Model
from portico.protocols import sse
from portico.protocols.openai import errors
from portico.protocols.openai.custom import InputText, custom_names
from portico.protocols.openai.schema import ChatRequest
from portico.protocols.openai.usage import usage_body

__all__ = ["ChatBody", "ChatStream"]

FINISH_REASONS = {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "abort": "stop", "error": "stop"}


def _echoed(request: ChatRequest) -> str:
    """The text that ``echo`` repeats: that of a last message which the answer continues or follows as the same role."""
    last = request.messages[-1]
    if not request.echo or last.get("role") != "assistant":
        return ""
    content = last.get("content")
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def _empty(generation: Generation) -> str | None:
    """The content of an answer without text: null where it had to be a call."""
    choice = generation.spec.tool_choice
    return None if choice == "required" or isinstance(choice, dict) else ""


class ChatStream:
    """Deltas of one generation -> server-sent events."""

    def __init__(self, request: ChatRequest, generation: Generation, model: Model, created: int) -> None:
        self._generation = generation
        self._tokenizer = model.tokenizer
        self._echo = _echoed(request)
        self._custom = custom_names(request.tools)
        self._inputs: dict[tuple[int, int], InputText] = {}  # of calls of custom tools, by choice and call
        self._with_token_ids = bool(request.return_token_ids)
        self._tokens_as_ids = bool(request.return_tokens_as_token_ids)
        self._with_reasoning = request.include_reasoning is not False
        self._reasoning_content = model.reasoning_content
        options = request.stream_options
        self._with_usage = bool(options and options.include_usage)
        self._continuous_usage = bool(self._with_usage and options and options.continuous_usage_stats)
        head = {
            "id": f"chatcmpl-{generation.spec.request_id}",
            "object": "chat.completion.chunk",
            "created": created,
            "model": model.name,
        }
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        head["system_fingerprint"] = model.fingerprint
        self._outer_head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        self._tail = b"]}\n\n"
        if self._with_usage and not self._continuous_usage:
            self._tail = b'],"usage":null}\n\n'  # as OpenAI: null on every chunk but the last
        self._no_logprobs = b',"logprobs":null' if generation.spec.sampling.logprobs is not None else b""
        # The frame of the commonest chunk, a piece of content, is all constant but the text.
        self._content_frames = [
            (
                self._head + b'{"index":%d,"delta":{"content":' % index,
                b"}" + self._no_logprobs + b',"finish_reason":null}' + self._tail,
            )
            for index in range(generation.spec.n)
        ]

    def start(self) -> bytes:
        """The role chunk of every choice; sent at admission, long before the first token."""
        generation = self._generation
        role = b'{"role":"assistant","content":%b}' % orjson.dumps(self._echo or _empty(self._generation))
        chunks = [self._chunk(index, role, outer=True) for index in range(generation.spec.n)]
        if self._with_token_ids:
            ids = orjson.dumps(list(generation.spec.prompt_ids))
            chunks[0] = chunks[0].replace(b',"choices":[', b',"prompt_token_ids":%b,"choices":[' % ids, 1)
        return b"".join(chunks)

    def feed(self, delta: Delta, position: int = 0) -> bytes:
        """The chunks of one delta; empty where there is nothing to tell."""
        events = delta.events
        plain = delta.logprobs is None and not self._with_token_ids and not self._continuous_usage
        if plain and delta.finish is None and len(events) == 1 and type(events[0]) is Content:
            before, after = self._content_frames[delta.index]
            return before + orjson.dumps(events[0].text) + after
        bodies = [body for event in events if (body := self._delta_body(event, delta.index)) is not None]
        if not bodies and delta.finish is None and not plain:
            bodies.append(b"{}")
        logprobs = delta.logprobs
        token_ids: Sequence[int] | None = delta.all_token_ids if self._with_token_ids else None
        chunks = []
        for body in bodies:
            chunks.append(self._chunk(delta.index, body, logprobs, token_ids))
            logprobs = None if logprobs is None else ()
            token_ids = None if token_ids is None else ()
        if delta.finish is not None:
            ended = (delta.finish, delta.stop_reason)
            chunks.append(self._chunk(delta.index, b"{}", logprobs, token_ids, *ended, outer=True))
        return b"".join(chunks)

    def finish(self) -> bytes:
        """After the last choice: usage where asked, and the end of the stream."""
        if not self._with_usage:
            return sse.DONE
        usage = orjson.dumps(usage_body(self._generation.usage))
        return self._outer_head + b'],"usage":' + usage + b"}\n\n" + sse.DONE

    def fail(self, error: PorticoError) -> bytes:
        """The stream cannot go on: an error event, and a clean end."""
        return errors.stream_event(error) + sse.DONE

    def keep_alive(self) -> bytes:
        """What a silent stream says now and then."""
        return sse.KEEP_ALIVE

    def _delta_body(self, event: Event, index: int) -> bytes | None:
        if type(event) is Content:
            return b'{"content":' + orjson.dumps(event.text) + b"}"
        if type(event) is Reasoning:
            return self._reasoning_body(orjson.dumps(event.text)) if self._with_reasoning else None
        if type(event) is CallStart:
            call: dict[str, Any] = {"index": event.index, "id": event.id, "type": "function"}
            if event.name in self._custom:
                self._inputs[index, event.index] = InputText()
                call |= {"type": "custom", "custom": {"name": event.name, "input": ""}}
            else:
                call["function"] = {"name": event.name, "arguments": ""}
            return b'{"tool_calls":[' + orjson.dumps(call) + b"]}"
        if self._inputs and type(event) in (CallArguments, CallEnd):
            call_of = self._inputs.get((index, cast(CallArguments | CallEnd, event).index))
            if call_of is not None:
                return self._input_body(call_of, cast(CallArguments | CallEnd, event))
        if type(event) is CallArguments:
            return b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (
                event.index,
                orjson.dumps(event.json_fragment),
            )
        return None

    @staticmethod
    def _input_body(text: InputText, event: CallArguments | CallEnd) -> bytes | None:
        """The next piece of a custom tool's input."""
        piece = text.feed(event.json_fragment) if isinstance(event, CallArguments) else text.close()
        call = {"index": event.index, "custom": {"input": piece}}
        return b'{"tool_calls":[' + orjson.dumps(call) + b"]}" if piece else None

    def _reasoning_body(self, text: bytes) -> bytes:
        details = b'[{"type":"reasoning.text","index":0,"text":%b}]' % text
        if self._reasoning_content:
            return b'{"reasoning":%b,"reasoning_content":%b,"reasoning_details":%b}' % (text, text, details)
        return b'{"reasoning":%b,"reasoning_details":%b}' % (text, details)

    def _chunk(
        self,
        index: int,
        body: bytes,
        logprobs: Sequence[TokenLogprob] | None = None,
        token_ids: Sequence[int] | None = None,
        finish: Finish | None = None,
        stop_reason: str | int | None = None,
        *,
        outer: bool = False,
    ) -> bytes:
        parts = [self._outer_head if outer else self._head, b'{"index":%d,"delta":' % index, body]
        if logprobs:
            content = chat_logprobs(logprobs, self._tokenizer, as_ids=self._tokens_as_ids)
            parts += [b',"logprobs":', orjson.dumps({"content": content, "refusal": None})]
        else:
            parts.append(self._no_logprobs)
        if finish is None:
            parts.append(b',"finish_reason":null')
        else:
            parts.append(b',"finish_reason":"%b"' % FINISH_REASONS[finish.reason].encode())
            if stop_reason is not None:
                parts.append(b',"stop_reason":' + orjson.dumps(stop_reason))
        if token_ids is not None:
            parts.append(b',"token_ids":' + orjson.dumps(list(token_ids)))
        parts.append(b"}")
        if self._continuous_usage:
            parts += [b'],"usage":', orjson.dumps(usage_body(self._generation.usage)), b"}\n\n"]
        else:
            parts.append(self._tail)
        return b"".join(parts)


class ChatBody:
    """Deltas of one generation -> the body of the whole answer."""

    def __init__(self, request: ChatRequest, generation: Generation, model: Model, created: int) -> None:
        self._request = request
        self._generation = generation
        self._model = model
        self._created = created
        self._custom = custom_names(request.tools)
        self._choices = [_Answer(_echoed(request)) for _ in range(generation.spec.n)]

    def feed(self, delta: Delta, position: int = 0) -> None:
        """Fold one delta in."""
        self._choices[delta.index].feed(delta)

    def body(self) -> bytes:
        """The response body, once every choice is finished."""
        generation = self._generation
        body: dict[str, Any] = {
            "id": f"chatcmpl-{generation.spec.request_id}",
            "object": "chat.completion",
            "created": self._created,
            "model": self._model.name,
            "system_fingerprint": self._model.fingerprint,
            "choices": [self._choice(index, answer) for index, answer in enumerate(self._choices)],
            "usage": usage_body(generation.usage),
        }
        if self._request.return_token_ids:
            body["prompt_token_ids"] = list(generation.spec.prompt_ids)
        entries = generation.choices[0].prompt_logprobs
        if self._request.prompt_logprobs is not None and entries is not None:
            as_ids = bool(self._request.return_tokens_as_token_ids)
            body["prompt_logprobs"] = prompt_logprobs(entries, self._model.tokenizer, as_ids=as_ids)
        return orjson.dumps(body)

    def _choice(self, index: int, answer: _Answer) -> dict[str, Any]:
        text = "".join(answer.content)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text or (None if answer.calls else _empty(self._generation)),
            "refusal": None,
        }
        if answer.reasoning and self._request.include_reasoning is not False:
            message["reasoning"] = "".join(answer.reasoning)
            message["reasoning_details"] = [{"type": "reasoning.text", "index": 0, "text": message["reasoning"]}]
            if self._model.reasoning_content:
                message["reasoning_content"] = message["reasoning"]
        if answer.calls:
            message["tool_calls"] = [
                self._call(call_id, name, "".join(pieces)) for call_id, name, pieces in answer.calls
            ]
        choice: dict[str, Any] = {"index": index, "message": message, "logprobs": None}
        if self._generation.spec.sampling.logprobs is not None:
            as_ids = bool(self._request.return_tokens_as_token_ids)
            content = chat_logprobs(answer.logprobs, self._model.tokenizer, as_ids=as_ids)
            choice["logprobs"] = {"content": content, "refusal": None}
        finish = answer.finish
        choice["finish_reason"] = FINISH_REASONS[finish.reason] if finish else "stop"
        if answer.stop_reason is not None:
            choice["stop_reason"] = answer.stop_reason
        if self._request.return_token_ids:
            choice["token_ids"] = answer.token_ids
        return choice

    def _call(self, call_id: str, name: str, arguments: str) -> dict[str, Any]:
        if name in self._custom:
            text = InputText()
            return {
                "id": call_id,
                "type": "custom",
                "custom": {"name": name, "input": text.feed(arguments) + text.close()},
            }
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


class _Answer:
    """The fold of one choice's deltas."""

    def __init__(self, echo: str) -> None:
        self.content = [echo]
        self.reasoning: list[str] = []
        self.calls: list[tuple[str, str, list[str]]] = []
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.finish: Finish | None = None
        self.stop_reason: str | int | None = None

    def feed(self, delta: Delta) -> None:
        for event in delta.events:
            if type(event) is Content:
                self.content.append(event.text)
            elif type(event) is Reasoning:
                self.reasoning.append(event.text)
            elif type(event) is CallStart:
                self.calls.append((event.id, event.name, []))
            elif type(event) is CallArguments:
                self.calls[event.index][2].append(event.json_fragment)
        self.token_ids += delta.all_token_ids
        if delta.logprobs:
            self.logprobs += delta.logprobs
        if delta.finish is not None:
            self.finish, self.stop_reason = delta.finish, delta.stop_reason
