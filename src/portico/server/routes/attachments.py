"""Prompts of conversations whose messages name files, or bring them: the files are read, their texts put in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from portico.errors import BadRequestError, ContextLengthError, NotFoundError
from portico.generation import Model
from portico.prompting import Prompt
from portico.protocols.attachments import Attachment, attachments, decoded, image_part, placed, text_of
from portico.threads import CALLER, Threads

if TYPE_CHECKING:
    from portico.store import Store

__all__ = ["prompt_with_files"]

MOST: Final = 8 << 20  # bytes that the files of one request have together
MOST_IMAGES: Final = 64 << 20  # and those that are images
INLINE: Final = 64 << 10  # bytes; a larger file is decoded in a thread
FEW: Final = 1_000  # messages and parts that are looked through on the event loop

_FILES = Threads("attached files", 2)


async def prompt_with_files(model: Model, arguments: Mapping[str, Any], store: Store | None) -> Prompt:
    """The prompt that ``arguments`` of the prompter describe; the files are the caller's own of the ``store``."""
    messages = arguments["messages"]
    find = partial(attachments, messages, images="image" in model.prompter.modalities)
    found = find() if _are_few(messages) else await _FILES.run(find)
    if not found:
        return await model.prompter.chat(**arguments)
    reader = _Reader(store)
    parts = {
        (one.message, one.part): await reader.part(one, messages[one.message]["content"][one.part]) for one in found
    }
    prompt = await model.prompter.chat(**{**arguments, "messages": placed(messages, parts)})
    return replace(prompt, left_out=[*reader.left_out, *prompt.left_out])


def _are_few(messages: Sequence[Any]) -> bool:
    if len(messages) > FEW:
        return False
    contents = (one.get("content") for one in messages if isinstance(one, dict))
    return sum(len(content) for content in contents if isinstance(content, list)) <= FEW


class _Reader:
    """Reads the files of one request."""

    def __init__(self, store: Store | None) -> None:
        self.left_out: list[str] = []
        self._store = store
        self._room = {False: MOST, True: MOST_IMAGES}  # by whether it is an image

    async def part(self, one: Attachment, given: Mapping[str, Any]) -> dict[str, Any]:
        """What stands in the place of the part. Raises ``BadRequestError`` where it can be taken back."""
        try:
            name, data = (None, await self._data(one)) if one.file_id is None else await self._kept(one, one.file_id)
            if one.image:
                return image_part(given, data)
            read = partial(text_of, one, data, name)
            return _text(await _FILES.run(read) if len(data) > INLINE else read())
        except ContextLengthError:
            raise
        except BadRequestError as error:
            if not one.given:
                raise
            self.left_out.append(f"{one.path} ({error.message.removeprefix(f'{one.path}: ')})")
            return _text("[left out: a file that cannot be read]")

    async def _data(self, one: Attachment) -> bytes:
        size = len(one.file_data or "")
        self._take(one, size * 3 // 4)
        return await _FILES.run(partial(decoded, one)) if size > INLINE else decoded(one)

    async def _kept(self, one: Attachment, id: str) -> tuple[str, bytes]:
        if self._store is None:
            raise BadRequestError(
                f"{one.path}: this server keeps no files (it runs with --store none); send it as file_data.",
                param=one.param,
            )
        owner = CALLER.get()
        file = await self._store.files.get(owner, id)
        if file is not None:
            self._take(one, file.size)
            try:
                return file.filename, b"".join([piece async for piece in self._store.files.read(owner, id)])
            except NotFoundError:  # it was deleted meanwhile
                pass
        raise BadRequestError(f"{one.path}: No such File object: {id[:64]}", param=one.param)

    def _take(self, one: Attachment, size: int) -> None:
        self._room[one.image] -= size
        if self._room[one.image] < 0:
            what, most = ("images", MOST_IMAGES) if one.image else ("files", MOST)
            raise ContextLengthError(
                f"{one.path}: the {what} of one request may have {most:,} bytes together.", param=one.param
            )


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
