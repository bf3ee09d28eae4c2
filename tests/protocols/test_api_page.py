"""docs/api.md says what the request schemas say: every field, and no other; every range."""

from __future__ import annotations

import re

import pytest
from pydantic import BaseModel

from support.api_page import BEGIN, END, PAGE, fields_of, generated, models

WRITTEN, _, REST = PAGE.read_text().partition(BEGIN)
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


def section(path: str) -> str:
    """What people have written about a path."""
    (found,) = [
        part for part in WRITTEN.split("\n## ") if part.startswith(f"POST {path}\n") or part.startswith(f"POST {path},")
    ]
    return found


def test_the_tables_are_those_of_the_schemas() -> None:
    assert BEGIN + REST.partition(END)[0] + END == generated(), "run: python tests/support/api_page.py"


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_every_field_is_explained(model: type[BaseModel]) -> None:
    words = set(re.findall(r"\w+", WRITTEN))
    assert [name for name in fields_of(model) if name not in words] == []


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_every_row_is_about_a_field(path: str) -> None:
    """The rows of a table are fields; on Anthropic's page also kinds of blocks."""
    blocks = {"text", "tool_use", "tool_result", "image", "document", "search_result", "tool_reference"}
    (model,) = [model for model, paths in models().items() if path in paths]
    rows = [line.split("|")[1] for line in section(path).splitlines() if line.startswith("| ")]
    names = {name.strip() for row in rows[1:] for name in row.replace("*ext*", "").split(",")}
    assert names - blocks - set(fields_of(model)) == set()
