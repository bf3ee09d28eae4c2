"""What of a request was passed over, in words for its client: a typo should not pass in silence."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["LEFT_OUT", "NOT_ENFORCED", "UNKNOWN_FIELDS", "warning"]

UNKNOWN_FIELDS = "unknown fields ignored"
LEFT_OUT = "left out of the prompt"
NOT_ENFORCED = "not enforced"

MOST_NAMES = 20
LONGEST_NAME = 100  # characters


def warning(what: str, names: Iterable[str]) -> str:
    """``what`` happened to ``names``, fit for a header; nothing where there are none."""
    spelled = (name.encode("ascii", "backslashreplace").decode() for name in dict.fromkeys(names))
    shown = [name[:LONGEST_NAME] for name in spelled if name.isprintable()][:MOST_NAMES]
    return f"{what}: {', '.join(shown)}" if shown else ""
