"""The client of ``portico bench``: one connection at a time per stream, its answer looked at and not decoded.

An event is a line ``data: {…``. In JSON a line break is always escaped, so no text can look like one.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httptools

from portico.errors import BadRequestError

__all__ = ["APIS", "Asker", "Outcome", "body_of"]

APIS: Final = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
_EVENT: Final = b"\ndata: {"
_WORD: Final = "word "  # a token, in most vocabularies
_TOOL: Final = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def body_of(api: str, model: str, prompt_tokens: int, max_tokens: int, tools: bool) -> bytes:
    """A streamed request with a prompt of about ``prompt_tokens`` tokens. Raises ``BadRequestError`` for tools where
    the API has none."""
    text = _WORD * max(1, prompt_tokens)
    asked: dict[str, Any] = {"model": model, "stream": True}
    if api == "completions":
        if tools:
            raise BadRequestError("Completions have no tools: choose another --api.", param="api")
        asked |= {"prompt": text, "max_tokens": max_tokens}
    elif api == "responses":
        asked |= {"input": text, "max_output_tokens": max_tokens, "store": False}
    else:
        asked |= {"messages": [{"role": "user", "content": text}], "max_tokens": max_tokens}
    if tools:
        named = {"name": _TOOL["name"], "description": _TOOL["description"]}
        asked["tools"] = [
            {**named, "input_schema": _TOOL["schema"]}
            if api == "messages"
            else {"type": "function", **named, "parameters": _TOOL["schema"]}
            if api == "responses"
            else {"type": "function", "function": {**named, "parameters": _TOOL["schema"]}}
        ]
    return json.dumps(asked).encode()


@dataclass
class Outcome:
    """One answer; times in seconds. ``gaps`` lie between reads that brought events."""

    first: float = 0.0  # from the request to the first event
    whole: float = 0.0
    events: int = 0
    size: int = 0  # bytes of its body
    gaps: list[float] = field(default_factory=list)
    error: str = ""  # why there was none


class Asker:
    """Sends one request to ``url`` again and again, over a connection that it keeps as long as the server does."""

    def __init__(self, url: str, path: str, body: bytes, key: str | None) -> None:
        self._parts = urlsplit(url)
        self._host = self._parts.hostname or ""
        if self._parts.scheme not in ("http", "https") or not self._host:
            raise BadRequestError("The server is named by its URL, such as http://127.0.0.1:8000.", param="url")
        authorization = f"authorization: Bearer {key}\r\n" if key else ""
        head = (
            f"POST {self._parts.path.rstrip('/')}{path} HTTP/1.1\r\nhost: {self._parts.netloc.rpartition('@')[2]}\r\n"
            f"content-type: application/json\r\n{authorization}content-length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body
        self._answer: _Answer | None = None

    async def ask(self) -> Outcome:
        """Send it, and read the answer to its end."""
        try:
            if self._answer is None or self._answer.closed:
                secure = self._parts.scheme == "https"
                _, self._answer = await asyncio.get_running_loop().create_connection(
                    _Answer, self._host, self._parts.port or (443 if secure else 80), ssl=secure or None
                )
            return await self._answer.to(self._request)
        except OSError as error:
            return Outcome(error=f"the server cannot be reached: {error.strerror or error}")

    def close(self) -> None:
        """End the connection."""
        if self._answer is not None and self._answer.transport is not None:
            self._answer.transport.close()


class _Answer(asyncio.Protocol):
    """The answers on one connection, one after another."""

    transport: asyncio.Transport | None = None

    def __init__(self) -> None:
        self.closed = False
        self._done: asyncio.Future[Outcome] | None = None

    async def to(self, request: bytes) -> Outcome:
        """The answer to a request. One at a time."""
        assert self.transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._outcome = Outcome()
        self._tail = b"\n"
        self._refusal = b""
        self._new = 0
        self._done = asyncio.get_running_loop().create_future()
        self._started = self._last = time.perf_counter()
        self.transport.write(request)
        return await self._done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._end("the connection was lost")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"this is not HTTP: {error}")
            self.closed = True
        if self._new:
            now = time.perf_counter()
            if self._outcome.events:
                self._outcome.gaps.append(now - self._last)
            else:
                self._outcome.first = now - self._started
            self._outcome.events += self._new
            self._last, self._new = now, 0
        if self._ended:
            self._finish()

    # -- what the parser finds ----------------------------------------------------------------------------------------

    _ended = False

    def on_body(self, body: bytes) -> None:
        if self._parser.get_status_code() != 200:
            self._refusal += body[:500]
            return
        self._outcome.size += len(body)
        text = self._tail + body
        self._new += text.count(_EVENT)
        self._tail = text[-len(_EVENT) + 1 :]

    def on_message_complete(self) -> None:
        self._ended = True

    def _finish(self) -> None:
        self._ended = False
        if not self._parser.should_keep_alive():
            self.closed = True
        status = self._parser.get_status_code()
        refusal = self._refusal.decode(errors="replace")
        self._end(f"status {status}: {refusal}" if status != 200 else "" if self._outcome.events else "no event came")

    def _end(self, error: str) -> None:
        if self._done is not None and not self._done.done():
            self._outcome.error = error
            self._outcome.whole = time.perf_counter() - self._started
            self._done.set_result(self._outcome)
