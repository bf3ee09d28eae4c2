"""What the line knows of one served model, and the most that one request may ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico.prompting import Prompter, Tokenizer

__all__ = ["Card", "Limits", "Model"]


@dataclass(frozen=True)
class Limits:
    """The most that one request may ask for. Operators set these; see the settings of the same names."""

    choices: int = 64
    stop_strings: int = 16
    bad_words: int = 128
    tools: int = 512
    prompts: int = 256  # in one completions request
    inputs: int = 2048  # in one embeddings request; OpenAI's bound
    schema_depth: int = 64


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the line knows of one served model; the same for every request to it."""

    name: str
    shown: str = ""  # what it is counted by, where ``name`` is only how a client calls it
    parent: str | None = None  # of a LoRA adapter: the model that it adapts
    created: int  # Unix seconds; stable, so that caches of model lists stay valid
    tokenizer: Tokenizer
    prompter: Prompter
    context_length: int
    vocab_size: int
    capabilities: frozenset[str]
    max_logprobs: int = 20
    embedding_size: int | None = None
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    fingerprint: str = ""
    reasoning_content: bool = False  # reasoning has two names in OpenAI's API: 'reasoning', and this older one too
    thinking_by_default: bool = False  # in Anthropic's API: thoughts are sent to who has said nothing of them
    limits: Limits = field(default_factory=Limits)
    sampling: Mapping[str, Any] = field(default_factory=dict)  # of requests that say nothing of it: ``SamplingParams``

    @property
    def label(self) -> str:
        """What it is counted by: of bounded number, whatever clients call it."""
        return self.shown or self.name

    @property
    def lora(self) -> str | None:
        """What the engine calls the adapter, if this is one."""
        return None if self.parent is None else self.name


@dataclass(frozen=True, kw_only=True)
class Card:
    """What lists tell of a model under one of its names, whether it is loaded or not.

    ``context_length`` (tokens) is None where it is not known before the model has been loaded.
    """

    name: str
    root: str  # the first of its names
    created: int  # Unix seconds
    capabilities: frozenset[str]
    context_length: int | None
    parent: str | None = None  # of a LoRA adapter: the model that it adapts
    state: str = "loaded"  # or loading, unloading, unloaded
