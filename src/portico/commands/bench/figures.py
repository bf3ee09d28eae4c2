"""What a run of ``portico bench`` comes to: numbers, and what is shown of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from portico.commands.bench.asking import Outcome

__all__ = ["lines", "percentile", "summary"]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value with at least that share (0 to 1) of the others at or below it; ``values`` are sorted."""
    return values[max(0, ceil(len(values) * share) - 1)] if values else 0.0


def summary(outcomes: Sequence[Outcome], seconds: float, cpu: float | None) -> dict[str, Any]:
    """Rates per second, times in milliseconds, ``cpu`` (seconds that the server used) in microseconds per event."""
    good = [one for one in outcomes if not one.error]
    events = sum(one.events for one in good)
    size = sum(one.size for one in good)
    firsts = sorted(one.first for one in good)
    gaps = sorted(gap for one in good for gap in one.gaps)
    found: dict[str, Any] = {
        "requests": len(good),
        "failed": len(outcomes) - len(good),
        "seconds": round(seconds, 3),
        "requests_per_second": round(len(good) / seconds, 2),
        "events": events,
        "events_per_second": round(events / seconds, 1),
        "bytes_per_event": round(size / events, 1) if events else 0.0,
        "first_event_ms": _spread(firsts),
        "gap_ms": _spread(gaps),
    }
    if cpu is not None and events:
        found["server_cpu_us_per_event"] = round(cpu / events * 1e6, 2)
        found["server_cpu_ms_per_request"] = round(cpu / len(good) * 1e3, 3)
    errors = sorted({one.error for one in outcomes if one.error})
    if errors:
        found["errors"] = errors[:5]
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        name: round(percentile(values, share) * 1e3, 3)
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    shown = [
        f"{found['requests']} answers in {found['seconds']:g} s, {found['failed']} failed",
        f"{found['requests_per_second']:g} requests/s, {found['events_per_second']:g} events/s, "
        f"{found['bytes_per_event']:g} bytes per event",
    ]
    for name, key in (("first event", "first_event_ms"), ("gap between reads with events", "gap_ms")):
        spread = found[key]
        shown.append(f"{name}: " + ", ".join(f"{which} {value:g} ms" for which, value in spread.items()))
    if "server_cpu_us_per_event" in found:
        shown.append(
            f"server's processor time: {found['server_cpu_us_per_event']:g} us per event, "
            f"{found['server_cpu_ms_per_request']:g} ms per request"
        )
    shown += [f"failed: {error}" for error in found.get("errors", ())]
    return shown
