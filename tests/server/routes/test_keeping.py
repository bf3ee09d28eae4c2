"""The end of an answer is told, whatever becomes of keeping it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from portico.errors import OverloadedError, PorticoError, StoreError
from portico.server.line.endings import Endings
from portico.server.routes.responses.keeping import Keeping
from support.wait import SAFETY


class Told:
    """A sink that waits for the end."""

    def __init__(self) -> None:
        self.end: asyncio.Future[PorticoError | None] = asyncio.get_running_loop().create_future()

    def finish(self) -> None:
        self.end.set_result(None)

    def fail(self, error: PorticoError) -> None:
        self.end.set_result(error)

    def feed(self, *_: Any) -> None: ...

    def flush(self) -> None: ...


@pytest.mark.parametrize("wrong", [StoreError("full"), OverloadedError("busy"), RuntimeError("a fault of ours"), None])
@pytest.mark.parametrize("error", [None, PorticoError("The engine has died.")])
async def test_the_end_is_told(wrong: Exception | None, error: PorticoError | None) -> None:
    lost: list[bool] = []
    answer: Any = SimpleNamespace(over=False, server_calls=False, response={"id": "resp_1"})
    answer.settle, answer.not_kept = lambda error: None, lambda: lost.append(True)

    async def keep(_: Any) -> None:
        if wrong is not None:
            raise wrong

    sink: Any = Told()
    keeping = Keeping(answer, sink, Endings(), keep)
    if error is None:
        keeping.finish()
    else:
        keeping.fail(error)
    assert await asyncio.wait_for(sink.end, SAFETY) is error
    assert bool(lost) == (wrong is not None)
