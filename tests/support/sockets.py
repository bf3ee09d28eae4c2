"""A WebSocket of the Responses API, by a real client."""

from __future__ import annotations

import json
from typing import Any

from websockets.sync.client import ClientConnection, connect

from support.wait import SAFETY

KEY = "a-key"
BEARER = {"Authorization": f"Bearer {KEY}"}
ENDS = ("response.completed", "response.incomplete", "response.failed", "error")


class Socket:
    """One socket of a real client."""

    def __init__(self, url: str, **options: Any) -> None:
        options.setdefault("additional_headers", BEARER)
        address = url.replace("http", "ws", 1) + "/v1/responses"
        self._open = connect(address, open_timeout=SAFETY, **options)

    def __enter__(self) -> Socket:
        self.connection: ClientConnection = self._open.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def say(self, given: Any = None, **fields: Any) -> None:
        body = {"type": "response.create", "model": "tiny", "input": given, **fields}
        self.connection.send(json.dumps(body))

    def hear(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.connection.recv(SAFETY))
        return event

    def answer(self) -> list[dict[str, Any]]:
        """All events up to the end of one response."""
        events = [self.hear()]
        while events[-1]["type"] not in ENDS:
            events.append(self.hear())
        return events

    def ask(self, given: Any, **fields: Any) -> Any:
        """The response, or the error."""
        self.say(given, **fields)
        last = self.answer()[-1]
        return last if last["type"] == "error" else last["response"]
