"""How much the tests try: what fits into minutes, or with ``PORTICO_EXHAUSTIVE=1`` all there is, and ten times as many
examples of each law."""

from __future__ import annotations

import os

__all__ = ["EXHAUSTIVE", "examples"]

EXHAUSTIVE = bool(os.environ.get("PORTICO_EXHAUSTIVE"))


def examples(few: int) -> int:
    """How many examples a law is tried with; each run takes others."""
    return few * 10 if EXHAUSTIVE else few
