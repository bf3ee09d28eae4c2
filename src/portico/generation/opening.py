"""What the model writes in front of its answer, for requests that want the answer's first token and nothing else."""

from __future__ import annotations

from portico.generation.model import Model
from portico.generation.thinking import spelled
from portico.grammar import Exactly
from portico.parsing.registry import program

__all__ = ["answer_opening"]


def answer_opening(model: Model, prompt_tail: str) -> str:
    """The text between a prompt that ends like this and an answer without a thought: what closes a thought that the
    prompt has opened, and the header of an answer where the family has one."""
    family = program(model.tool_parser, model.reasoning_parser)
    thought = family.thinking(prompt_tail)
    closing = spelled(thought.close, model.tokenizer)[0] if thought is not None and thought.open else ""
    header = family.frame(prompt_tail).header
    return closing + (header.text if isinstance(header, Exactly) else "")
