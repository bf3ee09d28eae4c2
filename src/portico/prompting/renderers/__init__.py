"""Ways to write a prompt: the model's Jinja template, or the writer of a family that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from portico.prompting.renderers.base import AnswerSchema, Rendered, Renderer, RenderRequest
from portico.prompting.renderers.jinja import JinjaRenderer
from portico.prompting.tokenizers import Tokenizer

__all__ = ["AnswerSchema", "JinjaRenderer", "RenderRequest", "Rendered", "Renderer", "known_renderer", "speaks_harmony"]

HARMONY_TOKENS = frozenset({"<|start|>", "<|channel|>", "<|message|>", "<|call|>", "<|return|>"})


def speaks_harmony(tokenizer: Tokenizer) -> bool:
    """Whether the model is of the family whose prompts are written here although it comes with a template: that one
    leaves out the thought of a turn with text and calls, and makes the text a thought."""
    return set(tokenizer.added_tokens) >= HARMONY_TOKENS


def known_renderer(tokenizer: Tokenizer, path: str | Path | None = None, **options: Any) -> Renderer | None:
    """The writer for a model that has no chat template, or None where no family is recognised.

    ``path`` is the model's directory or tokenizer file; ``options`` are a renderer's ``defaults`` and ``allowed``. The
    family is known by its special tokens and its files: Harmony (gpt-oss), DeepSeek V3.2 and V4, Mistral.
    """
    path = Path(path) if path is not None else None
    directory = path if path is None or path.is_dir() else path.parent
    if speaks_harmony(tokenizer):
        from portico.prompting.renderers.harmony import HarmonyRenderer

        return HarmonyRenderer(**options)
    if directory is not None and "<｜Assistant｜>" in tokenizer.added_tokens:
        from portico.prompting.renderers.deepseek import DeepSeekRenderer, read_words

        words = read_words(directory)
        if "TOOLS_SYSTEM_TEMPLATE" in words:
            return DeepSeekRenderer("v3.2", words, **options)
        if "TOOLS_TEMPLATE" in words:
            return DeepSeekRenderer("v4", words, **options)
    if path is not None and (file := _mistral_file(path)) is not None:
        from portico.prompting.renderers.mistral import MistralRenderer

        return MistralRenderer(file, **options)
    return None


def _mistral_file(path: Path) -> Path | None:
    """Mistral's own tokenizer file at ``path`` or in it."""
    if path.is_dir():
        found = [*path.glob("tekken.json"), *sorted(path.glob("*.model.v*"), reverse=True)]
        return found[0] if found else None
    return path if path.name == "tekken.json" or ".model.v" in path.name else None
