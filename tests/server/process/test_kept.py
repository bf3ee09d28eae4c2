"""The store that a server opens: the one it was told, or its user's own; what cannot be opened is said in one line."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from portico.config import Settings
from portico.errors import StoreError
from portico.server.process.kept import kept
from support.store_writer import made


async def test_the_users_own_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PORTICO_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    store = await kept(Settings())
    assert store is not None
    await store.put_response(made("resp_a"))
    await store.close()
    if sys.platform == "linux":
        assert (tmp_path / "portico" / "portico.db").is_file()


async def test_bounds_reach_it(tmp_path: Path) -> None:
    bounds = {"store_max_age": 2.5, "store_max_responses": 7, "store_max_bytes": 1 << 21}
    store = await kept(Settings(store=str(tmp_path / "portico.db"), **bounds))  # type: ignore[arg-type]
    assert store is not None
    assert (store.retention.max_age, store.retention.max_responses, store.retention.max_bytes) == (2.5, 7, 1 << 21)
    await store.close()


async def test_none_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert await kept(Settings(store="none")) is None  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


async def test_one_that_nobody_asked_for_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("PORTICO_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "portico"):
        assert await kept(Settings()) is None
    assert "responses are not kept: The store" in caplog.text
    with pytest.raises(StoreError, match="cannot be used"):
        await kept(Settings(store=str(tmp_path / "file" / "portico.db")))  # type: ignore[arg-type]


def test_a_server_without_the_store_it_was_told_does_not_start() -> None:
    """And its last words do not hold the password."""
    pytest.importorskip("psycopg")
    url = "postgresql://me:a-secret@127.0.0.1:1/name"
    command = [sys.executable, "-m", "portico", "serve", "smollm2", "--store", url, "--port", "0"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("portico: The store postgresql://me:***@127.0.0.1:1/name cannot be used: ")
    assert "a-secret" not in run.stdout + run.stderr
    assert "Traceback" not in run.stderr
