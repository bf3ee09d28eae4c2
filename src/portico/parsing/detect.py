"""Which format a model writes, told from its chat template.

A template shows the model how its own calls look, so it holds the format's markers. Every page says which texts give
its family away (``Clues``); the clues that ask for most win, for tools and for reasoning each. Where nothing is found
the answer is plain content, and ``why`` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from portico.parsing.family import Clues, Family
from portico.parsing.registry import families

__all__ = ["Detection", "detect"]


class Detection(NamedTuple):
    """Parser names as ``OutputParser`` takes them, the family they belong to, and the texts that gave it away."""

    tool_parser: str | None
    reasoning_parser: str | None
    family: str | None
    why: str


def detect(template: str | Mapping[str, str] | None, special_tokens: Iterable[str] = ()) -> Detection:
    """The format of a model with this chat template (one, or several by name) and these special tokens."""
    sources = [template or ""] if not isinstance(template, Mapping) else list(template.values())
    text = "\n".join((*sources, *special_tokens))
    tools = _best(text, "tools")
    reasoning = _best(text, "reasoning")
    found = tools or reasoning
    if found is None:
        return Detection(None, None, None, "no marker of a known format in the template: all text is content")
    why = (
        "; ".join(f"{_quoted(clues.every)} → {family.name}" for family, clues in (tools, reasoning) if clues)
        if tools and reasoning and tools != reasoning
        else f"{_quoted(found[1].every)} → {found[0].name}"
    )
    return Detection(
        tools[1].tools if tools else None, reasoning[1].reasoning if reasoning else None, found[0].name, why
    )


def _best(text: str, kind: str) -> tuple[Family, Clues] | None:
    fitting = [
        (sum(map(len, clues.every)), family, clues)
        for family in families().values()
        for clues in family.clues
        if getattr(clues, kind) and clues.fit(text)
    ]
    if not fitting:
        return None
    _, family, clues = max(fitting, key=lambda found: found[0])
    return family, clues


def _quoted(texts: tuple[str, ...]) -> str:
    return ", ".join(map(repr, texts))
