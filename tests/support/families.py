"""Framings of calls in the shapes that families have, as parsing would describe them."""

from __future__ import annotations

from collections.abc import Callable

from portico.constraints import CallPolicy, json_calls
from portico.grammar import Calls, Chain, Exactly, Grammar, OneOf, Repeated, Tool


def _each(policy: CallPolicy, begin: str, end: str) -> Grammar:
    def call(tool: Tool) -> Grammar:
        return Chain((Exactly(begin.replace("NAME", tool.name)), tool.arguments, Exactly(end)))

    return OneOf(tuple(map(call, policy.tools)))


def _many(policy: CallPolicy, call: Grammar, separator: str = "") -> Grammar:
    return Repeated(call, max(policy.low, 1), policy.high, separator)


def tagged(policy: CallPolicy) -> Calls:
    """A tag of plain text around a JSON object."""
    call = _each(policy, '<tool_call>\n{"name": "NAME", "arguments": ', "}\n</tool_call>")
    return Calls(_many(policy, call, "\n"), ("<tool_call>",))


def token(policy: CallPolicy) -> Calls:
    """A special token of the vocabulary, a name, raw JSON."""
    return Calls(_many(policy, _each(policy, "<|im_start|>NAME[ARGS]", "")), ("<|im_start|>",))


def section(policy: CallPolicy) -> Calls:
    """A section around all calls."""
    call = _each(policy, "<call>NAME:", "</call>")
    return Calls(Chain((Exactly("<calls>"), _many(policy, call), Exactly("</calls>"))), ("<calls>",))


def bare(policy: CallPolicy) -> Calls:
    """A JSON object and nothing around it."""
    return Calls(_many(policy, _each(policy, '{"name": "NAME", "parameters": ', "}"), "; "))


FAMILIES: dict[str, Callable[[CallPolicy], Calls]] = {
    "tagged": tagged,
    "token": token,
    "section": section,
    "bare": bare,
    "list": json_calls,
}
# one call of ``add`` with these arguments, as each family writes it
ONE = {
    "tagged": '<tool_call>\n{"name": "add", "arguments": %s}\n</tool_call>',
    "token": "<|im_start|>add[ARGS]%s",
    "section": "<calls><call>add:%s</call></calls>",
    "bare": '{"name": "add", "parameters": %s}',
    "list": '[{"name": "add", "parameters": %s}]',
}
TWO = {
    "tagged": f"{ONE['tagged']}\n{ONE['tagged']}",
    "token": 2 * ONE["token"],
    "section": "<calls><call>add:%s</call><call>add:%s</call></calls>",
    "bare": f"{ONE['bare']}; {ONE['bare']}",
    "list": '[{"name": "add", "parameters": %s}, {"name": "add", "parameters": %s}]',
}
