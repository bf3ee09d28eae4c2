"""Requests that are made inside this process: by a frame of a WebSocket, by a line of a batch.

There is one way to an answer. Such a request goes through the whole application like one from a connection, so that
limits, metrics, records and refusals are the same. Only who asks is known already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp

from portico.server.http.exchange import Scope

__all__ = ["ASKED_BY", "Answer", "InnerRequest"]

ASKED_BY = "portico.asked_by"  # in a scope: the owner of what the key makes that opened the door before

_OF_THE_BODY = (b"content-type", b"content-length", b"content-encoding", b"transfer-encoding", b"expect")
_OF_THE_CONNECTION = (b"connection", b"upgrade", b"te", b"trailer", b"keep-alive", b"x-request-id")


@dataclass
class Answer:
    """A response; ``body`` is empty where it was a stream that somebody took, ``status`` 0 where none came. Of equal
    ``headers`` the values are joined, as HTTP allows."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class InnerRequest:
    """A POST of JSON. ``like`` is a scope whose address and headers it takes over, ``facts`` go into its own.

    ``stream`` takes the pieces of an answer that is a stream as they come, with the headers. While it waits the answer
    is collected, as for a client that reads slowly.
    """

    def __init__(
        self,
        path: str,
        body: bytes,
        *,
        asked_by: str,
        like: Mapping[str, Any],
        facts: Mapping[str, Any],
        request_id: str | None = None,
        stream: Callable[[bytes, Mapping[str, str]], Awaitable[None]] | None = None,
    ) -> None:
        own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if request_id is not None:
            own.append((b"x-request-id", request_id.encode("ascii")))
        self._scope: Scope = {
            **like,
            **facts,
            ASKED_BY: asked_by,
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode("ascii"),
            "query_string": b"",
            "headers": [*(pair for pair in like["headers"] if _passes_on(pair[0])), *own],
        }
        self._body: bytes | None = body
        self._stream = stream
        self._streams = False
        self._over = asyncio.Event()
        self._answer = Answer()

    async def ask(self, app: ASGIApp) -> Answer:
        """The answer of ``app``, when it is complete."""
        await app(self._scope, self._receive, self._send)
        return self._answer

    def leave(self) -> None:
        """Nobody waits for the answer any more."""
        self._over.set()

    async def _receive(self) -> MutableMapping[str, Any]:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        answer = self._answer
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], _joined(message["headers"])
            self._streams = answer.headers.get("content-type", "").startswith("text/event-stream")
            return
        body = message.get("body", b"")
        if not self._streams or self._stream is None:
            answer.body += body
        elif body and not self._over.is_set():
            await self._stream(body, answer.headers)
        if not message.get("more_body", False):
            self._over.set()


def _joined(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in pairs:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _passes_on(name: bytes) -> bool:
    """Whether a header says something of the client, and not of its connection or of another body."""
    return name not in _OF_THE_BODY and name not in _OF_THE_CONNECTION and not name.startswith(b"sec-websocket-")
