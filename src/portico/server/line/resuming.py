"""An answer outlives its engine: what an engine was asked and lost is asked again, with the tokens that exist.

- The line knows every token of every answer. When an engine dies, hangs or is drained, its requests come here; as soon
  as it is back, or another copy of the model can take them, they are handed in again (``EngineRequest.generated``) and
  the streams go on. Decoder, parser, stop strings and encoder never notice.
- A request in whose company engines died ``MOST_LOSSES`` times is suspected of killing them, and ends with an error.
- What an engine cannot take up exactly (``EngineInfo.resumes``) ends with an error, as does what has waited to its
  deadline, or ``PATIENCE`` where it has none.
- What is asked in one question, as embeddings are, is asked again as a whole, within the same bounds.
- Tokens are kept within ``MOST_KEPT``: beyond it the longest answers are no longer kept, and end with their engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final, TypeVar

from msgspec.structs import replace

from portico.engines import Engine
from portico.engines.resuming import can_resume
from portico.errors import EngineDeadError, EngineError, EngineLostError, OverloadedError, PorticoError
from portico.server.line.flight import Flight, Route
from portico.server.line.meter import Meter

__all__ = ["MOST_KEPT", "MOST_LOSSES", "Resuming"]

log = logging.getLogger("portico")

MOST_LOSSES: Final = 2
MOST_KEPT: Final = 16 << 20  # tokens of all answers of one line, 4 bytes each
PATIENCE: Final = 600.0  # seconds that an answer without a deadline waits for an engine
RETRY: Final = 0.1  # seconds between attempts while no engine takes requests

T = TypeVar("T")


class Resuming:
    """The requests of one line that wait for an engine.

    ``submit`` hands a route's request in, ``end`` ends a flight with an error. Where not ``enabled``, whatever is lost
    ends at once.
    """

    def __init__(
        self,
        engine: Engine,
        meter: Meter,
        submit: Callable[[Route], Awaitable[None]],
        end: Callable[[Flight, PorticoError], None],
        *,
        enabled: bool = True,
    ) -> None:
        self.enabled = enabled
        self._engine = engine
        self._meter = meter
        self._submit = submit
        self._end = end
        self._waiting: list[Route] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def lost(self, route: Route, why: str | None) -> None:
        """The engine that had this route's request is gone."""
        if route.flight.over:
            return
        route.losses += 1
        route.lost = asyncio.get_running_loop().time()
        for watch in route.watches:
            watch.lost(why or "")
        error = self._refusal(route, why or "The engine stopped.")
        if error is not None:
            self._end(route.flight, error)
            return
        self._waiting.append(route)
        if self._task is None:
            self._task = asyncio.create_task(self._resume())

    def bound(self, routes: Collection[Route]) -> None:
        """Keep the tokens of all routes within ``MOST_KEPT``; to be called now and then."""
        lengths = {route: route.choice.pack() for route in routes}
        kept = sum(lengths.values())
        for route in sorted(lengths, key=lengths.__getitem__, reverse=True) if kept > MOST_KEPT else ():
            if kept <= MOST_KEPT:
                return
            kept -= lengths[route]
            route.choice.forget()
            log.warning("request %s has grown too long to outlive its engine", route.request.request_id)

    async def outlive(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What ``ask`` gives; asked again where it raises ``EngineLostError``, as soon as an engine can be."""
        loop = asyncio.get_running_loop()
        losses, lost = 0, 0.0
        while True:
            try:
                found = await ask()
            except EngineLostError as error:
                losses, lost = losses + 1, loop.time()
                if losses >= MOST_LOSSES:
                    log.error("what engines were lost with %d times is not asked again: %s", losses, error.message)
                    error.retry_after = None
                if losses >= MOST_LOSSES or not self.enabled or self._closed:
                    raise
            except (EngineDeadError, OverloadedError):
                if not losses or self._closed or loop.time() > lost + PATIENCE:
                    raise
            else:
                if losses:
                    self._meter.resumed(0, loop.time() - lost)
                return found
            await asyncio.sleep(RETRY)

    def close(self) -> None:
        """Hand nothing in any more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()

    def _refusal(self, route: Route, why: str) -> PorticoError | None:
        """Why the answer ends here, if it does."""
        request_id = route.request.request_id
        if not self.enabled or route.choice.token_ids is None:
            return EngineError(why)
        if route.losses >= MOST_LOSSES:
            log.error("request %s ends: engines were lost with it %d times, it may be why", request_id, route.losses)
            return EngineError(f"{why} It was not the first time with this request, so it is not tried again.")
        if not can_resume(self._engine.info, route.request):
            log.warning("request %s ends with its engine, which cannot take it up again exactly", request_id)
            return EngineError(why)
        return None

    async def _resume(self) -> None:
        """Hand in again what waits, all of it at once, until nothing does."""
        loop = asyncio.get_running_loop()
        answers, tokens, pause = 0, 0, 0.0
        while self._waiting:
            routes, self._waiting = self._waiting, []
            refused = []
            for route, taken in zip(routes, await asyncio.gather(*map(self._try, routes)), strict=True):
                if taken:
                    waited = loop.time() - route.lost
                    answers, tokens, pause = answers + 1, tokens + len(route.request.generated), max(pause, waited)
                    self._meter.resumed(len(route.request.generated), waited)
                elif not route.flight.over:
                    refused.append(route)
            self._waiting = [*refused, *self._waiting]
            if refused:
                await asyncio.sleep(RETRY)
        self._task = None
        if answers:
            log.info("%d answers go on after at most %.1f s; %d tokens of theirs existed", answers, pause, tokens)

    async def _try(self, route: Route) -> bool:
        """Hand it in; whether it was taken. If not, its flight is over, or no engine takes it now."""
        if route.flight.over:
            return False
        try:
            await self._hand_in(route)
        except (EngineDeadError, OverloadedError) as error:
            if asyncio.get_running_loop().time() > (route.flight.deadline or route.lost + PATIENCE):
                self._end(route.flight, error)
        except PorticoError as error:
            self._end(route.flight, error)
        except Exception:
            log.exception("request %s cannot be handed in again", route.request.request_id)
            self._end(route.flight, EngineError("The engine stopped."))
        else:
            return True
        return False

    async def _hand_in(self, route: Route) -> None:
        generated = route.choice.token_ids
        assert generated is not None
        # An id of its own: a host that was only out of reach may still work on the old one.
        name, _, _ = route.request.request_id.partition("+")
        route.request = replace(route.request, request_id=f"{name}+{route.losses}", generated=generated)
        await self._submit(route)
