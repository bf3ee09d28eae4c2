"""How much of their prompts two engines find in their caches, by where requests go: least load, or the prompt's prefix.

    python benchmarks/placement.py [CONVERSATIONS] [TURNS] [AT_ONCE]

Two gRPC servers play answers, and what each was asked is held against a prefix cache as engines have it: blocks of 16
tokens, the least used thrown out first, room for half of all conversations. All begin with the same 512 tokens of
instructions; a turn brings 192 tokens and gets 64. AT_ONCE turns are under way at a time, in a random order, through
one front door or through any of four that know nothing of each other. Printed is the share of all prompt tokens that
was found, and of those that one endless cache would have found.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from portico.engines.grpc import GrpcEngine
from portico.engines.placement import Placement
from portico.engines.replay import Script
from portico.events import EngineRequest, SamplingParams
from support.grpc import calling
from support.wait import eventually

INSTRUCTIONS, ASKED, ANSWERED = 512, 192, 64  # tokens
BLOCK = 16  # tokens of an engine's cache


def main() -> None:
    """Run all, print all."""
    conversations, turns, at_once = (
        int(given) for given in (sys.argv[1:] + ["64", "8", "16"][len(sys.argv) - 1 :])[:3]
    )
    print(f"{conversations} conversations of {turns} turns, {at_once} at once, two engines")
    for doors, name, by_prefix, keyed in (
        (1, "least load", False, False),
        (1, "prefix", True, False),
        (4, "least load", False, False),
        (4, "prefix", True, False),
        (4, "prompt_cache_key", True, True),
    ):
        asked = asyncio.run(_asked(conversations, turns, at_once, doors, by_prefix, keyed))
        room = conversations * (INSTRUCTIONS + turns * (ASKED + ANSWERED)) // 2
        found = sum(_found(prompts, room) for prompts in asked)
        total = sum(len(one) for prompts in asked for one in prompts)
        best = _found(sorted((one for prompts in asked for one in prompts), key=len), 1 << 40)
        spread = " and ".join(str(len(prompts)) for prompts in asked)
        print(
            f"{doors} front door{'s' if doors > 1 else ' '}  {name:17} {found / total:4.0%} of prompt tokens, "
            f"{found / best:4.0%} of what can be found; requests {spread}"
        )


def _found(prompts: Iterable[Sequence[int]], room: int) -> int:
    """How many of the prompts' tokens were in the cache when they came."""
    blocks: OrderedDict[int, None] = OrderedDict()
    found = 0
    for ids in prompts:
        prefix, here = 0, True
        for end in range(BLOCK, len(ids) + 1, BLOCK):
            prefix = hash((prefix, *ids[end - BLOCK : end]))
            here = here and prefix in blocks
            found += BLOCK * here
            blocks[prefix] = None
            blocks.move_to_end(prefix)
        while len(blocks) * BLOCK > room:
            blocks.popitem(last=False)
    return found


async def _asked(
    conversations: int, turns: int, at_once: int, doors: int, by_prefix: bool, keyed: bool
) -> list[list[Sequence[int]]]:
    """The prompts that each of the two engines got, in their order."""
    chance = random.Random(1)
    instructions = [chance.randrange(256) for _ in range(INSTRUCTIONS)]
    places = asyncio.Semaphore(at_once)
    ended: dict[str, asyncio.Future[None]] = {}

    async def read(engine: GrpcEngine) -> None:
        async for step in engine.steps():
            for output in step:
                if output.finish_reason is not None and not ended[output.request_id].done():
                    ended[output.request_id].set_result(None)

    async def talk(number: int, engines: Sequence[GrpcEngine]) -> None:
        prompt = list(instructions)
        key = f"conversation {number}" if keyed else None
        for turn in range(turns):
            prompt += [chance.randrange(256) for _ in range(ASKED)]
            await asyncio.sleep(chance.random() / 5)
            async with places:
                id = f"{number}-{turn}"
                ended[id] = asyncio.get_running_loop().create_future()
                request = EngineRequest(id, list(prompt), SamplingParams(max_tokens=ANSWERED), cache_key=key)
                await chance.choice(engines).submit(request)
                await ended[id]
            prompt += [97] * ANSWERED

    async with AsyncExitStack() as stack:
        script = {"a": Script([97] * ANSWERED)}
        hosts = [
            await stack.enter_async_context(calling(script, interval=0.005, tokens_per_step=4, port=port))
            for port in (50931, 50932)  # fixed, because hosts are told apart by their addresses
        ]
        engines = [
            GrpcEngine("grpc://" + ",".join(one.target for one in hosts), placement=Placement(by_prefix=by_prefix))
            for _ in range(doors)
        ]
        for engine in engines:
            await engine.start()
            await eventually(lambda engine=engine: all(host.healthy for host in engine._hosts))  # type: ignore[misc]
        reading = [asyncio.create_task(read(engine)) for engine in engines]
        await asyncio.gather(*(talk(number, engines) for number in range(conversations)))
        for engine in engines:
            await engine.close()
        await asyncio.gather(*reading)
        return [[request.token_ids for request in host.requests] for host in hosts]


if __name__ == "__main__":
    main()
