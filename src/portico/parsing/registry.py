"""Every family by the names that users select, and the readers made of their pages.

Pages are the modules of ``portico.parsing.formats``, the objects that the entry point group ``portico.formats`` names,
and files given to ``load_plugin``. A page adds itself by defining ``Family`` objects; nothing else lists them.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from portico import grammar as g
from portico.parsing.calls import Calls
from portico.parsing.dialogue import dialogue
from portico.parsing.either import Either
from portico.parsing.family import Family, Reasoning
from portico.parsing.machine import OutputReader
from portico.parsing.messages import Answers, Messages
from portico.parsing.response_template import Declared, from_response_template
from portico.parsing.thought import Thought

__all__ = [
    "DECLARED",
    "Program",
    "declare",
    "families",
    "load_plugin",
    "program",
    "reasoning_names",
    "register",
    "tool_names",
]

DECLARED = "hf"  # the format is the checkpoint's own: its response_template
_extra: list[Family] = []


def _pages(module: ModuleType) -> Iterator[Family]:
    for value in vars(module).values():
        if isinstance(value, Family):
            yield value


@lru_cache(maxsize=1)
def families() -> dict[str, Family]:
    """All families by name, built in ones first."""
    from portico.parsing import formats

    found: dict[str, Family] = {}
    for info in sorted(pkgutil.iter_modules(formats.__path__), key=lambda info: info.name):
        for family in _pages(importlib.import_module(f"{formats.__name__}.{info.name}")):
            found[family.name] = family
    for point in entry_points(group="portico.formats"):
        loaded = point.load()
        for family in [loaded] if isinstance(loaded, Family) else _pages(loaded):
            found[family.name] = family
    for family in _extra:
        found[family.name] = family
    return found


def register(*added: Family) -> None:
    """Add families, or replace those of the same name."""
    _extra.extend(added)
    families.cache_clear()
    _names.cache_clear()
    program.cache_clear()
    _foreign.cache_clear()


def load_plugin(path: str | Path) -> list[Family]:
    """Add the families that a Python file defines. Raises ``ValueError`` if it defines none."""
    path = Path(path)
    spec = importlib.util.spec_from_file_location(f"portico_plugin_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ValueError(f"parser plugin {path.name!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = list(_pages(module))
    if not found:
        raise ValueError(f"parser plugin {path.name!r} defines no Family; see docs/adding-a-model.md")
    register(*found)
    return found


@lru_cache(maxsize=2)
def _names(kind: str) -> dict[str, tuple[Family, Calls | Either | Reasoning | Answers]]:
    return {
        name: (family, description)
        for family in families().values()
        for name, description in (family.tools if kind == "tool" else family.reasoning).items()
    }


def tool_names() -> list[str]:
    """The names ``tool_parser`` takes."""
    return sorted([*_names("tool"), DECLARED])


def reasoning_names() -> list[str]:
    """The names ``reasoning_parser`` takes."""
    return sorted([*_names("reasoning"), DECLARED])


_ENGINES = ("smg:", "dynamo:", "llamacpp:", "sglang:")  # where a format is known from, sometimes put in front


def _look_up(kind: str, name: str) -> tuple[Family, Calls | Either | Reasoning | Answers]:
    try:
        return _names(kind)[name.partition(":")[2] if name.startswith(_ENGINES) else name]
    except KeyError:
        if name == DECLARED:
            raise ValueError(
                "the parser 'hf' reads the checkpoint's own format, its response_template, and there is none"
            ) from None
        known = ", ".join(sorted(_names(kind)))
        raise ValueError(f"unknown {kind} parser {name!r}; known: {known}") from None


@dataclass(frozen=True)
class Program:
    """What is read for one pair of parser names: made once, shared by all answers."""

    read: OutputReader
    calls: Calls | Either | None
    reasoning: Reasoning | Answers | None
    special_tokens: frozenset[str]

    @property
    def written(self) -> Calls | Either | None:
        """How calls are written."""
        if isinstance(self.reasoning, Messages | Declared) and self.reasoning.written is not None:
            return self.reasoning.written
        return self.calls

    def grammar(self, tools: Sequence[g.Tool], high: int | None = None) -> g.Calls | None:
        """One to ``high`` calls of these tools as the family writes them; None where it has no way to make calls."""
        if self.written is None or not tools:
            return None
        opener = self.reasoning.opener if isinstance(self.reasoning, Messages) else self.written.opener
        return g.Calls(self.written.grammar(tools, high), (opener,) if len(opener) > 1 else ())

    def frame(self, prompt_tail: str) -> g.Frame:
        """What the family writes in front of an answer, given the end of the prompt."""
        return self.reasoning.frame(prompt_tail) if self.reasoning is not None else g.Frame()

    def thinking(self, prompt_tail: str) -> Thought | None:
        """How thoughts begin and end behind this prompt; None where none can be ended. A call ends one too."""
        found = self.reasoning.thinking(prompt_tail) if self.reasoning is not None else None
        if found is None or self.calls is None or not self.calls.in_thought:
            return found
        calls = tuple(opener for opener in (*self.calls.openers, *self.calls.inner) if len(opener) > 1)
        return Thought(found.openers, (*found.closers, *calls), found.close, found.open)

    def thinks(self, prompt_tail: str) -> bool:
        """Whether the prompt leaves a thought open."""
        return isinstance(self.reasoning, Reasoning) and self.reasoning.is_open(prompt_tail)


@lru_cache(maxsize=512)
def program(tool_parser: str | None, reasoning_parser: str | None, with_tools: bool = True) -> Program:
    """The reader for a pair of names. Raises ``ValueError`` for a name that is not known."""
    return compose(
        _look_up("tool", tool_parser) if tool_parser else None,
        _look_up("reasoning", reasoning_parser) if reasoning_parser else None,
        with_tools,
    )


@lru_cache(maxsize=1)
def _foreign() -> dict[str, Calls | Either]:
    """Every family's calls by the openers that no text has by chance."""
    found: dict[str, Calls | Either] = {}
    for family in families().values():
        for calls in family.tools.values():
            if isinstance(calls, Calls | Either):
                for opener in (*calls.openers, *calls.inner):
                    if opener[:1] in "<[]" and len(opener) > _SHORTEST:
                        found.setdefault(opener, calls)
    return found


_SHORTEST = 6


def declare(template: Mapping[str, Any]) -> str:
    """Make a checkpoint's ``response_template`` a family; the parser name by which it is known from here on.

    Raises ``ValueError`` naming what is wrong with it.
    """
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{DECLARED}-{digest}"
    family = from_response_template(template)
    register(Family(name, family.models, {name: family.tools[DECLARED]}, {name: family.reasoning[DECLARED]}))
    return name


_Found = tuple[Family, Calls | Either | Reasoning | Answers]


def declared_by(template: Mapping[str, Any], with_tools: bool) -> Program:
    """The reader that a checkpoint's own ``response_template`` describes."""
    family = from_response_template(template)
    return compose((family, family.tools[DECLARED]), (family, family.reasoning[DECLARED]), with_tools)


def compose(chosen_tools: _Found | None, chosen_reasoning: _Found | None, with_tools: bool) -> Program:
    """One reader for a description of calls and one of reasoning, either of which may be missing."""
    chosen = [found for found in (chosen_tools, chosen_reasoning) if found is not None]
    ends = tuple(dict.fromkeys(end for family, _ in chosen for end in family.ends))
    messages = next((description for _, description in chosen if isinstance(description, Messages | Declared)), None)
    if messages is not None:
        return Program(messages.read, messages.calls, messages, frozenset((*messages.markers, *ends)))
    calls = next((d for _, d in chosen if isinstance(d, Calls | Either)), None)
    think = next((d for _, d in reversed(chosen) if isinstance(d, Reasoning)), None)
    special = set(ends)
    if calls is not None:
        special |= {word for word in (*calls.openers, *calls.inner, *calls.ends.marks.spellings) if len(word) > 1}
    if think is not None:
        special |= {*think.openers, *think.closers, *(word for pair in think.wrappers for word in pair if word)}
    return Program(
        dialogue(think, calls if with_tools else None, ends, _foreign() if with_tools else {}),
        calls,
        think,
        frozenset(special),
    )
