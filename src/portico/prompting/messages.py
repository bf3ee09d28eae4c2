"""Client messages become what a template sees. Lenient about what comes in, exact about what goes out.

In: messages as JSON objects in the shape of OpenAI's chat API, with all that clients really send: content as text,
parts, null or nothing; ``developer`` roles; tool arguments as text or object; ``function_call``; reasoning under
several names.
Out: fresh messages in the one form that the template takes (its ``Capabilities``), and the media they mention.

Rules (``turns`` carries out those about the conversation as a whole)
    * Roles are kept, whatever they are; ``developer`` becomes ``system`` unless the template knows it, ``function``
      becomes ``tool``. System messages that the template has no place for are merged into the first one; without a
      system role at all their text opens the first user message. Where roles must alternate, neighbours are merged.
    * Text parts stay parts where the template takes parts for that role; elsewhere they are joined by a line break.
    * Tool arguments are objects where the template takes objects and the text is a JSON object. Arguments that are no
      JSON are history, not a fault: they are passed on as text, or as ``{"arguments": text}`` where only objects work.
    * A tool result without a name gets the name of the call it answers. Calls that a template can only take one at a
      time are dealt out one by one, each with its result.
    * Media become placeholders and are collected in order. Where the engine cannot perceive them, they are refused in
      the last user message; elsewhere, where nobody can take them back, a note stands in their place, and is told.
    * Reasoning of earlier turns is there under each name that templates read.
    * Keys we do not know are left alone, keys that are null are absent.

Every refusal is a ``BadRequestError`` whose ``param`` is the path of the value at fault, such as
``messages[3].content[1].type``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from portico.errors import BadRequestError, NotSupportedError
from portico.prompting.capabilities import Capabilities
from portico.prompting.said import disowned, join
from portico.prompting.turns import REASONING_KEYS, arrange
from portico.values import MOST_VALUES, values

__all__ = ["Conversation", "MediaPart", "Modality", "normalise"]

Modality = Literal["image", "audio", "video"]

TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
THINKING_PARTS = {"thinking": "thinking", "reasoning": "reasoning"}
MEDIA_PARTS: dict[str, Modality] = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "audio_url": "audio",
    "input_audio": "audio",
    "video": "video",
    "video_url": "video",
    "input_video": "video",
}
PLACEHOLDERS: dict[Modality, str] = {"image": "<image>", "audio": "<audio>", "video": "<video>"}
VERBS: dict[Modality, str] = {"image": "see images", "audio": "hear audio", "video": "watch video"}


@dataclass(frozen=True)
class MediaPart:
    """One image, sound or film of a conversation, not yet fetched.

    ``url`` is http(s) or ``data:``; None is a bare placeholder.
    """

    kind: Modality
    url: str | None
    param: str  # where in the request it stands
    detail: str | None = None  # OpenAI's image_url.detail
    uuid: str | None = None  # the client's cache key


@dataclass
class Conversation:
    """Messages ready for a template, the media they mention in order, and what of them is left out, for people."""

    messages: list[dict[str, Any]]
    media: list[MediaPart] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def normalise(
    messages: object,
    takes: Capabilities | None = None,
    *,
    modalities: Collection[str] = (),
    mark: str | None = None,
    param: str = "messages",
) -> Conversation:
    """Fit client ``messages`` to a template that takes ``takes``.

    ``modalities`` are what the engine perceives besides text. With a ``mark``, which nobody else can know, media are
    texts: the mark, their number among the conversation's media, and '>'.

    Raises ``BadRequestError`` naming the value at fault, ``NotSupportedError`` for media the engine cannot perceive.
    """
    takes = takes or Capabilities()
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        raise BadRequestError(f"{param} must be a list of messages.", param=param)
    if not messages:
        raise BadRequestError(f"{param} must hold at least one message.", param=param)
    reader = _Reader(takes, frozenset(modalities), mark)
    users = [i for i, message in enumerate(messages) if isinstance(message, Mapping) and message.get("role") == "user"]
    reader.last_user = f"{param}[{users[-1]}]" if users else ""
    try:
        read = [reader.message(message, f"{param}[{i}]") for i, message in enumerate(messages)]
    except RecursionError:
        raise BadRequestError(f"{param} are nested too deeply.", param=param) from None
    return Conversation(arrange(read, takes), reader.media, reader.left_out)


class _Reader:
    """Reads messages one by one, collecting media."""

    def __init__(self, takes: Capabilities, modalities: frozenset[str], mark: str | None = None) -> None:
        self.takes = takes
        self.modalities = modalities
        self.mark = mark
        self.media: list[MediaPart] = []
        self.left_out: list[str] = []
        self.last_user = ""  # the path of the last message of a user
        self._values = 0  # in the arguments that came as JSON text

    def message(self, message: object, path: str) -> dict[str, Any]:
        if not isinstance(message, Mapping):
            raise BadRequestError(f"{path} must be an object with a role and content.", param=path)
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise BadRequestError(f"{path}.role must name who speaks, such as 'user'.", param=f"{path}.role")
        if role == "developer" and not self.takes.developer:
            role = "system"
        elif role == "function":
            role = "tool"
        if len(message) == 2 and type(message.get("content")) is str and self.takes.strings:
            return {"role": role, "content": message["content"]}  # most messages, as they are
        read: dict[str, Any] = {key: value for key, value in message.items() if value is not None}
        read["role"] = role
        calls = self._calls(read, path)
        parts, thoughts = self._parts(read, role, path)
        reasoning = next((read[key] for key in REASONING_KEYS if read.get(key)), None)
        for key in REASONING_KEYS:
            read.pop(key, None)
        details = read.pop("reasoning_details", None)
        reasoning = reasoning or detailed(details)
        if not isinstance(reasoning, str):
            reasoning = plain_text(reasoning)
        reasoning = reasoning or "\n".join(thoughts)
        if calls:
            read["tool_calls"] = calls
            if reasoning and not self.takes.reasoning_beside_calls and any(part.get("text") for part in parts):
                reasoning = ""
        if reasoning and self.takes.thinking_parts and role == "assistant":
            read["content"] = [{"type": "thinking", "thinking": reasoning}, *parts]
            return read
        if reasoning:
            read.update(dict.fromkeys(REASONING_KEYS, reasoning))
        read["content"] = self._content(parts, role, bare=bool(calls), was_list=isinstance(read.get("content"), list))
        return read

    # -- content ------------------------------------------------------------------------------------------------------

    def _parts(self, read: dict[str, Any], role: str, path: str) -> tuple[list[dict[str, Any]], list[str]]:
        """A message's content as parts the template knows (text and placeholders), and its thoughts."""
        content = read.get("content")
        if (content is None or content == []) and role in ("user", "system"):
            raise BadRequestError(f"{path}.content must be text or a list of parts.", param=f"{path}.content")
        if content is None:
            refusal = read.pop("refusal", None)
            content = refusal if isinstance(refusal, str) else ""
        if isinstance(content, str):
            return ([{"type": "text", "text": content}] if content else []), []
        if isinstance(content, Mapping):
            content = [content]
        if not isinstance(content, list):
            raise BadRequestError(f"{path}.content must be text, a list of parts, or null.", param=f"{path}.content")
        parts: list[dict[str, Any]] = []
        thoughts: list[str] = []
        for j, part in enumerate(content):
            where = f"{path}.content[{j}]"
            if isinstance(part, str):
                parts.append({"type": "text", "text": part})
                continue
            if not isinstance(part, Mapping):
                raise BadRequestError(f"{where} must be a content part (an object with a type).", param=where)
            kind = _part_type(part, where)
            if kind in TEXT_PARTS:
                parts.append({"type": "text", "text": _text_of(part, TEXT_PARTS[kind], where)})
            elif kind in THINKING_PARTS:
                thoughts.append(plain_text(part.get(THINKING_PARTS[kind]) or part.get("text")))
            elif kind in MEDIA_PARTS:
                parts.append(self._medium(part, kind, where, given=path != self.last_user))
            elif kind == "tool_reference":
                parts.append({"type": "text", "text": plain_text(part.get("tool_name") or part.get("name"))})
            elif kind == "redacted_thinking":
                self.left_out.append(f"{where} (redacted thinking)")
            elif kind in ("file", "input_file"):
                raise NotSupportedError(
                    f"{where}: file parts are not supported; send the text itself.", param=f"{where}.type"
                )
            else:
                raise BadRequestError(
                    f"{where}.type is not that of a content part this server knows.", param=f"{where}.type"
                )
        return parts, thoughts

    def _content(self, parts: list[dict[str, Any]], role: str, *, bare: bool, was_list: bool) -> Any:
        """Parts in the form the template takes for this role."""
        if not parts and bare:
            return None if self.takes.null_content else ("" if self.takes.strings else [])
        if role in self.takes.parts and (was_list or not self.takes.strings):
            return parts
        if self.mark is not None:
            return self._joined_around(self.mark, [part["text"] for part in parts])
        texts = [part["text"] for part in parts if part["type"] == "text"]
        marks = [PLACEHOLDERS[part["type"]] for part in parts if part["type"] != "text"]
        joined = join("\n", texts)
        if not marks:
            return joined
        placed = disowned(joined, [mark for mark in marks if mark in joined])  # where the client wants its media
        return join("\n", [*(mark for mark in marks if mark not in joined), placed])

    @staticmethod
    def _joined_around(mark: str, texts: list[str]) -> str:
        """Texts by line breaks, media with nothing around them."""
        joined = texts[0] if texts else ""
        for before, text in pairwise(texts):
            joined = join("" if before.startswith(mark) or text.startswith(mark) else "\n", [joined, text])
        return joined

    def _medium(self, part: Mapping[str, Any], kind: str, where: str, *, given: bool) -> dict[str, Any]:
        """A placeholder; of what the engine cannot perceive a note, if it is ``given`` and cannot be taken back."""
        modality = MEDIA_PARTS[kind]
        if modality not in self.modalities and given:
            self.left_out.append(f"{where} (this model cannot {VERBS[modality]})")
            return {"type": "text", "text": f"[left out: this model cannot {VERBS[modality]}]"}
        if modality not in self.modalities:
            raise NotSupportedError(
                f"{where}: this model cannot {VERBS[modality]}; send text only.", param=f"{where}.type"
            )
        value = part.get(kind, part.get(f"{modality}_url", part.get("url", part.get(modality))))
        detail = part.get("detail")
        if isinstance(value, Mapping):
            detail = value.get("detail", detail)
            if "data" in value:
                value = f"data:{modality}/{value.get('format', 'wav')};base64,{value['data']}"
            else:
                value = value.get("url")
        if value is not None and not isinstance(value, str):
            raise BadRequestError(f"{where}.{kind} must be a URL.", param=f"{where}.{kind}")
        uuid = part.get("uuid")
        self.media.append(
            MediaPart(
                modality,
                value or None,
                f"{where}.{kind}",
                detail if isinstance(detail, str) else None,
                uuid if isinstance(uuid, str) else None,
            )
        )
        if self.mark is not None:
            return {"type": "text", "text": f"{self.mark}{len(self.media) - 1}>"}
        return {"type": modality}

    # -- tool calls ---------------------------------------------------------------------------------------------------

    def _calls(self, read: dict[str, Any], path: str) -> list[dict[str, Any]]:
        """The tool calls of a message in one shape; also takes them out of ``read``."""
        calls = read.pop("tool_calls", None)
        legacy = read.pop("function_call", None)
        if not calls and legacy is not None:
            return [self._call({"function": legacy}, f"{path}.function_call")]
        if not calls:
            return []
        if not isinstance(calls, list):
            raise BadRequestError(f"{path}.tool_calls must be a list.", param=f"{path}.tool_calls")
        return [self._call(call, f"{path}.tool_calls[{k}]") for k, call in enumerate(calls)]

    def _call(self, call: object, where: str) -> dict[str, Any]:
        if not isinstance(call, Mapping):
            raise BadRequestError(f"{where} must be an object.", param=where)
        function = call.get("function")
        if function is None and isinstance(call.get("custom"), Mapping):
            custom = call["custom"]
            function = {"name": custom.get("name"), "arguments": {"input": custom.get("input", "")}}
        if not isinstance(function, Mapping):
            raise BadRequestError(
                f"{where}.function must be an object with a name and arguments.", param=f"{where}.function"
            )
        name = function.get("name")
        if not isinstance(name, str) or not name:
            raise BadRequestError(f"{where}.function.name must be text.", param=f"{where}.function.name")
        read = {key: value for key, value in call.items() if value is not None and key != "custom"}
        read["type"] = "function"
        read["function"] = {**function, "name": name, "arguments": self._arguments(function.get("arguments"), where)}
        return read

    def _arguments(self, arguments: Any, where: str) -> Any:
        if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
            arguments = {}
        if isinstance(arguments, str):
            if not self.takes.object_arguments:
                return arguments
            self._values += values(arguments)
            if self._values > MOST_VALUES:
                param = f"{where}.function.arguments"
                raise BadRequestError(
                    f"The arguments of all calls may hold {MOST_VALUES:,} values together; {param} brings them over.",
                    param=param,
                    code="too_many_values",
                )
            try:
                parsed = json.loads(arguments)
            except (ValueError, RecursionError):
                parsed = None
            if isinstance(parsed, dict):
                return parsed
            return arguments if self.takes.text_arguments else {"arguments": arguments}
        if isinstance(arguments, Mapping) and self.takes.object_arguments:
            return dict(arguments)
        if self.takes.object_arguments and not self.takes.text_arguments:
            return {"arguments": arguments}
        return json.dumps(arguments, ensure_ascii=False)


def _part_type(part: Mapping[str, Any], where: str) -> str:
    kind = part.get("type")
    if kind is None:
        kind = next((known for known in (*TEXT_PARTS, *THINKING_PARTS, *MEDIA_PARTS) if known in part), None)
    if not isinstance(kind, str):
        raise BadRequestError(f"{where}.type must say what the part is, such as 'text'.", param=f"{where}.type")
    return kind


def _text_of(part: Mapping[str, Any], key: str, where: str) -> str:
    text = part.get(key, part.get("text"))
    if not isinstance(text, str):
        raise BadRequestError(f"{where}.{key} must be text.", param=f"{where}.{key}")
    return text


def detailed(details: Any) -> str:
    """The thought in ``reasoning_details`` (OpenRouter's form): its texts, else its summaries."""
    given = [one for one in details if isinstance(one, Mapping)] if isinstance(details, list) else []
    texts = "".join(plain_text(one.get("text")) for one in given)
    return texts or "\n".join(filter(None, (plain_text(one.get("summary")) for one in given)))


def plain_text(value: Any) -> str:
    """The text in a thought, however it is wrapped."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return plain_text(value.get("text") or value.get("thinking"))
    if isinstance(value, list):
        return "".join(plain_text(item) for item in value)
    return ""
