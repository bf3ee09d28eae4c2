"""One grammar for all that a request promises.

The parts are made elsewhere: the answer's grammar from ``response_format`` (``answer``), the allowed calls from
``tools`` (``tools``), the family's framing of these calls and of its thinking by parsing. Here they are put together:

    answer          calls           the text is
    -               must be made    calls
    constrained     must be made    calls (a forced call is no answer)
    constrained     may be made     the answer, or calls
    constrained     -               the answer
    -               may, binding    free text, in which what begins like a call is one of the allowed calls
    -               otherwise       anything: no constraint

In front of it stands what the family thinks: up to the end of the thought nothing is constrained.

Everything is pure. Whether an engine can follow the result in reasonable time is found out by ``trial``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from portico.constraints import structural_tag
from portico.constraints.lark import to_lark
from portico.constraints.limits import Limits
from portico.constraints.schema import normalise
from portico.constraints.tools import CallPolicy
from portico.errors import NotSupportedError
from portico.events import Constraint
from portico.grammar import (
    Anything,
    Calls,
    Chain,
    Exactly,
    Frame,
    Grammar,
    Json,
    OneOf,
    Pattern,
    Prose,
    Repeated,
    Until,
)

__all__ = ["Compiled", "compile_constraint", "json_calls", "thinking"]


class Compiled(NamedTuple):
    """A request's constraint; ``left_out`` says in words what of its schemas no grammar can hold."""

    constraint: Constraint
    left_out: tuple[str, ...]


def compile_constraint(
    *,
    answer: Grammar | None = None,
    policy: CallPolicy | None = None,
    calls: Calls | None = None,
    frame: Frame | None = None,
    control_tokens: Mapping[str, int] | None = None,
    with_structural_tag: bool = False,
    limits: Limits | None = None,
) -> Compiled | None:
    """What a request promises, compiled; None when any text keeps its promises.

    ``calls`` is how the family writes the calls of ``policy``, at least one (``policy.low`` is about whether they must
    be there); None when the family has no grammar, which is an error only if calls must be made. ``control_tokens``
    are the special tokens of the engine's vocabulary, name to id. ``with_structural_tag`` fills that field too.

    Raises ``BadRequestError`` on the field at fault for a schema or grammar that cannot be held, and
    ``NotSupportedError`` for a combination that this family cannot express.
    """
    limits = limits or Limits()
    frame = frame or Frame()
    grammar = _combined(answer, policy, calls, frame, limits)
    if grammar is None:
        return None
    if frame.thought is not None:
        after = Chain((frame.thought, grammar))
        grammar = OneOf((after, grammar)) if frame.may_skip else after
    tag = structural_tag.write(grammar, limits) if with_structural_tag else None
    text, left_out, enforced = to_lark(grammar, control_tokens or {}, limits)
    custom = [tool for tool in (policy.tools if policy is not None else ()) if tool.has_grammar]
    unheld = [f"grammar of {tool.name}" for tool in custom if tool.arguments.param not in enforced]
    return Compiled(Constraint(text, tag), (*left_out, *unheld))


def thinking(opens: tuple[str, ...], closes: tuple[str, ...], *, is_open: bool) -> Frame:
    """The frame of a family that thinks between markers. ``is_open``: the prompt has left a thought open."""
    rest: tuple[Grammar, ...] = (Until(closes), Pattern(r"[ \t\r\n]{0,8}"))
    if is_open:
        return Frame(Chain(rest), may_skip=False)
    starts = tuple(Exactly(opener) for opener in opens)
    return Frame(Chain((starts[0] if len(starts) == 1 else OneOf(starts), *rest)))


def json_calls(policy: CallPolicy) -> Calls:
    """Calls as a JSON list of ``{"name": …, "parameters": …}``, for families that have no framing of their own."""
    options = tuple(
        Chain((Exactly(f'{{"name": {json.dumps(tool.name)}, "parameters": '), tool.arguments, Exactly("}")))
        for tool in policy.tools
    )
    list_ = Repeated(OneOf(options), max(policy.low, 1), policy.high, separator=", ")
    return Calls(Chain((Exactly("["), list_, Exactly("]"))))


def _combined(
    answer: Grammar | None, policy: CallPolicy | None, calls: Calls | None, frame: Frame, limits: Limits
) -> Grammar | None:
    if answer is not None and frame.header is not None:
        answer = Chain((frame.header, answer))
    if policy is None or (calls is None and not policy.low):
        return answer
    if calls is None:
        raise NotSupportedError(
            "tool_choice cannot be enforced with this model's tool-call format.", param="tool_choice"
        )
    if policy.low:
        return calls.calls
    if answer is not None:
        return _either(answer, calls, limits)
    return _prose(policy, calls, frame) if policy.binding else None


def _prose(policy: CallPolicy, calls: Calls, frame: Frame) -> Grammar | None:
    """Free text with calls in it; None when what begins a call cannot be told from text."""
    if frame.header is not None:
        return OneOf((calls.calls, Chain((frame.header, Anything()))))
    rest = [(opener, _behind(calls.calls, opener)) for opener in calls.openers]
    if paired := tuple((opener, behind) for opener, behind in rest if behind is not None):
        return Prose(paired, once=policy.high == 1)
    first = _first_characters(calls.calls)
    if first is None:
        return None
    unlike = "".join(re.escape(character) for character in sorted(first))
    return OneOf((calls.calls, Chain((Pattern(rf"[^{unlike}\s]"), Anything()))))


def _behind(grammar: Grammar, opener: str) -> Grammar | None:
    """What is left of ``grammar`` behind ``opener``; None when it does not begin with that."""
    match grammar:
        case Exactly(text) if text.startswith(opener):
            return Exactly(text[len(opener) :])
        case Chain(parts) if parts:
            first = _behind(parts[0], opener)
            return None if first is None else Chain((first, *parts[1:]))
        case OneOf(options):
            found = tuple(behind for behind in (_behind(option, opener) for option in options) if behind is not None)
            return OneOf(found) if found else None
        case Repeated(part, low, high, separator) if low or high != 0:
            first = _behind(part, opener)
            following = Chain((Exactly(separator), part)) if separator else part
            more = Repeated(following, max(low - 1, 0), None if high is None else high - 1)
            return None if first is None else Chain((first, more))
    return None


def _first_characters(grammar: Grammar) -> set[str] | None:
    """The characters that a text of ``grammar`` begins with; None when that cannot be told."""
    match grammar:
        case Exactly(text) if text:
            return {text[0]}
        case Chain(parts) if parts:
            return _first_characters(parts[0])
        case Repeated(part, low) if low:
            return _first_characters(part)
        case OneOf(options):
            found = [_first_characters(option) for option in options]
            return None if None in found else set().union(*(one for one in found if one is not None))
    return None


def _either(answer: Grammar, calls: Calls, limits: Limits) -> Grammar:
    """The answer, or calls.

    The grammar compiler decides between a JSON text and a literal at their first character. Where calls have no
    opener and begin like the answer does, they become JSON texts themselves, which it can tell apart later.
    """
    if calls.openers or not isinstance(answer, Json):
        return OneOf((calls.calls, answer))
    kind = answer.schema.get("type") if isinstance(answer.schema, Mapping) else None
    begins = {"object": {"{"}, "array": {"["}}.get(str(kind), {"{", "["})
    first = _first_characters(calls.calls)
    if first is not None and not first & begins:
        return OneOf((calls.calls, answer))
    as_json = _as_json(calls.calls, limits)
    if as_json is None:
        raise NotSupportedError(
            "This model's tool calls cannot be told from a JSON answer: leave out response_format or the tools, "
            "or force a call with tool_choice.",
            param="response_format",
        )
    return OneOf((*as_json, answer))


def _as_json(grammar: Grammar, limits: Limits) -> list[Grammar] | None:
    """One call as JSON texts: ``{"name": "f", "arguments": `` schema ``}`` becomes the schema of the whole object."""
    match grammar:
        case Chain((only,)):
            return _as_json(only, limits)
        case Repeated(part):
            return _as_json(part, limits)
        case OneOf(options):
            found = [_as_json(option, limits) for option in options]
            return None if None in found else [one for some in found if some for one in some]
        case Chain((Exactly(before), Json() as hole, Exactly(after))):
            try:
                members = json.loads(f"{before}null{after}")
            except ValueError:
                return None
            if not isinstance(members, dict):
                return None
            return [Json(_object(members, hole, limits), hole.param, hole.strict, hole.white_space)]
    return None


def _object(members: dict[str, Any], hole: Json, limits: Limits) -> dict[str, Any]:
    """The schema of an object with these members, of which the null is to be ``hole``.

    References count from the root, so the inner schema is normalised first: then they all lead to its ``$defs``.
    """
    schema = normalise(hole.schema, param=hole.param, strict=hole.strict, limits=limits).schema
    definitions = schema.pop("$defs", {})
    properties = {key: schema if value is None else {"const": value} for key, value in members.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        "$defs": definitions,
    }
