"""A recorded request as one JSON value that stands by itself: its trace, the facts of what served it, its vocabulary.

What a replay needs (see ``portico.server.process.rerun``), and nothing that opens a door: no keys, no signing secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec

from portico import __version__
from portico.config import Settings
from portico.generation import Model
from portico.prompting import ChatTemplate, JinjaRenderer
from portico.server.line.model import ServedModel
from portico.server.line.served import Served
from portico.trace import Trace, occurring, vocabulary

__all__ = ["about", "exported", "facts"]

PLAIN_FACTS = (
    "name",
    "parent",
    "created",
    "context_length",
    "vocab_size",
    "max_logprobs",
    "embedding_size",
    "tool_parser",
    "reasoning_parser",
    "fingerprint",
    "reasoning_content",
)


def exported(trace: Trace, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The trace with ``facts``. A redacted trace has no vocabulary: it would tell which words occurred."""
    tokenizer = None if trace.head.redacted else trace.tokenizer
    return {
        "trace": msgspec.to_builtins(trace.head),
        "artifacts": [trace.shown(artifact) for artifact in trace.artifacts],
        "facts": dict(facts),
        "vocabulary": vocabulary(tokenizer, occurring(trace.artifacts)) if tokenizer is not None else None,
    }


def facts(served: Served, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What is served, as plain values; ``more`` is what only the operator's settings know (see ``about``)."""
    return {"portico": __version__, **(more or {}), "models": [_served(one) for one in served.models]}


def about(settings: Settings) -> dict[str, Any]:
    """What the settings add to the facts: how the operator called things."""
    return {
        "model": settings.model,
        "engine": settings.engine,
        "tokenizer": settings.tokenizer,
        "parser_plugins": [path.name for path in settings.parser_plugin],
        "max_body": settings.max_body,
    }


def _served(one: ServedModel) -> dict[str, Any]:
    model = one.model
    return {
        **{name: getattr(model, name) for name in PLAIN_FACTS},
        "capabilities": sorted(model.capabilities),
        "limits": asdict(model.limits),
        "names": list(one.names),
        "patterns": list(one.patterns),
        "adapters": [adapter.name for adapter in one.adapters],
        "checked": one.checker is not None,
        "prompts": _prompts(model),
    }


def _prompts(model: Model) -> dict[str, Any]:
    """How prompts are written: by which renderer, with which template and variables."""
    prompter = model.prompter
    renderer = prompter.renderer
    found: dict[str, Any] = {
        "renderer": type(renderer).__name__ if renderer is not None else None,
        "modalities": sorted(prompter.modalities),
        "special_tokens": prompter.tokenizer.special_tokens,
        "variables": prompter.defaults,
        "allowed": sorted(prompter.allowed_kwargs),
        "request_templates": prompter.takes_templates,
        "show_schema": prompter.show_schema,
        "control_tokens": prompter.structure is None,
        "own_markers": prompter.structure.own if prompter.structure is not None else [],
    }
    if isinstance(renderer, JinjaRenderer) and isinstance(renderer.template, ChatTemplate):
        found["template"] = renderer.template.sources
    return found
