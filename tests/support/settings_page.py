"""The part of docs/settings.md that is made from the settings; ``python tests/support/settings_page.py`` writes it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from portico.config import Settings

__all__ = ["PAGE", "generated"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
BEGIN, END = "<!-- made from the settings -->", "<!-- end -->"


def lines() -> Iterator[str]:
    """A table for each group of settings, as the comments between them name it."""
    named = False
    for group, name in re.findall(r"^    (?:# (.+)|(\w+): )", inspect.getsource(Settings), re.MULTILINE):
        if group:
            named = False
            title = group
        elif name in Settings.model_fields:
            if not named:
                yield from ("", f"## {title}", "", "| setting | without it | what it says |", "|---|---|---|")
                named = True
            yield row(name)


def row(name: str) -> str:
    field = Settings.model_fields[name]
    flag = "MODEL" if name == "model" else f"`--{name.replace('_', '-')}`"
    return f"| {flag} | {shown(field.default)} | {(field.description or '').replace('|', ' or ')} |"


def shown(default: Any) -> str:
    if default in (None, PydanticUndefined, "", [], {}):
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def generated() -> str:
    """All tables."""
    return "\n".join([BEGIN, *lines(), "", END])


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + generated() + rest.partition(END)[2])
