"""What a request promises of its answer, as a constraint: the family's own framing around the client's schemas.

Here the siblings meet: ``constraints`` says which calls and which answers are allowed, ``parsing`` how this family of
models writes them and what it writes before them, and ``constraints`` compiles both into one grammar.

A model of no known tool-call format writes forced calls as plain JSON, and the generic JSON parser reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from portico.constraints import Limits, answer_grammar, call_policy, compile_constraint
from portico.errors import NotSupportedError
from portico.events import Constraint
from portico.generation.model import Model
from portico.parsing.registry import program
from portico.prompting import Tokenizer

__all__ = ["Promise", "promised"]

GENERIC_PARSER = "json"


class Promise(NamedTuple):
    """What is held of an answer: the constraint (None: anything goes), the name of the parser that reads its calls,
    and in words what of the request's schemas is left out, because no grammar can hold it."""

    constraint: Constraint | None
    tool_parser: str | None
    left_out: tuple[str, ...] = ()


def promised(
    model: Model,
    prompt_tail: str,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    tool_choice: str | Mapping[str, Any] | None = None,
    parallel_tool_calls: bool | None = None,
    response_format: Mapping[str, Any] | None = None,
    structured_outputs: Mapping[str, Any] | None = None,
    older: Mapping[str, Any] | None = None,
    plain: bool = False,
) -> Promise:
    """The promise of a request.

    All arguments are in OpenAI's shape; ``older`` are fields that say what ``structured_outputs`` does. ``plain`` says
    that the text is a completion, before which nobody thinks.
    Raises ``BadRequestError`` naming the field that cannot be promised.
    """
    limits = Limits(schema_depth=model.limits.schema_depth)
    answer = answer_grammar(response_format, structured_outputs, limits, older)
    able = bool(model.capabilities & {"constraints", "structural_tags"})
    policy = call_policy(tools, tool_choice, parallel_tool_calls if able else None)  # else reading stops behind one
    tool_parser = model.tool_parser
    if answer is None and (policy is None or not policy.binding):
        return Promise(None, tool_parser)
    if tool_parser is None and policy is not None and policy.low:
        tool_parser = GENERIC_PARSER
    family = program(tool_parser, None if plain else model.reasoning_parser)
    compiled = compile_constraint(
        answer=answer,
        policy=policy,
        calls=family.grammar(policy.tools, policy.high) if policy is not None else None,
        frame=family.frame(prompt_tail),
        control_tokens=_control_tokens(model.tokenizer),
        with_structural_tag="structural_tags" in model.capabilities,
        limits=limits,
    )
    grammars = tuple(f"grammar of {tool.name}" for tool in (policy.tools if policy else ()) if tool.has_grammar)
    if compiled is None:  # for want of a format of calls
        strict = (policy.strict,) if policy is not None and policy.strict else ()
        return Promise(None, tool_parser, (*grammars, *strict))
    if not able:
        sent = {"response_format": response_format, "structured_outputs": structured_outputs, **(older or {})}
        field = next((name for name, value in sent.items() if value), None)
        if field is None and policy is not None:
            field = "tool_choice" if policy.low else policy.strict or None
        if field is not None:
            raise NotSupportedError(f"This engine cannot enforce '{field}'.", param=field)
        return Promise(None, tool_parser, grammars)
    left_out = dict.fromkeys(compiled.left_out)
    if "constraints" not in model.capabilities:  # structural tags have no form for these
        left_out |= dict.fromkeys(grammars)
    return Promise(compiled.constraint, tool_parser, tuple(left_out))


@lru_cache(maxsize=16)
def _control_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """The vocabulary's special tokens, name to id."""
    return {name: token for name, token in tokenizer.added_tokens.items() if token in tokenizer.special_ids}
