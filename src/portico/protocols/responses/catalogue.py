"""``/v1/models?client_version=…``: the served models as Codex reads them, beside OpenAI's list.

Only with such an entry does Codex offer its ``apply_patch``, know how long the context is, and leave out images that a
model cannot see. It takes an entry whole or not at all, with ``base_instructions``, which take the place of its own.
How hard a model can think is asked of its template: efforts that lead to the same prompt are one.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from portico.errors import BadRequestError
from portico.generation import Model
from portico.prompting import Prompter
from portico.prompting.variables import EFFORTS

__all__ = ["catalogue"]

OUTPUT_LIMIT = 10_000  # tokens of a tool's output that Codex lets the model see, at most
OUTPUT_SHARE = 8  # of a short context: one part in so many

# Which word stands for several that a template does not tell apart: the first of these.
WORDS = {
    "medium": "Thinks as usual",
    "low": "Thinks little",
    "high": "Thinks long",
    "none": "Does not think",
    "minimal": "Thinks as little as possible",
    "xhigh": "Thinks very long",
}

BASE_INSTRUCTIONS = """\
You are a coding agent. You work in a terminal, in the user's own files, by means of the tools that you are given.

- Look before you change: read the files concerned, and search rather than guess.
- Change as little as the task needs, in the style that is there. What the user has changed stays as it is.
- Edit files with apply_patch where you have it. Its input is the patch itself, from "*** Begin Patch" to
  "*** End Patch": one "*** Update File: PATH" (or Add, Delete) per file, then hunks, each begun by a line "@@", whose
  lines start with a space (as before), "-" (removed) or "+" (added).
- Run what shows that the work is right, such as tests, where that is possible, and mend what it shows.
- Go on until the task is done. Ask only where the answer cannot be found out and matters.
- At the end say in a few sentences what you did, what you could not do, and what the user should know.
"""


def catalogue(cards: Iterable[tuple[str, Model]]) -> list[dict[str, Any]]:
    """An entry for each served name that generates text, in their order. Renders prompts, so away from the loop."""
    able = [(name, model) for name, model in cards if "generate" in model.capabilities]
    return [_entry(name, model, priority) for priority, (name, model) in enumerate(able)]


def _entry(name: str, model: Model, priority: int) -> dict[str, Any]:
    efforts, usual = _efforts(model.prompter) if model.reasoning_parser is not None else ((), None)
    sees_images = "image" in model.prompter.modalities
    return {
        "slug": name,
        "display_name": name,
        "description": "Served by Portico.",
        "supported_reasoning_levels": [{"effort": effort, "description": WORDS[effort]} for effort in efforts],
        "default_reasoning_level": usual,
        "supports_reasoning_summaries": model.reasoning_parser is not None,
        "default_reasoning_summary": "auto",
        "support_verbosity": False,
        "default_verbosity": None,
        "shell_type": "shell_command",
        "apply_patch_tool_type": "freeform",
        "supports_parallel_tool_calls": True,
        "experimental_supported_tools": [],
        "input_modalities": ["text", "image"] if sees_images else ["text"],
        "context_window": model.context_length,
        "truncation_policy": {"mode": "tokens", "limit": min(OUTPUT_LIMIT, model.context_length // OUTPUT_SHARE)},
        "base_instructions": BASE_INSTRUCTIONS,
        "visibility": "list",
        "supported_in_api": True,
        "priority": priority,
        "upgrade": None,
    }


@lru_cache(maxsize=64)
def _efforts(prompter: Prompter) -> tuple[tuple[str, ...], str | None]:
    """The efforts that the template tells apart, from weakest to strongest, and the one that is usual."""
    if prompter.renderer is None:
        return (), None
    question = [{"role": "user", "content": "Hi"}]
    words: dict[str, str] = {}  # what an effort makes of the prompt -> the word for it
    try:
        usual = prompter.render_chat(question).text
        for effort in WORDS:
            words.setdefault(prompter.render_chat(question, reasoning_effort=effort).text, effort)
    except BadRequestError:  # a template that refuses so short a conversation
        return (), None
    return (tuple(sorted(words.values(), key=EFFORTS.index)), words.get(usual)) if len(words) > 1 else ((), None)
