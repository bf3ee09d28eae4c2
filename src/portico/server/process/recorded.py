"""What served a recorded request, made again from the record: the model, its prompts, its tokenizer.

Two ways. With the model's own tokenizer everything is done anew. Without, prompts are written with the recorded
template, their tokens are taken as recorded, and text is made from the recorded part of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from portico.constraints import Checker, Vocabulary
from portico.generation import Limits, Model
from portico.parsing.registry import program
from portico.prompting import ChatTemplate, Prompt, Prompter, Renderer, Tokenizer
from portico.server.line.line import Line
from portico.server.line.model import ServedModel
from portico.server.observe.export import PLAIN_FACTS
from portico.trace import Export, RecordedTokenizer, UnrecordedError

__all__ = ["CannotReplayError", "Means", "models_of", "served_again"]


class CannotReplayError(Exception):
    """This trace cannot be replayed; the message says why, and what would help."""


@dataclass(frozen=True)
class Means:
    """What a replay is done with, where it is not what was recorded.

    ``tokenizer`` is the model's own, with ``renderer`` if it does not write prompts with a Jinja template. ``template``
    goes before the recorded one, and the parsers before the recorded ones (``none``: without one).
    """

    tokenizer: Tokenizer | None = None
    renderer: Renderer | None = None
    template: str | None = None
    tool_parser: str | None = None
    reasoning_parser: str | None = None


def models_of(recorded: Export) -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = recorded.facts["models"]
    return models


def served_again(facts: dict[str, Any], recorded: Export, means: Means, line: Line) -> ServedModel:
    plain = {name: facts[name] for name in PLAIN_FACTS if name in facts}
    for name in ("tool_parser", "reasoning_parser"):
        if (given := getattr(means, name)) is not None:
            plain[name] = None if given == "none" else given
    try:
        program(plain["tool_parser"], plain["reasoning_parser"])
    except ValueError as error:
        raise CannotReplayError(f"{error}; if it comes from a plugin, give --parser-plugin.") from None
    tokenizer = means.tokenizer or _Recorded(recorded, facts["prompts"])
    model = Model(
        **plain,
        capabilities=frozenset(facts["capabilities"]),
        limits=Limits(**facts["limits"]),
        tokenizer=tokenizer,
        prompter=_prompter(facts["prompts"], tokenizer, recorded, means),
    )
    checker = None
    if means.tokenizer is not None and facts["checked"]:
        pieces = [tokenizer.token_bytes(token) for token in range(model.vocab_size)]
        checker = Checker(Vocabulary(pieces, sorted(tokenizer.special_ids), tokenizer.eos_token_id or 0))
    adapters = [replace(model, name=name, parent=model.name) for name in facts["adapters"]]
    return ServedModel(model, facts["names"], line, checker, adapters, facts.get("patterns", ()))


def _prompter(facts: dict[str, Any], tokenizer: Tokenizer, recorded: Export, means: Means) -> Prompter:
    source = means.template or facts.get("template")
    template = ChatTemplate(source, tokenizer.special_tokens) if source is not None else means.renderer
    options: dict[str, Any] = {
        "modalities": facts["modalities"],
        "defaults": facts["variables"],
        "allowed_kwargs": facts["allowed"],
        "request_templates": facts["request_templates"],
        "show_schema": facts.get("show_schema", False),
        "control_tokens_in_messages": facts.get("control_tokens", True) or isinstance(tokenizer, _Recorded),
        "own_markers": facts.get("own_markers", ()),
    }
    if isinstance(tokenizer, _Recorded):
        return _RecordedPrompter(tokenizer, template, recorded, **options)
    return Prompter(tokenizer, template, **options)


class _Recorded(RecordedTokenizer):
    """The recorded part of a tokenizer, which has learned the prompts by heart."""

    def __init__(self, recorded: Export, facts: Mapping[str, Any]) -> None:
        if recorded.vocabulary is None and recorded.of_kind("prompt_tokens"):
            raise CannotReplayError("The vocabulary is not in the trace: the replay needs --model.")
        super().__init__(recorded.vocabulary or {**NOTHING, "roles": facts["special_tokens"]})
        self.missing = False
        self._prompts = {prompt.text: prompt.token_ids for prompt in _prompts(recorded)}

    def encode(self, text: str, *, add_special_tokens: bool = False, parse_special: bool = True) -> list[int]:
        """The tokens of a recorded prompt, or of a token."""
        known = self._prompts.get(text)
        if known is not None:
            return list(known)
        try:
            return super().encode(text, add_special_tokens=add_special_tokens, parse_special=parse_special)
        except UnrecordedError:
            self.missing = True
            raise


NOTHING = {
    "kind": "none",
    "size": 0,
    "tokens": [],
    "added": {},
    "special": [],
    "roles": {},
    "bos": None,
    "eos": None,
    "ends": [],
    "opening_repeats": False,
    "each_byte": False,
    "special_breaks": False,
}


class _RecordedPrompter(Prompter):
    """Writes prompts with the recorded template, where there is one; their tokens are as recorded."""

    def __init__(self, tokenizer: _Recorded, template: Any, recorded: Export, **options: Any) -> None:
        super().__init__(tokenizer, template, **options)
        self._recorded = _prompts(recorded)
        self._tokenizer = tokenizer

    def render_chat(self, *arguments: Any, **options: Any) -> Prompt:
        """The prompt of a conversation; one that reads otherwise than the recorded one still has its tokens."""
        if not self._recorded:
            if self.renderer is None:
                self._tokenizer.missing = True
            return super().render_chat(*arguments, **options)
        recorded = self._recorded[0]
        if self.renderer is None:
            return recorded
        try:
            return super().render_chat(*arguments, **options)
        except UnrecordedError as error:
            self._tokenizer.missing = False
            return replace(recorded, text=error.text)


def _prompts(recorded: Export) -> list[Prompt]:
    """The recorded prompts, in order."""
    prompts = []
    for tokens in recorded.of_kind("prompt_tokens"):
        texts = [recorded.artifacts[id] for id in tokens.of if recorded.artifacts[id].kind == "prompt"]
        text = texts[0].data["text"] if texts else ""
        prompts.append(Prompt(tokens.data["ids"], text, tokens.data["tail"]))
    return prompts
