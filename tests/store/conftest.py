"""Every test of the store runs over both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portico.store import Store, open_store
from support.store import postgres  # noqa: F401  (a fixture)


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, as an operator names it."""
    if request.param == "sqlite":
        return str(tmp_path / "new" / "portico.db")
    return request.getfixturevalue("postgres").fresh()


@pytest.fixture
async def store(where: str) -> AsyncIterator[Store]:
    """A store that has started."""
    store = open_store(where)
    await store.start()
    yield store
    await store.close()
