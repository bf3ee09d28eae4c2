"""Which variables a template gets beside the conversation, and who may set them.

From weakest to strongest: the operator's defaults, the reasoning switches of the request (``reasoning_effort``,
thinking on or off), the request's ``chat_template_kwargs``. The caller's own names (``messages``, ``tools``, special
tokens, the sandbox's functions, …) belong to nobody else: to set one is a ``BadRequestError``. Of the rest only names
that the template reads, or the operator allows, reach it; others are for other models and are passed over, and told.

Families spell the reasoning switch differently; what a template reads and compares with says which spelling is its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from portico.errors import BadRequestError
from portico.prompting.environment import ENVIRONMENT
from portico.prompting.syntax import Syntax

__all__ = ["EFFORTS", "nearest_effort", "reasoning_variables", "request_variables"]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
USUAL_EFFORTS = ("low", "medium", "high")  # for a template that prints whatever it is given

RESERVED = frozenset(
    {
        "messages",
        "tools",
        "documents",
        "add_generation_prompt",
        "continue_final_message",
        "chat_template",
        "template",
        "conversation",
        "tokenize",
        "add_special_tokens",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "strftime_now",
        "self",
        "loop",
        "caller",
        "varargs",
        "kwargs",
    }
)


def request_variables(
    given: object,
    syntax: Syntax,
    special_tokens: Collection[str] = (),
    allowed: Collection[str] = (),
    param: str = "chat_template_kwargs",
) -> tuple[dict[str, Any], list[str]]:
    """The part of ``chat_template_kwargs`` that reaches the template, and the names that were passed over."""
    if given is None:
        return {}, []
    if not isinstance(given, Mapping):
        raise BadRequestError(f"{param} must be an object.", param=param)
    taken: dict[str, Any] = {}
    passed_over: list[str] = []
    for name, value in given.items():
        if name in RESERVED or name in special_tokens or name in ENVIRONMENT.globals:
            raise BadRequestError(
                f"{param}.{name[:64]} cannot be set here: the name belongs to the server.", param=f"{param}.{name[:64]}"
            )
        if name in syntax.variables or name in allowed:
            taken[name] = value
        else:
            passed_over.append(name)
    return taken, passed_over


def reasoning_variables(
    syntax: Syntax, effort: str | None = None, thinking: bool | None = None, budget: int | None = None
) -> dict[str, Any]:
    """What a request for reasoning means in this template's own words.

    ``effort`` is one of ``EFFORTS``, ``thinking`` switches it on or off (by default on unless the effort is ``none``),
    ``budget`` bounds it in tokens. What the template has no word for is left out.
    """
    if effort is not None and effort not in EFFORTS:
        raise BadRequestError(f"reasoning_effort must be one of {', '.join(EFFORTS)}.", param="reasoning_effort")
    if thinking is None and effort is not None:
        thinking = effort != "none"
    known = syntax.variables
    found: dict[str, Any] = {}
    if thinking is not None:
        found.update((name, thinking) for name in ("enable_thinking", "thinking") if name in known)
        if "thinking_mode" in known:
            found["thinking_mode"] = "enabled" if thinking else "disabled"
        if "thinking_budget" in known and not thinking:
            found["thinking_budget"] = 0
        modes = syntax.literals.get("reasoning_mode", ())
        if {"/think", "/no_think"} <= set(modes):
            found["reasoning_mode"] = "/think" if thinking else "/no_think"
    if budget is not None and thinking is not False and "thinking_budget" in known:
        found["thinking_budget"] = budget
    if effort is not None:
        for name in ("reasoning_effort", "reasoning_strength"):
            if name in known:
                nearest = _nearest(effort, syntax.literals.get(name, ()), switched_off=bool(found))
                found.update({name: nearest} if nearest else {})
        if "medium_effort" in known and effort in ("low", "medium"):
            found["medium_effort"] = True
        if "low_effort" in known and effort in ("minimal", "low"):
            found["low_effort"] = True
    return found


def _nearest(effort: str, words: Collection[str], *, switched_off: bool) -> str | None:
    """The template's own word for ``effort``; None where another switch says it."""
    if effort == "none" and "no_think" in words:
        return "no_think"
    own = [word for word in EFFORTS if word in words] or USUAL_EFFORTS
    return None if effort == "none" and switched_off and "none" not in own else nearest_effort(effort, own)


def nearest_effort(effort: str, own: Collection[str]) -> str:
    """The word of ``own`` nearest to ``effort``, the stronger of two. Raises for what is no effort."""
    if effort in own:
        return effort
    if effort not in EFFORTS:
        raise BadRequestError(f"reasoning_effort must be one of {', '.join(EFFORTS)}.", param="reasoning_effort")
    wanted = EFFORTS.index(effort)
    return min(own, key=lambda word: (abs(EFFORTS.index(word) - wanted), -EFFORTS.index(word)))
