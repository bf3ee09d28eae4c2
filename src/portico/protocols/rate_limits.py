"""How an API key stands with its limits, as the headers of every answer to it: OpenAI's, and Anthropic's.

OpenAI: ``x-ratelimit-{limit,remaining,reset}-{requests,tokens}``, the reset as a span such as ``1m30s`` or ``250ms``.
Anthropic: ``anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}``, the reset as a time of RFC 3339. Resets
say when the limit is whole again. What has no limit is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from portico.keys.accounts import Standing
from portico.protocols.times import rfc3339

__all__ = ["anthropic_headers", "openai_headers"]

Headers = list[tuple[bytes, bytes]]


def openai_headers(requests: Standing | None, tokens: Standing | None) -> Headers:
    """As OpenAI's clients read them."""
    return [
        (f"x-ratelimit-{name}-{unit}".encode(), value.encode())
        for unit, one in _limited(requests, tokens)
        for name, value in (("limit", f"{one.limit}"), ("remaining", f"{one.remaining}"), ("reset", _span(one.reset)))
    ]


def anthropic_headers(requests: Standing | None, tokens: Standing | None, now: float) -> Headers:
    """As Anthropic's clients read them; ``now`` is in unix seconds."""
    return [
        (f"anthropic-ratelimit-{unit}-{name}".encode(), value.encode())
        for unit, one in _limited(requests, tokens)
        for name, value in (
            ("limit", f"{one.limit}"),
            ("remaining", f"{one.remaining}"),
            ("reset", rfc3339(now + one.reset)),
        )
    ]


def _limited(requests: Standing | None, tokens: Standing | None) -> Iterator[tuple[str, Standing]]:
    for unit, one in (("requests", requests), ("tokens", tokens)):
        if one is not None:
            yield unit, one


def _span(seconds: float) -> str:
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    first = next(index for index, (count, _) in enumerate(parts) if count)
    return "".join(f"{count}{unit}" for count, unit in parts[first:])
