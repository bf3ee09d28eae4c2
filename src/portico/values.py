"""How many values a JSON text holds, found without making any of them.

A parser's work and memory grow with the number of values, and two bytes (``1,``) are one: so what came from a client is
counted before it is parsed, wherever that happens. Strings are skipped, what stands between them is counted, in pieces
of a few kilobytes, between which others can have the interpreter. Nothing here decides whether the text is JSON.
"""

from __future__ import annotations

from collections.abc import Iterator

from portico.threads import checkpoint

__all__ = ["MOST_VALUES", "cut_at_quotes", "values"]

MOST_VALUES = 100_000  # items of lists and members of objects; 512 tools with their schemas are about 50,000
PIECE = 32 << 10  # bytes looked at in one go


def cut_at_quotes(body: bytes) -> Iterator[list[bytes]]:
    """Pieces of ``body``, each cut where a string begins or ends: what is in one and what is between two take turns,
    also from piece to piece. Raises ``AbandonedError`` when nobody waits for it any more."""
    start = 0
    while start < len(body):
        checkpoint()
        piece = body[start : start + PIECE]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:  # no escape is cut
            piece = body[start : start + PIECE + 1]
        start += len(piece)
        yield piece.replace(b"\\\\", b"??").replace(b'\\"', b"??").split(b'"')


def values(text: str) -> int:
    """How many values ``text`` holds: items and members, nested ones included."""
    found, inside = 0, 0
    for parts in cut_at_quotes(text.encode("utf-8", "replace")):
        between = b"".join(parts[inside::2])
        found += between.count(b",") + between.count(b"{") + between.count(b"[")
        inside ^= 1 - len(parts) % 2
    return found
