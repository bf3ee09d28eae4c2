"""From what an operator writes to a store that has its tables, or one line that says what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from portico.errors import StoreError
from portico.store import Store, open_store
from portico.store.migrating import HEAD, VERSION_TABLE, version
from portico.store.tables import metadata
from support.store_writer import OWNER, made


def test_the_steps_lead_to_the_tables(store: Store) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return list(compare_metadata(context, metadata))

    assert store.database.now(differences) == []
    assert store.database.now(version) == HEAD


def test_the_newest_step_is_known() -> None:
    import portico.store.migrations

    (directory,) = portico.store.migrations.__path__
    assert ScriptDirectory(directory).get_current_head() == HEAD


async def test_a_store_of_a_newer_portico_is_refused(store: Store, where: str) -> None:
    await store.put_response(made("resp_a"))
    store.database.now(lambda c: c.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")))
    newer = open_store(where)
    with pytest.raises(StoreError, match=r"newer Portico: its tables are 9999, here \d+ is known\. Install"):
        await newer.start()
    assert await store.response(OWNER, "resp_a") == made("resp_a")


async def test_starting_twice_and_closing_twice(where: str) -> None:
    store = open_store(where)
    for _ in range(2):
        await store.start()
        await store.start()
        await store.put_response(made("resp_a"))
        await store.close()
        await store.close()


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("", "no place"),
        (":memory:", "no place"),
        ("mysql://host/name", "no store at mysql://"),
        ("sqlite://", "no store at sqlite://"),
        ("postgresql://user:a-secret@host:port/name", "cannot be read"),
    ],
)
def test_what_is_no_store(written: str, told: str) -> None:
    with pytest.raises(StoreError, match=told) as refused:
        open_store(written)
    assert "a-secret" not in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("spelling", ["{}", "sqlite:///{}"])
async def test_a_file_is_its_owners_alone(tmp_path: Path, spelling: str) -> None:
    file = tmp_path / "one" / "two % ?x" / "portico.db"
    store = open_store(
        spelling.format(str(file).replace("%", "%25").replace("?", "%3F") if "://" in spelling else file)
    )
    await store.start()
    await store.put_response(made("resp_a"))
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in file.parent.iterdir())
    await store.close()


@pytest.mark.parametrize("fault", ["directory", "text", "foreign", "under a file", "nobody"])
async def test_what_cannot_be_used_is_told_in_one_line(tmp_path: Path, fault: str) -> None:
    file = tmp_path / "portico.db"
    where = str(file)
    if fault == "directory":
        file.mkdir()
    elif fault == "text":
        file.write_text("Dear diary, " * 1000)
    elif fault == "foreign":
        with sqlite3.connect(file) as connection:
            connection.execute(f"CREATE TABLE {VERSION_TABLE} (something text)")
        connection.close()
    elif fault == "under a file":
        file.touch()
        where += "/portico.db"
    else:
        pytest.importorskip("psycopg")
        where = "postgresql://me:a-secret@127.0.0.1:1/name?password=a-secret"
    with pytest.raises(StoreError, match=r"cannot be used: .*\. Name another with --store, or none\.$") as refused:
        await open_store(where, patience=0.2).start()
    assert "\n" not in refused.value.message
    assert "a-secret" not in refused.value.message
