"""Anthropic's messages in the neutral shape (OpenAI's chat messages) that ``portico.prompting`` normalises.

- Neighbours of one role are one turn, as the API has it. ``system`` comes first; system messages may also stand later.
- The results in a user turn become tool messages in front of what else the user said. A failed one says so in its text.
- Thinking is replayed only where its signature shows that this server wrote it. Any other thought (of another provider,
  of a process before this one, or forged) is left out and told: the model must not take for its own what it never
  thought, and a conversation that has moved here must not fail over it.
- Pictures and documents that the model cannot read are refused in the last user turn. Inside a tool result, and
  further back, they become a note to the model: nobody can take them back, and an error would end the conversation.
- Blocks of kinds that are not known here are left out and told.

Refusals are ``BadRequestError`` with the path of the block at fault.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from portico.errors import BadRequestError, NotSupportedError
from portico.protocols.anthropic.ids import call_id_for_model
from portico.protocols.anthropic.signatures import Signer
from portico.protocols.anthropic.tool_input import INVALID
from portico.protocols.attachments import tagged
from portico.protocols.places import Origin

__all__ = ["Conversation", "read_conversation"]

Block = dict[str, Any]
Part = dict[str, Any]  # of a neutral message's content

_ROLES = ("user", "assistant", "system")

_BILLING = "x-anthropic-billing-header"  # a system block that coding agents send for Anthropic's books; new each time


@dataclass
class Conversation:
    """What a prompt is made of. ``prefilled``: the last message is the beginning of the answer."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)  # where each message comes from
    prefilled: bool = False
    referenced_tools: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)  # what did not reach the model, for people


def read_conversation(
    messages: Sequence[dict[str, Any]],
    system: str | list[Block] | None,
    signer: Signer,
    modalities: Collection[str] = (),
) -> Conversation:
    """Read a request's ``messages`` and ``system``. ``modalities`` are what the model perceives besides text."""
    reader = _Reader(signer, frozenset(modalities))
    found = reader.found
    if system:
        reader.system(_blocks(system, "system"))
    turns = list(_turns(messages))
    last_user = max((index for index, (role, _) in enumerate(turns) if role == "user"), default=-1)
    for index, (role, blocks) in enumerate(turns):
        if role == "assistant":
            reader.assistant(blocks)
        elif role == "user":
            reader.user(blocks, answered=index != last_user)
        else:
            reader.system(blocks)
    if not any(message["role"] != "system" for message in found.messages):
        raise BadRequestError("messages: there is nothing to answer.", param="messages")
    last = found.messages[-1]
    if last["role"] == "assistant":
        if last.get("tool_calls"):
            raise BadRequestError(
                "messages: the last tool_use has no tool_result; send the results in a user message behind it.",
                param=f"messages[{len(messages) - 1}]",
            )
        if not last["content"]:
            raise BadRequestError(
                "messages: an assistant message at the end is continued, so it needs text.",
                param=f"messages[{len(messages) - 1}]",
            )
        found.prefilled = True
    return found


def _turns(messages: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[tuple[str, Block]]]]:
    """Role and blocks, each with its path, of every turn."""
    turn: list[tuple[str, Block]] = []
    speaker: str | None = None
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role = message.get("role")
        if role not in _ROLES:
            raise BadRequestError(f"{where}.role must be one of {', '.join(_ROLES)}.", param=f"{where}.role")
        if speaker is not None and role != speaker:
            yield speaker, turn
            turn = []
        speaker = role
        blocks = _blocks(message.get("content"), f"{where}.content")
        if not blocks and role == "user":
            raise BadRequestError(f"{where}.content must not be empty.", param=f"{where}.content")
        turn += blocks
    if speaker is not None:
        yield speaker, turn


def _blocks(content: object, where: str) -> list[tuple[str, Block]]:
    if isinstance(content, str):
        return [(where, {"type": "text", "text": content})]
    if not isinstance(content, list):
        raise BadRequestError(f"{where} must be text or a list of content blocks.", param=where)
    blocks = []
    for index, block in enumerate(content):
        path = f"{where}[{index}]"
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise BadRequestError(f"{path} must be a content block (an object with a type).", param=path)
        blocks.append((path, block))
    return blocks


class _Reader:
    def __init__(self, signer: Signer, modalities: frozenset[str]) -> None:
        self.found = Conversation()
        self._signer = signer
        self._modalities = modalities

    # -- turns --------------------------------------------------------------------------------------------------------

    def system(self, blocks: list[tuple[str, Block]]) -> None:
        """The system prompt, or a later word of the system."""
        parts = [(path, part) for path, block in blocks for part in self._parts(path, block)]
        self._say("system", [one for one in parts if not one[1].get("text", "").startswith(_BILLING)])

    def user(self, blocks: list[tuple[str, Block]], *, answered: bool) -> None:
        """A user's turn, tool results first; ``answered``: it is not the last."""
        parts: list[tuple[str, Part]] = []
        for path, block in blocks:
            if block["type"] == "tool_result":
                self._result(path, block)
            else:
                parts += [(path, part) for part in self._parts(path, block, given=answered)]
        self._say("user", parts)

    def assistant(self, blocks: list[tuple[str, Block]]) -> None:
        """A turn of the model: its thoughts, its text, its calls."""
        parts: list[tuple[str, Part]] = []
        thoughts: list[tuple[str, str]] = []
        calls: list[tuple[str, dict[str, Any]]] = []
        for path, block in blocks:
            kind = block["type"]
            if kind == "tool_use":
                calls.append((path, _call(path, block)))
            elif kind == "thinking":
                thoughts += [(path, thought) for thought in self._thought(path, block)]
            elif kind == "redacted_thinking":
                self.found.left_out.append(f"{path} (redacted thinking)")
            else:
                parts += [(path, part) for part in self._parts(path, block, given=True)]
        if not (parts or calls or thoughts):
            return
        more: dict[str, Any] = {}
        if thoughts:
            more["reasoning"] = "\n\n".join(thought for _, thought in thoughts)
        if calls:
            more["tool_calls"] = [call for _, call in calls]
        self._add("assistant", parts, [path for path, _ in calls], [path for path, _ in thoughts], **more)

    def _say(self, role: str, parts: list[tuple[str, Part]]) -> None:
        if parts:
            self._add(role, parts)

    def _add(
        self,
        role: str,
        parts: list[tuple[str, Part]],
        calls: Sequence[str] = (),
        thoughts: Sequence[str] = (),
        **more: Any,
    ) -> None:
        self.found.messages.append({"role": role, "content": _content([part for _, part in parts]), **more})
        self.found.origins.append(Origin([path for path, _ in parts], calls, thoughts))

    # -- blocks -------------------------------------------------------------------------------------------------------

    def _parts(self, path: str, block: Block, *, given: bool = False) -> list[Part]:
        """A block of text, picture or document as neutral content parts; ``given``: it cannot be taken back."""
        kind = block["type"]
        if kind == "text":
            return [_text(_string(block, "text", path))]
        if kind == "image":
            return [self._image(path, block, given)]
        if kind == "document":
            return [self._document(path, block, given)]
        if kind == "search_result":
            attributes = {"source": block.get("source"), "title": block.get("title")}
            return [_text(tagged("search_result", attributes, _inner_text(block.get("content"))))]
        if kind == "tool_reference":
            name = _string(block, "tool_name", path)
            self.found.referenced_tools.add(name)
            return [_text(f"The tool {name} can now be used.")]
        self.found.left_out.append(f"{path} ({kind[:40]})")
        return []

    def _image(self, path: str, block: Block, given: bool) -> Part:
        source = block.get("source")
        if not isinstance(source, dict):
            raise BadRequestError(f"{path}.source must be an object.", param=f"{path}.source")
        if "image" not in self._modalities:
            return self._unreadable(path, "this model cannot see images", given)
        kind = source.get("type")
        if kind == "base64":
            media_type = _string(source, "media_type", f"{path}.source")
            url = f"data:{media_type};base64,{_string(source, 'data', f'{path}.source')}"
        elif kind == "url":
            url = _string(source, "url", f"{path}.source")
        elif kind == "file":
            return {"type": "input_image", "file_id": _string(source, "file_id", f"{path}.source")}
        else:
            return self._unreadable(path, f"images of source '{str(kind)[:40]}' are not supported", given)
        return {"type": "image_url", "image_url": {"url": url}}

    def _document(self, path: str, block: Block, given: bool) -> Part:
        source = block.get("source")
        if not isinstance(source, dict):
            raise BadRequestError(f"{path}.source must be an object.", param=f"{path}.source")
        kind = source.get("type")
        if kind == "text":
            text = _string(source, "data", f"{path}.source")
        elif kind == "content":
            text = _inner_text(source.get("content"))
        else:
            return self._unreadable(path, f"documents of source '{str(kind)[:40]}' are not supported", given)
        context = block.get("context")
        if isinstance(context, str) and context:
            text = f"{context}\n\n{text}"
        return _text(tagged("document", {"title": block.get("title")}, text))

    def _unreadable(self, path: str, reason: str, given: bool) -> Part:
        if not given:
            raise NotSupportedError(f"{path}: {reason}; send text.", param=path)
        self.found.left_out.append(f"{path} ({reason})")
        return _text(f"[left out: {reason}]")

    def _result(self, path: str, block: Block) -> None:
        content = block.get("content")
        blocks = [] if content is None else _blocks(content, f"{path}.content")
        parts = [part for where, inner in blocks for part in self._parts(where, inner, given=True)]
        if block.get("is_error"):
            parts = _marked_as_error(parts)
        call_id = call_id_for_model(_string(block, "tool_use_id", path))
        self._add("tool", [(path, part) for part in parts], tool_call_id=call_id)

    def _thought(self, path: str, block: Block) -> list[str]:
        thinking, signature = block.get("thinking"), block.get("signature")
        if not isinstance(thinking, str):
            raise BadRequestError(f"{path}.thinking must be text.", param=f"{path}.thinking")
        thought = self._signer.verify(thinking, signature) if isinstance(signature, str) else None
        if thought is None:
            self.found.left_out.append(f"{path} (thinking that was not signed here)")
            return []
        return [thought]


def _call(path: str, block: Block) -> dict[str, Any]:
    arguments = block.get("input")
    if isinstance(arguments, dict) and list(arguments) == [INVALID]:
        arguments = arguments[INVALID]  # the model reads what it wrote
    function = {"name": _string(block, "name", path), "arguments": {} if arguments is None else arguments}
    return {"id": call_id_for_model(_string(block, "id", path)), "type": "function", "function": function}


def _marked_as_error(parts: list[Part]) -> list[Part]:
    if parts and parts[0]["type"] == "text":
        text = parts[0]["text"]
        return parts if text[:5].lower() == "error" else [_text(f"Error: {text}"), *parts[1:]]
    return [_text("Error"), *parts]


def _content(parts: list[Part]) -> str | list[Part]:
    """One text as text, anything else as parts."""
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _string(block: Block, key: str, path: str) -> str:
    value = block.get(key)
    if not isinstance(value, str):
        raise BadRequestError(f"{path}.{key} must be text.", param=f"{path}.{key}")
    return value


def _inner_text(content: object) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    texts = [block.get("text") for block in blocks if isinstance(block, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))
