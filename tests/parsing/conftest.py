"""What the tests of parsing share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from portico.parsing import registry


@pytest.fixture(autouse=True)
def own_families() -> Iterator[None]:
    """What a test registers is gone behind it."""
    before = list(registry._extra)
    yield
    if registry._extra != before:
        registry._extra[:] = before
        registry.register()
