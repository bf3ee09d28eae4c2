"""Servers over one store: what one counts, the others know, and whoever comes later."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from portico.commands.keys import command
from portico.errors import RateLimitError
from portico.keys import Key
from portico.keys.accounts import Accounts
from portico.server.process import settling as module
from portico.server.process.settling import Settling
from portico.store import Store, open_store
from support.server import RunningServer, running_server
from support.store import postgres  # noqa: F401  (a fixture)
from support.wait import SAFETY, until

KEY = Key(name="ann", requests_per_minute=4, tokens_per_day=100, in_flight=3)


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    sqlite = request.param == "sqlite"
    found = open_store(str(tmp_path / "portico.db") if sqlite else request.getfixturevalue("postgres").fresh())
    await found.start()
    yield found
    await found.close()


def refused(accounts: Accounts) -> bool:
    visit = accounts.visit(KEY)
    try:
        visit.enter(None)
    except RateLimitError:
        return True
    visit.leave()
    return False


async def test_what_one_has_counted_the_others_know(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    here, there, later = (Accounts(clock=clock) for _ in range(3))
    ours, theirs = Settling(store, here), Settling(store, there)
    await theirs.settle()
    visits = [here.visit(KEY) for _ in range(3)]
    for visit in visits:
        visit.enter(None)
    held = [visit.reserve(5, 5) for visit in visits]
    assert not refused(there), "it cannot know"
    await ours.settle()
    await theirs.settle()
    with pytest.raises(RateLimitError, match="At most 3 requests"):
        there.visit(KEY).enter(None)
    for visit, reservation in zip(visits, held, strict=True):
        reservation.settle(30)
        visit.leave()
    for _ in range(2):  # told twice, it counts once
        await ours.settle()
        await theirs.settle()
        there.untold(there.tell())
    assert there.visit(KEY).standing()[0] == (4, 1, 61.0)
    with pytest.raises(RateLimitError, match="90 are used and 11 asked for"):
        there.visit(KEY).reserve(5, 6)
    fourth = there.visit(KEY)
    fourth.enter(None)
    fourth.reserve(5, 5).settle(10)
    fourth.leave()
    await theirs.settle()
    await ours.settle()
    assert refused(here)
    await Settling(store, later).settle()  # one that starts knows, though the others are gone
    assert refused(later)
    clock.now += 62
    assert refused(later), "the minute is over, the day is not"
    assert later.visit(KEY).standing()[1] == (100, 0, pytest.approx(86400, abs=1800))
    clock.now += 86400 + 900
    assert not refused(later)


async def test_what_a_silent_server_had_in_flight_is_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    here, there = Accounts(clock=clock), Accounts(clock=clock)
    for _ in range(3):
        here.visit(KEY).enter(None)
    await Settling(store, here).settle()
    theirs = Settling(store, there)
    await theirs.settle()
    assert refused(there)
    monkeypatch.setattr(module, "LIVES", -1.0)
    await theirs.settle()
    assert not refused(there)


@pytest.mark.slow
def test_two_servers_over_one_store(tmp_path: Path, smollm2_path: Path) -> None:
    """A key made while they run is heeded by both, its limit holds over both and outlives them, and the key ends."""
    where, script = str(tmp_path / "store.db"), tmp_path / "answers.jsonl"
    script.write_text(json.dumps({"text": "Hello."}) + "\n")
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    arguments = (smollm2_path, "--engine", f"replay:{script}", "--store", where)

    def keys(*words: str) -> str:
        result = CliRunner().invoke(command, [*words, "--store", where, "--json"], catch_exceptions=False)
        return str(json.loads(result.stdout).get("secret"))

    def asked(server: RunningServer, secret: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {secret}"}
        return httpx.post(f"{server.base_url}/chat/completions", json=body, headers=headers, timeout=SAFETY)

    keys("add", "first")  # so that a key is needed from the beginning
    with running_server(*arguments) as one, running_server(*arguments) as other:
        secret = keys("add", "ann", "--tokens-per-day", "300")
        until(lambda: asked(one, secret).status_code != 401)
        used = 0
        while (answer := asked(one, secret)).status_code == 200:
            used += answer.json()["usage"]["total_tokens"]
        assert used <= 300
        assert answer.status_code == 429
        until(lambda: asked(other, secret).status_code == 429)
        renewed = keys("rotate", "ann")
        until(lambda: asked(other, secret).status_code == 401)
        until(lambda: asked(other, renewed).status_code == 429)
        keys("revoke", "ann")
        until(lambda: asked(other, renewed).status_code == 401)
        bob = keys("add", "bob", "--tokens-per-day", "300")
        until(lambda: asked(other, bob).status_code == 429)
    with running_server(*arguments) as later:
        assert asked(later, bob).status_code == 429, "what was used outlives the server"
