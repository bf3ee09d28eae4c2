"""From what a user calls a model to what reads and writes its prompts; the weights are not loaded."""

from __future__ import annotations

from pathlib import Path

from portico import models
from portico.errors import BadRequestError, ModelNotFoundError
from portico.models import Progress
from portico.prompting import (
    ChatTemplate,
    JinjaRenderer,
    Renderer,
    Tokenizer,
    known_renderer,
    load_tokenizer,
    speaks_harmony,
)

__all__ = ["is_here", "tokenizer_and_renderer", "tokenizer_of"]


def tokenizer_of(model: str, progress: Progress | None = None) -> tuple[Tokenizer, Path]:
    """The tokenizer of ``model`` and the file or directory that holds the model.

    ``model`` is a name, a GGUF file, a tokenizer or its directory; a name is fetched if it is not here.
    """
    path = Path(model).expanduser()
    if path.exists():
        return load_tokenizer(path), path
    resolved = models.resolve(model, progress)
    return load_tokenizer(resolved.tokenizer_path or resolved.path), resolved.path


def tokenizer_and_renderer(model: str, chat_template: Path | None = None) -> tuple[Tokenizer | None, Renderer | None]:
    """The tokenizer and the renderer of ``model``, as above; a template file alone has no tokenizer.

    Raises ``BadRequestError`` for a model without a template, where none is given.
    """
    path = Path(model).expanduser()
    if path.suffix in (".jinja", ".j2"):
        return None, JinjaRenderer(ChatTemplate(path.read_text(encoding="utf-8")))
    tokenizer, path = tokenizer_of(model)
    source = chat_template.read_text(encoding="utf-8") if chat_template is not None else tokenizer.chat_template
    if source is not None and (chat_template is not None or not speaks_harmony(tokenizer)):
        return tokenizer, JinjaRenderer(ChatTemplate(source, tokenizer.special_tokens))
    renderer = known_renderer(tokenizer, path)
    if renderer is None:
        raise BadRequestError(f"{model} has no chat template; give one with --chat-template.", param="chat_template")
    return tokenizer, renderer


def is_here(model: str) -> bool:
    """Whether ``model`` can be had without fetching anything."""
    if Path(model).expanduser().exists():
        return True
    try:
        return bool(models.removable(model))
    except ModelNotFoundError:
        return False
