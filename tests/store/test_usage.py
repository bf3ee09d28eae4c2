"""What was used is written down once, however often it is written, and summed as one asks."""

from __future__ import annotations

import json
import time
from typing import Any

from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from portico.commands.usage import command
from portico.keys.usage import Usage
from portico.server.process.accounting import Accounting
from portico.store import Retention, Store, open_store
from portico.store.retention import sweep

DAY = 86400


def shown(where: str, *arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(command, [*arguments, "--store", where, "--json"], catch_exceptions=False)
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


async def test_sums(store: Store, where: str) -> None:
    now = time.time()
    here, there = Usage(), Usage()
    other = open_store(where)
    await other.start()
    for usage, kept in ((here, store), (there, other)):
        for _ in range(2):  # what is written again counts once
            usage.count(now, "ann", "tiny", 10, 4, 5)
            usage.count(now - 2 * DAY, "ann", "large", 1, 0, 1)
            await Accounting(kept, usage).write()
            usage.back(usage.take())
            await Accounting(kept, usage).write()
    here.count(now, "", "tiny", 3, 0, 0)
    await Accounting(store, here).write()
    await other.close()

    def row(requests: int, prompt: int, cached: int, completion: int, **by: str) -> dict[str, Any]:
        sums = {"prompt_tokens": prompt, "cached_tokens": cached, "completion_tokens": completion}
        return {**by, "requests": requests, **sums}

    assert shown(where) == [row(1, 3, 0, 0, key=""), row(8, 44, 16, 24, key="ann")]
    assert shown(where, "--by", "model") == [row(4, 4, 0, 4, model="large"), row(5, 43, 16, 20, model="tiny")]
    days = shown(where, "--by", "day")
    assert [one["requests"] for one in days] == [4, 5]
    assert days[1]["day"] == time.strftime("%Y-%m-%d", time.gmtime(now))
    assert shown(where, "--last", "1d", "--by", "key", "--by", "model") in (
        [row(1, 3, 0, 0, key="", model="tiny"), row(4, 40, 16, 20, key="ann", model="tiny")],
        [],  # where midnight has passed meanwhile
    )
    table = CliRunner().invoke(command, ["--store", where]).stdout
    assert "(none)" in table
    assert "44" in table

    store.database.now(lambda connection: sweep(connection, Retention(max_usage_age=3)))
    assert shown(where, "--by", "day") == days
    store.database.now(lambda connection: sweep(connection, Retention(max_usage_age=1)))
    assert shown(where, "--by", "day") == days[1:]


def test_days_that_are_written_down_are_not_held() -> None:
    usage = Usage()
    for day in range(30):
        usage.count(day * DAY, "ann", "tiny", 1, 1, 1)
        usage.back(usage.take()) if day == 3 else usage.take()
    assert len(usage._sums) <= 9


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.booleans()), max_size=30))
def test_nothing_is_lost_or_counted_twice(comings: list[tuple[str, str, bool]]) -> None:
    usage, kept = Usage(), dict[tuple[Any, ...], int]()
    for key, model, written in comings:
        usage.count(5.0, key, model, 1, 0, 2)
        taken = usage.take()
        if written:
            kept.update({one[:3]: one.requests for one in taken})
        else:
            usage.back(taken)
    kept.update({one[:3]: one.requests for one in usage.take()})
    assert sum(kept.values()) == len(comings)
