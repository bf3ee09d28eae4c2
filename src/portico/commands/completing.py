"""What a shell completes: names of models, of parsers and of the formats that these read."""

from __future__ import annotations

from portico import models
from portico.parsing import reasoning_names, tool_names
from portico.parsing.registry import families

__all__ = ["format_names", "model_names", "reasoning_parsers", "tool_parsers"]


def model_names(ctx: object, param: object, incomplete: str) -> list[str]:
    """Those that are here, and those that can be pulled by name."""
    known = {*models.CATALOGUE, *(one.spec for one in models.installed())}
    return sorted(name for name in known if name.startswith(incomplete))


def tool_parsers(ctx: object, param: object, incomplete: str) -> list[str]:
    return sorted(name for name in tool_names() if name.startswith(incomplete))


def reasoning_parsers(ctx: object, param: object, incomplete: str) -> list[str]:
    return sorted(name for name in reasoning_names() if name.startswith(incomplete))


def format_names(ctx: object, param: object, incomplete: str) -> list[str]:
    known = {*families(), *tool_names(), *reasoning_names()}
    return sorted(name for name in known if name.startswith(incomplete))
