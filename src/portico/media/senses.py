"""From a rendered prompt that mentions media to one that has them: fetched, decoded, as long as it will be computed.

All of it happens before the line sees the request: so limits, usage and ``max_tokens`` speak of the true length.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Literal, cast

from portico.errors import BadRequestError
from portico.events import Media
from portico.media.decoding import PROCESSES, Decoded, Decoder
from portico.media.fetching import Fetched, MediaFetcher
from portico.prompting import MediaPart, Prompt
from portico.threads import Threads

__all__ = ["Senses"]

DECODING = Threads("media", PROCESSES, waiting=64)


class Senses:
    """``expand`` is the engine's; ``most`` is how many media one request may bring."""

    def __init__(
        self, fetcher: MediaFetcher, decoder: Decoder, expand: Callable[[Media], Awaitable[list[int]]], *, most: int
    ) -> None:
        self._fetcher = fetcher
        self._decoder = decoder
        self._expand = expand
        self._most = most

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
        decoded = [await self._decoded(*one) for one in zip(prompt.media, fetched, strict=True)]
        media = Media(prompt.token_ids, tuple(one.medium for one in decoded), tuple(prompt.places))
        try:
            ids = await self._expand(media)
        except BadRequestError as error:
            error.param = error.param or prompt.media[0].param
            raise
        return replace(prompt, token_ids=ids, perceived=media, thumbnails=[one.thumbnail for one in decoded])

    async def _decoded(self, part: MediaPart, fetched: Fetched) -> Decoded:
        kind = cast(Literal["image", "audio"], part.kind)
        try:
            return await DECODING.run(partial(self._decoder.decode, kind, fetched.data))
        except BadRequestError as error:
            words = f"{part.param}: the {part.kind} cannot be used: {error.message}."
            raise BadRequestError(words, param=part.param) from None

    def close(self) -> None:
        """End what decodes."""
        self._decoder.close()
