"""Items in the neutral shape (OpenAI's chat messages) that ``portico.prompting`` normalises.

- What the model made between two inputs is one turn of the assistant: its thoughts, its texts, its calls.
- A thought comes from its ``encrypted_content`` where this server sealed it, else from its ``content``; a summary is
  not what the model thought. What another server sealed is left out and told: a conversation that has moved here must
  not fail over it. A compacted past stands for all that the model said and did before it; that of another server is
  refused, since it was the whole conversation.
- Every output answers a call before it, and every call is answered before the next word of somebody else: templates
  know nothing else.
- Tools that a search has found join the request's own.
- Items of hosted tools and of unknown types are left out and told; there is a new type every month.

Refusals are ``BadRequestError`` with the path of the item at fault.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from portico.errors import BadRequestError
from portico.protocols.places import Origin
from portico.protocols.responses.items import Item, kind_of
from portico.protocols.responses.sealing import Sealer
from portico.protocols.responses.tools import CLIENT_RUN, flat_name

__all__ = ["Conversation", "read_conversation"]

_ROLES = ("user", "assistant", "system", "developer")
DENIED = "The user has not allowed this call."
COMPACTED = "What was said before, in short:"


@dataclass
class Conversation:
    """What a prompt is made of. ``tools`` are those that items have brought."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)  # where each message comes from
    tools: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # what did not reach the model, for people


def read_conversation(
    items: Sequence[Item],
    sealer: Sealer,
    *,
    instructions: str | None = None,
    before: int = 0,
    thoughts: str | None = None,
) -> Conversation:
    """Read ``items``, of which the first ``before`` are of earlier responses. ``thoughts`` is ``reasoning.context``:
    with ``current_turn`` those before the last word of the user are not shown again."""
    reader = _Reader(sealer)
    if instructions:
        reader.say("system", instructions, "instructions")
    for index, item in enumerate(items):
        path = f"input[{index - before}]" if index >= before else "previous_response_id"
        reader.item(item, path)
    found = reader.close()
    if thoughts == "current_turn":
        last = max((i for i, message in enumerate(found.messages) if message["role"] == "user"), default=-1)
        for message in found.messages[: max(last, 0)]:
            message.pop("reasoning", None)
    return found


class _Reader:
    def __init__(self, sealer: Sealer) -> None:
        self._found = Conversation()
        self._sealer = sealer
        self._turn: _Turn | None = None  # of the assistant, while it goes on
        self._unanswered: dict[str, str] = {}  # ids of calls -> their paths
        self._to_approve: dict[str, tuple[Item, str]] = {}  # requests of MCP tools, and their paths, by their ids

    def close(self) -> Conversation:
        """The end of the conversation."""
        self._end_turn()
        self._all_answered()
        return self._found

    def say(self, role: str, content: Any, path: str) -> None:
        """A message of somebody who is not the model."""
        self._end_turn()
        self._all_answered()
        paths = [f"{path}.content[{n}]" for n in range(len(content))] if isinstance(content, list) else [path]
        self._add({"role": role, "content": content}, Origin(paths))

    def item(self, item: Item, path: str) -> None:
        """The next item."""
        kind = kind_of(item)
        if kind == "message":
            self._message(item, path)
        elif kind == "reasoning":
            self._reasoning(item, path)
        elif kind in _CALLS:
            name, arguments = _CALLS[kind](item, path)
            self._call(_text(item, "call_id", path), name, arguments, path)
        elif kind in _OUTPUTS:
            self._output(_answered(kind, item, path), _output_content(kind, item, path), path)
        elif kind == "tool_search_output":
            self._tool_search_output(item, path)
        elif kind == "additional_tools":
            self._found.tools += _tools(item, path)
        elif kind == "mcp_call":
            self._mcp_call(item, path)
        elif kind == "mcp_approval_request":
            self._to_approve[_text(item, "id", path)] = item, path
        elif kind == "mcp_approval_response":
            self._mcp_approval_response(item, path)
        elif kind == "compaction":
            self._compaction(item, path)
        elif kind not in _SILENT:
            self._found.left_out.append(f"{path} ({kind[:40]})")

    # -- kinds --------------------------------------------------------------------------------------------------------

    def _message(self, item: Item, path: str) -> None:
        role = item.get("role")
        if role not in _ROLES:
            raise BadRequestError(f"{path}.role must be one of {', '.join(_ROLES)}.", param=f"{path}.role")
        content = item.get("content")
        if not isinstance(content, str | list):
            raise BadRequestError(f"{path}.content must be text or a list of parts.", param=f"{path}.content")
        if role == "assistant":
            turn = self._assistant()
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            turn.parts += parts
            turn.paths += [f"{path}.content[{n}]" for n in range(len(parts))]
        else:
            self.say(role, content or "", path)

    def _reasoning(self, item: Item, path: str) -> None:
        turn = self._assistant()
        sealed = item.get("encrypted_content")
        thought = self._sealer.open(sealed, "thought") if sealed else None
        if thought is None:
            content = item.get("content")
            texts = (
                [part.get("text") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
            )
            thought = "".join(text for text in texts if isinstance(text, str))
            if sealed and not thought:
                self._found.left_out.append(f"{path}.encrypted_content (not sealed by this server)")
        if thought:
            turn.thoughts.append(thought)
            turn.thought_paths.append(path)

    def _call(self, id: str, name: str, arguments: Any, path: str) -> None:
        turn = self._assistant()
        turn.calls.append({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        turn.call_paths.append(path)
        self._unanswered[id] = path

    def _output(self, id: str, content: Any, path: str) -> None:
        self._end_turn()
        if self._unanswered.pop(id, None) is None:
            raise BadRequestError(
                f"{path}: there is no call with call_id '{id[:64]}' in front of this output.", param=f"{path}.call_id"
            )
        paths = [f"{path}.output[{n}]" for n in range(len(content))] if isinstance(content, list) else [path]
        self._add({"role": "tool", "tool_call_id": id, "content": content}, Origin(paths))

    def _tool_search_output(self, item: Item, path: str) -> None:
        found = _tools(item, path)
        self._found.tools += found
        id = item.get("call_id")
        if isinstance(id, str) and id in self._unanswered:
            names = ", ".join(str(tool.get("name")) for tool in found)
            self._output(id, f"These tools can be used now: {names}." if names else "No tool was found.", path)

    def _mcp_call(self, item: Item, path: str) -> None:
        error = item.get("error")
        output = item.get("output")
        self._ran(item, output if isinstance(output, str) else _error_text(error) if error else "", path)

    def _mcp_approval_response(self, item: Item, path: str) -> None:
        """A call that was approved is an item of its own; one that was not has this for its output."""
        wish = self._to_approve.pop(_text(item, "approval_request_id", path), None)
        if wish is None:
            raise BadRequestError(
                f"{path}: there is no mcp_approval_request of this id in front of it.",
                param=f"{path}.approval_request_id",
            )
        if item.get("approve") is not True:
            reason = item.get("reason")
            self._ran(wish[0], f"{DENIED} {reason}" if isinstance(reason, str) and reason else DENIED, wish[1])

    def _ran(self, item: Item, output: str, path: str) -> None:
        """A call that has its output with it. Those in a row are of one turn."""
        id = str(item.get("id") or path)
        name = flat_name(_text(item, "server_label", path), _text(item, "name", path))
        turn = self._turn or self._assistant()
        function = {"name": name, "arguments": item.get("arguments") or "{}"}
        turn.calls.append({"id": id, "type": "function", "function": function})
        turn.call_paths.append(path)
        turn.outputs.append((id, output, path))

    def _compaction(self, item: Item, path: str) -> None:
        summary = self._sealer.open(item.get("encrypted_content"), "compaction")
        if summary is None:
            param = f"{path}.encrypted_content"
            raise BadRequestError(
                f"{param} was not made by this server, or under another signing key; it holds the conversation so far, "
                "which cannot be read here. Send the conversation itself.",
                param=param,
            )
        self._end_turn()
        self._unanswered.clear()
        found = self._found
        kept = [n for n, message in enumerate(found.messages) if message["role"] not in ("assistant", "tool")]
        found.messages, found.origins = [found.messages[n] for n in kept], [found.origins[n] for n in kept]
        self.say("developer", f"{COMPACTED}\n\n{summary}", path)

    # -- turns --------------------------------------------------------------------------------------------------------

    def _assistant(self) -> _Turn:
        if self._turn is not None and self._turn.outputs:
            self._end_turn()
        if self._turn is None:
            self._all_answered()
            self._turn = _Turn()
        return self._turn

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None and (turn.parts or turn.calls or turn.thoughts):
            self._add(turn.message, Origin(turn.paths, turn.call_paths, turn.thought_paths))
            for id, output, path in turn.outputs:
                self._add({"role": "tool", "tool_call_id": id, "content": output}, Origin([path]))

    def _all_answered(self) -> None:
        for id, path in self._unanswered.items():
            raise BadRequestError(f"No tool output found for the call '{id[:64]}' of {path}.", param="input")

    def _add(self, message: dict[str, Any], origin: Origin) -> None:
        self._found.messages.append(message)
        self._found.origins.append(origin)


@dataclass
class _Turn:
    """What the model said in one go."""

    thoughts: list[str] = field(default_factory=list)
    thought_paths: list[str] = field(default_factory=list)
    parts: list[Any] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    call_paths: list[str] = field(default_factory=list)
    outputs: list[tuple[str, str, str]] = field(default_factory=list)  # that calls have with them: id, text, path

    @property
    def message(self) -> dict[str, Any]:
        single = len(self.parts) == 1 and isinstance(self.parts[0], dict) and isinstance(self.parts[0].get("text"), str)
        message: dict[str, Any] = {"role": "assistant"}
        message["content"] = self.parts[0]["text"] if single else self.parts or ""
        if self.thoughts:
            message["reasoning"] = "\n\n".join(self.thoughts)
        if self.calls:
            message["tool_calls"] = self.calls
        return message


# -- calls and outputs of every kind ----------------------------------------------------------------------------------


def _function_call(item: Item, path: str) -> tuple[str, Any]:
    namespace = item.get("namespace")
    name = _text(item, "name", path)
    arguments = item.get("arguments")
    if not isinstance(arguments, str | dict | None):
        raise BadRequestError(f"{path}.arguments must be text.", param=f"{path}.arguments")
    return flat_name(namespace, name) if isinstance(namespace, str) else name, arguments or "{}"


def _custom_call(item: Item, path: str) -> tuple[str, Any]:
    namespace, name = item.get("namespace"), _text(item, "name", path)
    return (flat_name(namespace, name) if isinstance(namespace, str) else name), {"input": _text(item, "input", path)}


def _client_run_call(item: Item, path: str) -> tuple[str, Any]:
    kind = CLIENT_RUN[kind_of(item).removesuffix("_call")]
    inside = item.get(kind.key)
    if not isinstance(inside, Mapping):
        raise BadRequestError(f"{path}.{kind.key} must be an object.", param=f"{path}.{kind.key}")
    return kind.name, kind.arguments_of(inside)


_CALLS = {
    "function_call": _function_call,
    "custom_tool_call": _custom_call,
    **{f"{kind}_call": _client_run_call for kind in CLIENT_RUN},
}
_OUTPUTS = (
    "function_call_output",
    "custom_tool_call_output",
    "local_shell_call_output",
    "shell_call_output",
    "apply_patch_call_output",
)
_SILENT = ("compaction_trigger", "configuration_update", "item_reference", "mcp_list_tools")


def _answered(kind: str, item: Item, path: str) -> str:
    """The id of the call that this is the output of: to OpenAI's SDKs that of a local shell has it for its own id."""
    local = kind == "local_shell_call_output" and item.get("call_id") is None
    return _text(item, "id" if local else "call_id", path)


def _output_content(kind: str, item: Item, path: str) -> Any:
    output = item.get("output")
    if kind == "shell_call_output" and isinstance(output, list):
        return json.dumps(output, ensure_ascii=False)
    if kind == "apply_patch_call_output":
        return "\n".join(text for text in (item.get("status"), output) if isinstance(text, str) and text)
    if not isinstance(output, str | list):
        raise BadRequestError(f"{path}.output must be text or a list of parts.", param=f"{path}.output")
    return output


def _error_text(error: Any) -> str:
    """What went wrong with a call, as a model reads it."""
    if isinstance(error, Mapping):
        content = error.get("content")
        texts = [part.get("text") for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
        error = "\n".join(text for text in texts if isinstance(text, str)) or error.get("message") or error
    return f"Error: {error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)}"


def _tools(item: Item, path: str) -> list[dict[str, Any]]:
    tools = item.get("tools")
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRequestError(f"{path}.tools must be a list of tools.", param=f"{path}.tools")
    return tools


def _text(item: Item, key: str, path: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value:
        if isinstance(value, str) and key == "input":
            return value
        raise BadRequestError(f"{path}.{key} must be text.", param=f"{path}.{key}")
    return value
