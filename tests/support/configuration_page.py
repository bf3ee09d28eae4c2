"""What is made from the settings: the tables of docs/configuration.md, and the sample file deploy/portico.toml.

``python tests/support/configuration_page.py`` writes both.
"""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import wrap
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from portico.commands.options import setting_groups
from portico.config import Settings

__all__ = ["PAGE", "SAMPLE", "sample", "tables"]

ROOT = Path(__file__).resolve().parents[2]
PAGE, SAMPLE = ROOT / "docs" / "configuration.md", ROOT / "deploy" / "portico.toml"
BEGIN, END = "<!-- made from the settings -->", "<!-- end -->"


def tables() -> str:
    """A table for each group."""
    lines = [BEGIN]
    for title, names in setting_groups():
        lines += ["", f"## {title}", "", "| setting | without it | what it says |", "|---|---|---|", *map(row, names)]
    return "\n".join([*lines, "", END])


def row(name: str) -> str:
    field = Settings.model_fields[name]
    flag = {"model": "MODEL", "models": "`[[models]]`"}.get(name, f"`--{name.replace('_', '-')}`")
    return f"| {flag} | {shown(field.default)} | {(field.description or '').replace('|', ' or ')} |"


def shown(default: Any) -> str:
    if default in (None, PydanticUndefined, "", [], {}) or isinstance(default, BaseModel):
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def sample() -> str:
    """A TOML file in which every setting stands as it is by default, behind a ``#``."""
    lines = ["# Every setting of 'portico serve --config FILE', as it is without it: take a '#' away to change one."]
    for title, names in setting_groups():
        lines += ["", "", f"# ---- {title} ----"]
        for name in names:
            field = Settings.model_fields[name]
            said = [f"## {line}" for line in wrap(field.description or "", 112)]
            lines += ["", *said, f"# {name} ={toml(field.default)}"]
    return "\n".join(lines) + "\n"


def toml(default: Any) -> str:
    """A default as TOML has it; nothing for what has none."""
    if default is None:
        return ""
    return " {}" if default == {} or isinstance(default, BaseModel) else f" {json.dumps(default)}"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + tables() + rest.partition(END)[2])
    SAMPLE.write_text(sample())
