"""One line on its way through the application: an ordinary request, which comes after all that somebody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from starlette.types import ASGIApp

from portico.protocols.batches.lines import Request
from portico.server.http.exchange import LATER
from portico.server.http.inner import Answer, InnerRequest

__all__ = ["Asking"]

LONGEST_PAUSE: Final = 60.0  # seconds before what was refused for now is asked again

NOWHERE: Final[Mapping[str, Any]] = {
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "scheme": "http",
    "root_path": "",
    "client": None,
    "server": None,
}


class Asking:
    """A line that is being asked as the request ``id`` of ``owner``, with these headers, until there is an answer that
    counts."""

    def __init__(self, app: ASGIApp, id: str, request: Request, owner: str, headers: Mapping[str, str]) -> None:
        self.id = id
        self._app = app
        self._request = request
        self._owner = owner
        self._like = {
            **NOWHERE,
            "headers": [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()],
        }
        self._asked: InnerRequest | None = None
        self._left = asyncio.Event()

    async def answer(self) -> Answer | None:
        """The answer; None when it was left. What is refused for now, and says when to try again, is asked again."""
        pause = 0.5
        while not self._left.is_set():
            self._asked = InnerRequest(
                self._request.path,
                self._request.body,
                asked_by=self._owner,
                like=self._like,
                facts={LATER: True},
                request_id=self.id,
            )
            answer = await self._asked.ask(self._app)
            if answer.status and "retry-after" not in answer.headers:
                return answer
            await self._wait(max(pause, float(answer.headers.get("retry-after", 0))))
            pause = min(2 * pause, LONGEST_PAUSE)
        return None

    def leave(self) -> None:
        """Nobody wants the answer any more, unless it is complete."""
        self._left.set()
        if self._asked is not None:
            self._asked.leave()

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._left.wait(), seconds)
        except TimeoutError:
            return
