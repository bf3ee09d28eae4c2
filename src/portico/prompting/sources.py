"""Where chat templates come from: a text or a named set of them, compiled once per process, whoever asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any

from jinja2.exceptions import TemplateSyntaxError

from portico.errors import BadRequestError
from portico.prompting.environment import ENVIRONMENT, ChatEnvironment

__all__ = ["TemplateSource", "compile_source", "named_sources", "token_texts"]

TemplateSource = str | Mapping[str, str] | Sequence[Mapping[str, str]]

MAX_SOURCE = 1_000_000  # characters; the longest real template known has 30,000


@lru_cache(maxsize=64)
def compile_source(text: str, environment: ChatEnvironment = ENVIRONMENT) -> CodeType:
    """Compile a template. Raises ``BadRequestError`` naming the line at fault."""
    if len(text) > MAX_SOURCE:
        raise BadRequestError(
            f"The chat template has {len(text):,} characters; at most {MAX_SOURCE:,} are allowed.",
            param="chat_template",
        )
    try:
        return environment.compile(text)
    except TemplateSyntaxError as error:
        raise BadRequestError(
            f"The chat template is not valid Jinja: line {error.lineno}: {error.message}", param="chat_template"
        ) from None
    except (SyntaxError, RecursionError, MemoryError, ValueError, OverflowError):
        raise BadRequestError("The chat template is nested too deeply to compile.", param="chat_template") from None


def named_sources(source: TemplateSource) -> dict[str, str]:
    """The named set that ``source`` stands for; a lone text is called ``default``."""
    if isinstance(source, str):
        return {"default": source}
    if isinstance(source, Mapping):
        named = dict(source)
    else:
        named = {entry["name"]: entry["template"] for entry in source}
    if not named or not all(isinstance(text, str) for text in named.values()):
        raise BadRequestError("A set of chat templates maps names to Jinja texts.", param="chat_template")
    return named


def token_texts(special_tokens: Mapping[str, Any]) -> dict[str, Any]:
    """Special tokens as template variables: added-token objects become their text, absent ones are left out."""
    return {
        name: token["content"] if isinstance(token, Mapping) and "content" in token else token
        for name, token in special_tokens.items()
        if token is not None
    }
