"""The constraint alone, where a test does not ask what was left out."""

from __future__ import annotations

from typing import Any

from portico.constraints import compile_constraint
from portico.events import Constraint


def bare_constraint(**parts: Any) -> Constraint | None:
    """``compile_constraint`` with these arguments; None when any text will do."""
    found = compile_constraint(**parts)
    return None if found is None else found.constraint
