"""Names that people write nearly right."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["meant"]


def meant(written: str, known: Iterable[str], *, nearness: float = 0.6) -> str | None:
    """What of ``known`` was meant by a name that is none of them; None where nothing is near (1 is equal)."""
    from difflib import get_close_matches  # only here: most programs run without a misspelt name

    return next(iter(get_close_matches(written, list(known), 1, nearness)), None)
