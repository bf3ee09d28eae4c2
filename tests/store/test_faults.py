"""Databases that cannot be used just now: one line for the client, and it passes by itself when they are back."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from portico.errors import StoreError
from portico.store import Store, StoredResponse, open_store
from portico.store.faults import BUSY, DAMAGED, FULL, LOST, READ_ONLY, fault
from support.store import Postgres, running_postgres
from support.store_writer import OWNER, made
from support.wait import SAFETY

HASTY = 0.2  # seconds that these stores wait for a lock


async def refused(call: Awaitable[object], text: str) -> None:
    with pytest.raises(StoreError) as told:
        await call
    assert told.value.message == text
    assert told.value.status == 503


async def again(call: Callable[[], Awaitable[object]]) -> object:
    """What it returns once it is no longer refused; a database that was lost is not asked all the time."""
    limit = time.monotonic() + SAFETY
    while True:
        try:
            return await call()
        except StoreError:
            assert time.monotonic() < limit
            await asyncio.sleep(0.05)


def files(file: Path) -> list[Path]:
    """A database and what SQLite has beside it."""
    return sorted(file.parent.glob(f"{file.name}*"))


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[Callable[[str], object]]:
    """A disk of that size; gives what resizes it."""
    at.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", at], capture_output=True).returncode:
        pytest.skip("making a small disk takes a right that is not had here")
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", at], check=True)
    finally:
        subprocess.run(["umount", "-l", at], check=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "portico.db"


@pytest.fixture
async def lite(file: Path) -> AsyncIterator[Store]:
    store = open_store(str(file), patience=HASTY)
    await store.start()
    await store.put_response(made("resp_before"))
    yield store
    await store.close()


async def test_a_lock_that_somebody_holds(lite: Store, file: Path) -> None:
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    await refused(lite.put_response(made("resp_a")), BUSY)
    assert await lite.response(OWNER, "resp_before") == made("resp_before")  # readers do not wait
    holder.execute("ROLLBACK")
    holder.close()
    await lite.put_response(made("resp_a"))
    assert await lite.response(OWNER, "resp_a") == made("resp_a")


async def test_a_file_that_goes_away_and_comes_back(lite: Store, file: Path) -> None:
    away = file.parent.with_name("away")
    file.parent.rename(away)
    await refused(lite.put_response(made("resp_a")), LOST)
    await refused(lite.response(OWNER, "resp_before"), LOST)
    assert files(file) == [], "an empty one would hide the loss"
    away.rename(file.parent)
    assert await again(lambda: lite.response(OWNER, "resp_before")) == made("resp_before")
    await lite.put_response(made("resp_a"))


async def test_a_file_that_is_replaced(lite: Store, file: Path, tmp_path: Path) -> None:
    """A backup that is put in its place is what is read and written from then on."""
    backup = tmp_path / "backup"
    with sqlite3.connect(file) as source, sqlite3.connect(backup) as target:
        source.backup(target)
    source.close()
    target.close()
    await lite.put_response(made("resp_after_the_backup"))
    for one in files(file):
        one.unlink()
    backup.rename(file)
    await again(lambda: lite.put_response(made("resp_a")))
    assert await again(lambda: lite.response(OWNER, "resp_after_the_backup")) is None
    assert await again(lambda: lite.response(OWNER, "resp_before")) == made("resp_before")
    other = open_store(str(file))
    await other.start()
    assert await other.response(OWNER, "resp_a") == made("resp_a")
    await other.close()


async def test_a_file_that_is_damaged(lite: Store, file: Path) -> None:
    await lite.close()  # and what it does beside
    with file.open("r+b") as opened:
        opened.write(b"not a database" * 400)
    for one in files(file)[1:]:
        one.unlink()
    await refused(lite.response(OWNER, "resp_before"), DAMAGED)
    await refused(lite.put_response(made("resp_a")), DAMAGED)


async def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A real one. Nothing that was kept is lost, and things are kept again when there is room."""
    with small_disk(tmp_path / "disk", "2m") as resize:
        store = open_store(str(tmp_path / "disk" / "portico.db"), patience=HASTY)
        await store.start()
        large = {"large": "x" * 50_000}
        kept: list[StoredResponse] = []

        async def fill() -> None:
            for number in range(100):
                one = replace(made(f"resp_{number}"), body=large)
                await store.put_response(one)
                kept.append(one)

        await refused(fill(), FULL)
        assert len(kept) > 5
        for one in kept:
            assert await store.response(OWNER, one.id) == one
        assert await store.response(OWNER, f"resp_{len(kept)}") is None
        resize("20m")
        await again(lambda: store.put_response(made("resp_after")))
        assert await store.response(OWNER, "resp_after") == made("resp_after")
        await store.close()


def test_a_file_that_may_not_be_written_is_told() -> None:
    assert fault(sqlite3.OperationalError("attempt to write a readonly database")).message == READ_ONLY


async def test_a_server_that_goes_away_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    with running_postgres() as server:
        store = open_store(server.fresh(), patience=2.0)
        await store.start()
        await store.put_response(made("resp_before"))
        with caplog.at_level(logging.WARNING, "portico"):
            server.stop()
            for _ in range(20):
                await refused(store.put_response(made("resp_a")), LOST)
                await refused(store.response(OWNER, "resp_before"), LOST)
            server.start()
            await again(lambda: store.put_response(made("resp_a")))
        assert await again(lambda: store.response(OWNER, "resp_before")) == made("resp_before")
        assert "is back" in caplog.text
        assert "a-secret" not in caplog.text
        assert len(caplog.records) < 20, "it is said once, not with every call"
        await store.close()


async def test_connections_that_are_cut_are_made_anew_unnoticed(postgres: Postgres) -> None:
    import psycopg

    url = postgres.fresh()
    store = open_store(url)
    await store.start()
    for number in range(5):
        await store.put_response(made(f"resp_{number}"))
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'portico'")
        assert await store.response(OWNER, f"resp_{number}") == made(f"resp_{number}")
    await store.close()


@pytest.mark.parametrize(
    ("state", "text"),
    [("53100", FULL), ("53200", FULL), ("55P03", BUSY), ("40001", BUSY), ("40P01", BUSY), ("25006", READ_ONLY),
     ("42501", READ_ONLY), ("XX001", DAMAGED), ("57P01", LOST), ("08006", LOST), (None, LOST)],
)  # fmt: skip
def test_what_postgresql_says(state: str | None, text: str) -> None:
    """Faults that cannot be made here: by the states that its manual lists."""

    class Fault(Exception):
        sqlstate = state

    assert fault(Fault("connection to port 53405 failed")).message == text


def test_what_a_client_is_told() -> None:
    """The texts are fit for a client: one line, and nothing of the place."""
    for text in (FULL, BUSY, READ_ONLY, DAMAGED, LOST):
        assert "\n" not in text
        assert "/" not in text
