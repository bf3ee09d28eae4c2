"""Files that messages name or bring along: ``file`` parts of chat completions, ``input_file`` parts of responses, and
``input_image`` parts that name a file.

A text takes the place of the part, with its borders and its name shown. Only text can be read into a prompt: UTF-8, or
UTF-16 that says so. What cannot be read is refused in the last user message; elsewhere, where nobody can take it back,
a note stands in its place, as with media. An image's bytes take the place of its name.
"""

from __future__ import annotations

import base64
import binascii
import codecs
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from portico.errors import BadRequestError, NotSupportedError

__all__ = ["Attachment", "attachments", "decoded", "image_part", "placed", "tagged", "text_of"]

KINDS = ("file", "input_file")
IMAGE = "input_image"
SOURCES = ("file_id", "file_data", "file_url")
SHOWN = 64  # characters of a name in an error
SIGNS = (b"%PDF-", b"PK\x03\x04", b"{\\rtf")  # what may begin a file that is no text though its bytes are
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Attachment(NamedTuple):
    """One such part. ``path`` is its place in the conversation, ``param`` that of what says which file it is;
    ``given``: nobody can take it back. One of ``file_id`` and ``file_data`` is there."""

    message: int
    part: int
    path: str
    param: str
    given: bool
    file_id: str | None
    file_data: str | None
    filename: str | None
    image: bool = False


def attachments(messages: Sequence[Any], *, images: bool = True) -> list[Attachment]:
    """The file parts of a conversation in the neutral shape; ``images``: those too that are images. Raises
    ``BadRequestError`` where one is malformed."""
    last_user = next((n for n in reversed(range(len(messages))) if _is_user(messages[n])), -1)
    return [
        _attachment(part, message, index, given=message != last_user)
        for message, one in enumerate(messages)
        for index, part in _parts(one)
        if images or part["type"] != IMAGE
    ]


def _parts(message: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    content = message.get("content") if isinstance(message, dict) else None
    for n, part in enumerate(content if isinstance(content, list) else ()):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in KINDS or (kind == IMAGE and part.get("file_id")):
            yield n, part


def _is_user(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") == "user"


def _attachment(part: Mapping[str, Any], message: int, index: int, *, given: bool) -> Attachment:
    path = param = f"messages[{message}].content[{index}]"
    inside: Any = part
    if part["type"] == IMAGE:
        if not isinstance(part["file_id"], str):
            raise BadRequestError(f"{path}.file_id must be text.", param=f"{path}.file_id")
        return Attachment(message, index, path, f"{path}.file_id", given, part["file_id"], None, None, image=True)
    if part["type"] == "file" and "file" in part:
        inside, param = part["file"], f"{path}.file"
    if not isinstance(inside, Mapping):
        raise BadRequestError(f"{param} must be an object.", param=param)
    sources = {key: inside[key] for key in SOURCES if inside.get(key) is not None}
    for key, value in [*sources.items(), ("filename", inside.get("filename"))]:
        if not isinstance(value, str | None):
            raise BadRequestError(f"{param}.{key} must be text.", param=f"{param}.{key}")
    if "file_url" in sources:
        raise NotSupportedError(
            f"{path}: files are not fetched by URL; upload it and give its file_id, or send it as file_data.",
            param=f"{param}.file_url",
        )
    if len(sources) != 1:
        raise BadRequestError(f"{path} must have one of file_id and file_data.", param=param)
    (source,) = sources
    name = inside.get("filename")
    return Attachment(
        message, index, path, f"{param}.{source}", given, sources.get("file_id"), sources.get("file_data"), name
    )


def decoded(one: Attachment) -> bytes:
    """The bytes of ``file_data``: base64, or a data: URL. Raises ``BadRequestError``."""
    data = one.file_data or ""
    if data[:5].lower() == "data:":
        header, _, data = data[5:].partition(",")
        if not header.lower().endswith(";base64"):
            return unquote_to_bytes(data)
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequestError(f"{one.param} must be base64, or a data: URL with base64.", param=one.param) from None


def text_of(one: Attachment, data: bytes, filename: str | None) -> str:
    """The text that takes the part's place. Raises ``NotSupportedError`` for what is no text."""
    name = one.filename or filename
    try:
        if data.startswith(SIGNS):
            raise ValueError
        text = data.decode("utf-16" if data.startswith(UTF_16) else "utf-8-sig")
        if "\0" in text:
            raise ValueError
    except ValueError:
        shown = f"'{name[:SHOWN]}'" if name else "the file"
        raise NotSupportedError(
            f"{one.path}: {shown} is not a text file, and only text can be read into the prompt; send its text.",
            param=one.param,
        ) from None
    return tagged("document", {"title": name}, text)


def image_part(part: Mapping[str, Any], data: bytes) -> dict[str, Any]:
    """The ``input_image`` part with what its file holds."""
    url = f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"
    return {**{key: value for key, value in part.items() if key != "file_id"}, "image_url": url}


def placed(messages: Sequence[Any], parts: Mapping[tuple[int, int], Mapping[str, Any]]) -> list[Any]:
    """The messages with other parts in place of some; ``messages`` stay as they are."""
    found = list(messages)
    for number in {message for message, _ in parts}:
        content = [parts.get((number, n), part) for n, part in enumerate(messages[number]["content"])]
        found[number] = {**messages[number], "content": content}
    return found


def tagged(tag: str, attributes: Mapping[str, Any], text: str) -> str:
    """``text`` with its borders shown, so that the model can tell it from what is said about it."""
    shown = "".join(f' {name}="{value}"' for name, value in attributes.items() if isinstance(value, str) and value)
    return f"<{tag}{shown}>\n{text}\n</{tag}>"
