"""The paths of runs: streams that were asked for with ``X-Portico-Resume: 1`` (see ``portico.server.line.runs``)."""

from __future__ import annotations

from portico.errors import BadRequestError
from portico.protocols import sse
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange
from portico.server.line.runs import Runs, event_number
from portico.threads import CALLER

__all__ = ["RunHandlers"]


class RunHandlers:
    """The handlers, over the runs that are kept."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def routes(self) -> dict[str, Methods]:
        """The path, with its handlers; none where no runs are kept."""
        return {"/v1/runs/{id}": {"GET": self.read, "DELETE": self.cancel}} if self._runs.grace else {}

    async def read(self, exchange: Exchange) -> None:
        """The events of a stream behind ``Last-Event-ID``, which browsers send with the URL that they began with, or
        ``after``: as they were and as they come."""
        run = self._runs.get(exchange.path_params["id"], CALLER.get())
        after = exchange.header(b"last-event-id") or exchange.query.get("after", "0")
        number = event_number(after)
        if number is None:
            raise BadRequestError("'after' is the number of the last event that was read, 0 for none.", param="after")
        exchange.response_headers.append((b"x-portico-run", run.id.encode("ascii")))
        if exchange.method == "HEAD":
            await exchange.respond(200, b"", sse.MEDIA_TYPE)
            return
        await run.read(exchange, number)

    async def cancel(self, exchange: Exchange) -> None:
        """Stop the answer if it goes on; whoever reads it is told."""
        run = self._runs.get(exchange.path_params["id"], CALLER.get())
        goes_on = not run.complete
        run.cancel()
        await exchange.respond_json({"id": run.id, "object": "run", "cancelled": goes_on})
