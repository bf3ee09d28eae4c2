"""Turns in an order and shape that a template takes: the rules about a conversation as a whole.

In: messages read one by one (``messages``), each in the form that the template takes. Out: the same, with system
messages where the template has a place for them, neighbours merged where roles must alternate, calls dealt out one by
one where a template takes one at a time, call ids as strict templates demand them, and results that know the name of
the call they answer.
"""

from __future__ import annotations

import hashlib
from typing import Any

from portico.prompting.capabilities import Capabilities
from portico.prompting.said import concat, join

__all__ = ["REASONING_KEYS", "arrange"]

REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")


def arrange(messages: list[dict[str, Any]], takes: Capabilities) -> list[dict[str, Any]]:
    """Fit the order of ``messages``, which may be changed, to a template that takes ``takes``."""
    _name_results(messages)
    messages = _place_systems(messages, takes)
    if not takes.same_role_twice:
        messages = _merge_neighbours(messages)
    if not takes.parallel_calls:
        messages = _one_call_at_a_time(messages)
    if takes.short_call_ids:
        _shorten_call_ids(messages)
    return messages


def _name_results(messages: list[dict[str, Any]]) -> None:
    names: dict[Any, str] = {}
    for message in messages:
        for call in message.get("tool_calls", ()):
            call_id = call.get("id")
            if isinstance(call_id, str):
                names[call_id] = call["function"]["name"]
        if message["role"] == "tool" and "name" not in message:
            call_id = message.get("tool_call_id")
            if isinstance(call_id, str) and call_id in names:
                message["name"] = names[call_id]


def _place_systems(messages: list[dict[str, Any]], takes: Capabilities) -> list[dict[str, Any]]:
    """Merge the system messages that the template has no place for."""
    systems = [i for i, message in enumerate(messages) if message["role"] == "system"]
    if not systems:
        return messages
    first_other = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    several = len([i for i in systems if i < first_other]) > 1
    late = systems[-1] > first_other
    if takes.system and (takes.several_systems or not several) and (takes.late_systems or not late):
        return messages
    text = join("\n\n", filter(None, (_text_in(messages[i]["content"]) for i in systems)))
    others = [message for message in messages if message["role"] != "system"]
    if takes.system:
        return [{**messages[systems[0]], "content": _as(text, "system", takes)}, *others]
    for i, message in enumerate(others):
        if message["role"] == "user":
            opened = {**message, "content": _prepend(text, message["content"])}
            return [*others[:i], opened, *others[i + 1 :]]
    return [{"role": "user", "content": _as(text, "user", takes)}, *others]


def _text_in(content: Any) -> str:
    if isinstance(content, list):
        return join("\n", (part["text"] for part in content if part["type"] == "text"))
    return content or ""


def _as(text: str, role: str, takes: Capabilities) -> Any:
    return text if takes.strings or role not in takes.parts else _typed(text)


def _prepend(text: str, content: Any) -> Any:
    if isinstance(content, list):
        return [*_typed(text + "\n\n"), *content]
    return concat([text, "\n\n", content])


def _merge_neighbours(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two users, or two plain answers, in a row become one message."""
    merged: list[dict[str, Any]] = []
    for message in messages:
        role = message["role"]
        last = merged[-1] if merged else {}
        if role != last.get("role") or role not in ("user", "assistant") or "tool_calls" in {**last, **message}:
            merged.append(message)
            continue
        merged[-1] = {**last, **message, "content": _append(last["content"], message["content"])}
    return merged


def _append(content: Any, more: Any) -> Any:
    if isinstance(content, list) or isinstance(more, list):
        first, second = (part if isinstance(part, list) else _typed(part) for part in (content, more))
        return [*first, *_typed("\n\n"), *second]
    return join("\n\n", filter(None, (content, more)))


def _typed(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _one_call_at_a_time(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Deal out parallel calls: each call in a turn of its own, followed by its result."""
    dealt: list[dict[str, Any]] = []
    i = 0
    while i < len(messages):
        message = messages[i]
        i += 1
        calls = message.get("tool_calls", ())
        if len(calls) < 2:
            dealt.append(message)
            continue
        results = []
        while i < len(messages) and messages[i]["role"] == "tool":
            results.append(messages[i])
            i += 1
        for k, call in enumerate(calls):
            turn = {**message, "tool_calls": [call]}
            if k:
                turn["content"] = "" if isinstance(message["content"], str) else message["content"] and []
                for key in REASONING_KEYS:
                    turn.pop(key, None)
            dealt.append(turn)
            answer = next(
                (r for r in results if r.get("tool_call_id") == call.get("id")), results[0] if results else None
            )
            if answer is not None:
                results.remove(answer)
                dealt.append(answer)
        dealt.extend(results)
    return dealt


def _shorten_call_ids(messages: list[dict[str, Any]]) -> None:
    """Call ids as Mistral's templates demand them: nine letters or digits, the same for a call and its result."""
    for message in messages:
        for call in message.get("tool_calls", ()):
            if "id" in call:
                call["id"] = _short_id(call["id"])
        if "tool_call_id" in message:
            message["tool_call_id"] = _short_id(message["tool_call_id"])


def _short_id(call_id: Any) -> str:
    text = str(call_id)
    if len(text) == 9 and text.isascii() and text.isalnum():
        return text
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()[:9]
