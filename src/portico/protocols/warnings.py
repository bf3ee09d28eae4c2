"""What of a request was passed over, in words for its client: a typo should not pass in silence."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

__all__ = ["LEFT_OUT", "NOT_ENFORCED", "UNKNOWN_FIELDS", "warning"]

UNKNOWN_FIELDS = "unknown fields ignored"
LEFT_OUT = "left out of the prompt"
NOT_ENFORCED = "not enforced"

MOST_NAMES = 20
LONGEST_NAME = 100  # characters
MOST_LOOKED_AT = 1_000  # names


def warning(what: str, names: Iterable[str]) -> str:
    """``what`` happened to ``names``, fit for a header; nothing where there are none."""
    given = dict.fromkeys(islice(names, MOST_LOOKED_AT))
    spelled = (name.encode("ascii", "backslashreplace").decode() for name in given)
    shown = [name[:LONGEST_NAME] for name in islice(filter(str.isprintable, spelled), MOST_NAMES)]
    return f"{what}: {', '.join(shown)}" if shown else ""
