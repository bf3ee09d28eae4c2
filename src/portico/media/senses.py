"""From a rendered prompt that mentions media to one that has them: fetched, decoded, as long as it will be computed.

All of it happens before the line sees the request: so limits, usage and ``max_tokens`` speak of the true length.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Literal, cast

from portico.errors import BadRequestError
from portico.events import Media
from portico.media.decoding import PROCESSES, Decoded, Decoder
from portico.media.fetching import Fetched, MediaFetcher
from portico.media.room import Room
from portico.prompting import MediaPart, Prompt
from portico.threads import Threads

__all__ = ["Senses"]

DECODING = Threads("media", PROCESSES, waiting=64)


class Senses:
    """``expand`` is the engine's; ``most`` is how many media one request may bring, ``room`` what all may take."""

    def __init__(
        self,
        fetcher: MediaFetcher,
        decoder: Decoder,
        expand: Callable[[Media], Awaitable[list[int]]],
        *,
        most: int,
        room: Room | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._decoder = decoder
        self._expand = expand
        self._most = most
        self._room = room or Room()

    async def __call__(self, prompt: Prompt) -> Prompt:
        """The prompt with its media. Raises ``BadRequestError`` with the place of the one at fault."""
        if len(prompt.media) > self._most:
            param = prompt.media[self._most].param
            raise BadRequestError(
                f"{param}: one request may bring {self._most} images and sounds, and this one has {len(prompt.media)}; "
                "leave older ones out.",
                param=param,
            )
        fetched = await self._fetcher.fetch_all(prompt.media)
        taken = await self._room.take(sum(self._decoder.room(_kind(one)) for one in prompt.media))
        try:
            return await self._perceived(prompt, fetched, taken)
        except BaseException:
            self._room.give(taken)
            raise

    async def _perceived(self, prompt: Prompt, fetched: Sequence[Fetched], taken: int) -> Prompt:
        """The prompt with its media, which give back the room that was ``taken`` for them."""
        decoded = [await self._decoded(*one) for one in zip(prompt.media, fetched, strict=True)]
        media = Media(prompt.token_ids, tuple(one.medium for one in decoded), tuple(prompt.places))
        try:
            ids = await self._expand(media)
        except BadRequestError as error:
            error.param = error.param or prompt.media[0].param
            raise
        kept = min(taken, sum(len(one.medium.data) for one in decoded))
        self._room.give(taken - kept)
        over = weakref.finalize(media, _give_later, asyncio.get_running_loop(), self._room, kept)
        over.atexit = False
        return replace(prompt, token_ids=ids, perceived=media, thumbnails=[one.thumbnail for one in decoded])

    async def _decoded(self, part: MediaPart, fetched: Fetched) -> Decoded:
        try:
            return await DECODING.run(partial(self._decoder.decode, _kind(part), fetched.data))
        except BadRequestError as error:
            words = f"{part.param}: the {part.kind} cannot be used: {error.message}."
            raise BadRequestError(words, param=part.param) from None

    def close(self) -> None:
        """End what decodes."""
        self._decoder.close()


def _kind(part: MediaPart) -> Literal["image", "audio"]:
    return cast(Literal["image", "audio"], part.kind)


def _give_later(loop: asyncio.AbstractEventLoop, room: Room, size: int) -> None:
    """In whichever thread lets go of the media last."""
    with suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(room.give, size)
