"""A thinking budget, as the engine that keeps it needs it: the family's markers and the token ids that end a thought.

The front door decides, the engine enforces: only where the tokens are made can a thought be ended at one of them.
"""

from __future__ import annotations

from portico.errors import NotSupportedError
from portico.events import ThoughtBudget
from portico.generation.model import Model
from portico.parsing.registry import program
from portico.prompting import Tokenizer

__all__ = ["spelled", "thought_budget"]


def thought_budget(
    model: Model, tokens: int | None, prompt_tail: str, tool_parser: str | None = None
) -> ThoughtBudget | None:
    """The budget of ``tokens`` behind a prompt that ends like this; None where the request sets none.

    ``tool_parser`` reads the answer's calls, which end a thought too; None where calls mean nothing. Raises
    ``NotSupportedError`` on ``thinking_token_budget`` where nothing can end a thought.
    """
    if tokens is None:
        return None
    if "thinking_budget" not in model.capabilities:
        raise _unsupported("this engine cannot end a thought")
    if model.reasoning_parser is None:
        raise _unsupported("no reasoning format is known for this model; the server's --reasoning-parser names one")
    thought = program(tool_parser, model.reasoning_parser).thinking(prompt_tail)
    if thought is None:
        raise _unsupported("this model's reasoning format has no marker that ends a thought")
    return ThoughtBudget(
        tokens,
        close=tuple(model.tokenizer.encode(spelled(thought.close, model.tokenizer)[0], add_special_tokens=False)),
        openers=tuple(word for opener in thought.openers for word in spelled(opener, model.tokenizer)),
        closers=tuple(word for closer in thought.closers for word in spelled(closer, model.tokenizer)),
        open=thought.open,
    )


def _unsupported(why: str) -> NotSupportedError:
    return NotSupportedError(
        f"'thinking_token_budget' cannot be kept: {why}. Leave it out.", param="thinking_token_budget"
    )


def spelled(marker: str, tokenizer: Tokenizer) -> list[str]:
    """A marker as this vocabulary spells it: ``<think*>`` may be ``<think:6124c78e>``, and is ``<think>`` otherwise."""
    before, star, after = marker.partition("*")
    if not star:
        return [marker]
    found = [token for token in tokenizer.added_tokens if token.startswith(before + ":") and token.endswith(after)]
    return [*found, before + after]
