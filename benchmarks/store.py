"""What keeping costs: CPU and time of a turn's calls, over 10, 1,000 and 100,000 responses.

    python benchmarks/store.py [--store PATH|postgresql://…] [--rows 10 1000 100000] [--json]

The store is a new file in a temporary directory unless one is named, which must be empty. CPU is this process's alone
(PostgreSQL's own work is not in it). A response is a usual one: 1 kB of answer, five tools, the whole body.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from portico.store import Store, StoredResponse, open_store
from portico.store.retention import sweep

OWNER = "a" * 64
AT_ONCE = 1024  # responses that a fill has under way
CHAIN = 1000
TOOLS = [
    {
        "type": "function",
        "name": f"tool_{n}",
        "description": "Looks something up. " * 4,
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string", "description": "What to look up."}},
        },
    }
    for n in range(5)
]


def response(id: str, previous: str | None = None) -> StoredResponse:
    """A response of a usual size."""
    text = {"type": "output_text", "text": "word " * 200, "annotations": []}
    output = [{"id": f"out_{id}", "type": "message", "role": "assistant", "status": "completed", "content": [text]}]
    usage = {"input_tokens": 900, "output_tokens": 200, "total_tokens": 1100}
    return StoredResponse(
        id=id,
        owner=OWNER,
        created_at=int(time.time()),
        status="completed",
        model="a-model",
        previous_id=previous,
        input=[{"id": f"in_{id}", "type": "message", "role": "user", "content": "Tell me about it. " * 20}],
        output=output,
        body={"id": id, "object": "response", "status": "completed", "output": output, "tools": TOOLS, "usage": usage},
    )


async def cost(call: Callable[[int], Awaitable[object]], times: int) -> dict[str, float]:
    """Of one call, in milliseconds: CPU on average, time at the median."""
    for n in range(5):
        await call(-1 - n)
    walls = []
    cpu = time.process_time()
    for n in range(times):
        started = time.perf_counter()
        await call(n)
        walls.append(time.perf_counter() - started)
    return {"cpu_ms": (time.process_time() - cpu) / times * 1e3, "ms": sorted(walls)[times // 2] * 1e3}


async def fill(store: Store, have: int, rows: int) -> None:
    """Chains of ``CHAIN``, until there are so many."""
    for first in range(have, rows, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, rows))
        await asyncio.gather(*(store.put_response(response(named(n), _before(n))) for n in numbers))


def named(number: int) -> str:
    """An id that lies anywhere among the others, as a server's do."""
    return f"resp_{hashlib.sha256(b'%d' % number).hexdigest()[:32]}"


def _before(number: int) -> str | None:
    return named(number - 1) if number % CHAIN else None


async def measure(store: Store, rows: int) -> dict[str, Any]:
    """A turn's calls over a store of so many responses; a chain is as long as there are rows, at most ``CHAIN``."""
    first, last = named(0), named(min(rows, CHAIN) - 1)
    chained = await store.chain(OWNER, last)
    conversation = await store.create_conversation(OWNER, {}, [])

    async def turn(n: int) -> None:
        one = response(named(-2 * rows - n))
        await store.lock_conversation(OWNER, conversation.id, one.id)
        await store.finish_turn(one, conversation.id, [*one.input, *one.output])

    return {
        "rows": rows,
        "put": await cost(lambda n: store.put_response(response(named(-rows - n))), 100),
        "get": await cost(lambda n: store.response(OWNER, named(n * 7919 % rows)), 100),
        "item": await cost(lambda n: store.item(OWNER, f"out_{named(n * 7919 % rows)}"), 100),
        "turn of a conversation": await cost(turn, 100),
        "chain of 1": await cost(lambda n: store.chain(OWNER, first), 100),
        f"chain of {len(chained)}": await cost(lambda n: store.chain(OWNER, last), 10),
        "a look at who has died": await cost(lambda n: store.database.write(store._enter), 20),
        "a look at what is old": await cost(lambda n: store.database.write(sweep, store.retention), 5),
    }


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--store")
    options.add_argument("--rows", type=int, nargs="+", default=[10, 1000, 100_000])
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        store = open_store(given.store or str(Path(directory) / "portico.db"))
        await store.start()
        have = 0
        try:
            for rows in sorted(given.rows):
                await fill(store, have, rows)
                have = rows
                found = await measure(store, rows)
                if given.json:
                    print(json.dumps(found), flush=True)
                    continue
                for name, figures in found.items():
                    if name != "rows":
                        print(f"{rows:>7} rows  {name:<22} {figures['cpu_ms']:7.2f} ms CPU  {figures['ms']:7.2f} ms")
        finally:
            await store.close()


if __name__ == "__main__":
    asyncio.run(main())
