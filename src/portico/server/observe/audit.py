"""What the audit log is told of requests: those that were refused for who asks, batches, and models that move."""

from __future__ import annotations

from typing import Final

from portico.errors import PorticoError
from portico.keys import KEY
from portico.keys.audit import Audit
from portico.server.http.app import Outcome
from portico.server.http.exchange import Exchange

__all__ = ["REFUSALS", "AuditObserver"]

REFUSALS: Final = frozenset({401, 403, 429})
TOLD: Final = {  # of what is asked for with POST
    "/v1/batches": "batch made",
    "/v1/messages/batches": "batch made",
    "/v1/load_lora_adapter": "adapter loaded",
    "/v1/unload_lora_adapter": "adapter unloaded",
    "/v1/models/{model}/load": "model loaded",
    "/v1/models/{model}/unload": "model unloaded",
}


class AuditObserver:
    """Observes requests (see ``portico.server.http.app.Observer``)."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    def begun(self, exchange: Exchange) -> None:
        """Nothing has been done yet."""

    def refused(self, exchange: Exchange, error: PorticoError, raised: BaseException) -> None:
        """Told at the end, by its code."""

    def ended(self, exchange: Exchange, outcome: Outcome, cause: str) -> None:
        """Tell it, if it is of those that are told. A route is told and no path: in paths may be anything."""
        if exchange.status in REFUSALS:
            action = "refused"
        elif exchange.method == "POST" and exchange.route in TOLD and outcome == "ok":
            action = TOLD[exchange.route]
        else:
            return
        self._audit.note(
            action,
            KEY.get().shown,
            cause=cause,
            method=exchange.method,
            route=exchange.route,
            request_id=exchange.request_id,
            address=exchange.address,
        )
