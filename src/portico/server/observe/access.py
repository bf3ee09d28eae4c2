"""One line in the log for every request: what was asked of which model, by whom, and what came of it.

A key is told by its name, or the first digits of its hash, never by itself; nothing of prompts and answers is told.
Probes, scrapes of metrics, and what an open page asks again and again, are logged at debug: they come all day.
"""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import quote

from portico.errors import PorticoError
from portico.keys import KEY
from portico.server.http.app import Outcome
from portico.server.http.auth import PROBES
from portico.server.http.exchange import Exchange
from portico.server.http.pages import BATCH_LIST

__all__ = ["AccessLog"]

log = logging.getLogger("portico")

QUIET = PROBES | {BATCH_LIST}
COLUMNS = 60  # of a terminal's 80 that time and level leave


class AccessLog:
    """Observes requests (see ``portico.server.http.app.Observer``).

    A record has the facts as ``fields``, its message for files, and ``short`` for terminals.
    """

    def begun(self, exchange: Exchange) -> None:
        """Nothing is told before the end."""

    def refused(self, exchange: Exchange, error: PorticoError, raised: BaseException) -> None:
        """Told at the end, by its code."""

    def ended(self, exchange: Exchange, outcome: Outcome, cause: str) -> None:
        """Tell it."""
        scraped = exchange.path == "/metrics" and outcome == "ok"
        level = logging.DEBUG if exchange.path in QUIET or scraped else logging.INFO
        if not log.isEnabledFor(level):
            return
        fields = _fields(exchange, outcome, cause)
        head = f"{exchange.method} {exchange.path} {exchange.status or outcome} {fields['duration_ms']:.0f} ms"
        shown = {name: value for name, value in fields.items() if name not in _IN_HEAD}
        message = " ".join([head, exchange.request_id, *(f"{name}={value}" for name, value in shown.items())])
        log.log(level, "%s", message, extra={"fields": fields, "short": _short(exchange, outcome, fields)})


_IN_HEAD = {"method", "path", "status", "duration_ms", "request_id", "route", "outcome"}


def _fields(exchange: Exchange, outcome: Outcome, cause: str) -> dict[str, Any]:
    """What is known of the request; durations in milliseconds. What there is not is left out."""
    found: dict[str, Any] = {
        "request_id": exchange.request_id,
        "method": exchange.method,
        "path": exchange.path,
        "route": exchange.route,
        "status": exchange.status,
        "outcome": outcome,
        "duration_ms": round((time.perf_counter() - exchange.started) * 1000, 1),
    }
    if exchange.address is not None:
        found["address"] = exchange.address
    if cause:
        found["error"] = cause
    if key := KEY.get().shown:
        found["key"] = key
    if exchange.model is not None:
        found["model"] = exchange.model.name
        found["tokens_in"] = exchange.prompt_tokens
    if exchange.generations:
        usages = [generation.usage for generation in (*exchange.generations, *exchange.further)]
        found["tokens_out"] = sum(usage.completion_tokens for usage in usages)
        if any(usage.cached_tokens is not None for usage in usages):
            found["tokens_cached"] = sum(usage.cached_tokens or 0 for usage in usages)
    if (answer := exchange.answer) is not None:
        if answer.first_output:
            waited = exchange.stages[-1].ended - exchange.started + answer.first_output - answer.admitted
            found["first_token_ms"] = round(waited * 1000, 1)
        if answer.finishes:
            found["finish"] = ",".join(dict.fromkeys(answer.finishes))
    if outcome == "gone":
        found["client_gone"] = True
    return found


def _short(exchange: Exchange, outcome: Outcome, fields: dict[str, Any]) -> str:
    """At most ``COLUMNS`` characters; of a long path its end is left out."""
    tail = f"{outcome if outcome == 'gone' else exchange.status or outcome} {fields['duration_ms']:.0f} ms"
    if "tokens_out" in fields:
        tail += f" {fields['tokens_in']}→{fields['tokens_out']}"
    room = max(1, COLUMNS - len(exchange.method) - len(tail) - 2)
    path = quote(exchange.path, safe="/:@!$&'()*+,;=~")  # so that every character takes one column
    return f"{exchange.method} {path if len(path) <= room else path[: room - 1] + '…'} {tail}"
