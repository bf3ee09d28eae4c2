"""Decoded media have room together: nobody gets more than there is, everybody gets a turn, nothing is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from portico.errors import OverloadedError
from portico.events import Media
from portico.media import room as module
from portico.media.decoding import Decoder
from portico.media.fetching import Fetched, MediaFetcher
from portico.media.room import Room
from portico.media.senses import Senses
from portico.prompting import Prompt
from portico.prompting.messages import MediaPart
from support.pictures import png


@pytest.mark.parametrize("seed", range(20))
async def test_never_more_than_there_is_and_in_turn(seed: int) -> None:
    choose = random.Random(seed)
    room, used, served = Room(10), 0, []

    async def use(number: int, size: int, steps: int) -> None:
        nonlocal used
        taken = await room.take(size)
        assert taken == min(size, 10)
        served.append(number)
        used += taken
        assert used <= 10
        for _ in range(steps):
            await asyncio.sleep(0)
        used -= taken
        room.give(taken)

    tasks = [asyncio.create_task(use(n, choose.randrange(16), choose.randrange(5))) for n in range(30)]
    gone = [task for task in tasks if choose.random() < 0.3]
    for _ in range(choose.randrange(8)):
        await asyncio.sleep(0)
    for task in gone:
        if not task.done() and tasks.index(task) not in served:  # who waits goes; who has room gives it back
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert served == sorted(served)
    assert set(served) >= {n for n, task in enumerate(tasks) if task not in gone}
    assert await room.take(10) == 10


async def test_who_waits_for_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    room = Room(10)
    await room.take(6)
    with pytest.raises(OverloadedError):
        await room.take(5)
    assert await room.take(4) == 4


async def test_a_request_has_its_room_until_its_media_are_let_go() -> None:
    class Fetcher(MediaFetcher):
        async def fetch_all(self, parts: Sequence[MediaPart]) -> list[Fetched]:
            return [Fetched("image", png("red"), "image/png") for _ in parts]

    async def expand(media: Media) -> list[int]:
        return [1, 2, 3]

    room, decoder = Room(20_000_000), Decoder(pixels=1 << 30, seconds=10)
    senses = Senses(Fetcher(()), decoder, expand, most=3, room=room)
    prompt = Prompt([1], media=[MediaPart("image", None, "messages[0]")])
    try:
        seen: Prompt | None = await senses(prompt)
        assert seen is not None
        assert seen.perceived is not None
        size = len(seen.perceived.items[0].data)
        waiting = asyncio.create_task(room.take(20_000_000))
        assert await room_taken(room) == size
        assert not waiting.done()
        seen = None
        assert await waiting == 20_000_000
    finally:
        senses.close()


async def room_taken(room: Room) -> int:
    await asyncio.sleep(0)
    return room._most - room._free
