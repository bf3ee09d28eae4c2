"""What a shell completes: names of models and of parsers."""

from __future__ import annotations

from portico import models
from portico.parsing import reasoning_names, tool_names

__all__ = ["model_names", "reasoning_parsers", "tool_parsers"]


def model_names(ctx: object, param: object, incomplete: str) -> list[str]:
    """Those that are here, and those that can be pulled by name."""
    known = {*models.CATALOGUE, *(one.spec for one in models.installed())}
    return sorted(name for name in known if name.startswith(incomplete))


def tool_parsers(ctx: object, param: object, incomplete: str) -> list[str]:
    return sorted(name for name in tool_names() if name.startswith(incomplete))


def reasoning_parsers(ctx: object, param: object, incomplete: str) -> list[str]:
    return sorted(name for name in reasoning_names() if name.startswith(incomplete))
