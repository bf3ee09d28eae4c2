"""OpenAI's client of the server under test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from openai import OpenAI

    from support.server import RunningServer

__all__ = ["client", "client_of"]


def client_of(server: RunningServer, api_key: str = "none") -> OpenAI:
    """Asks once, and waits for as long as it takes."""
    from openai import OpenAI

    return OpenAI(base_url=server.base_url, api_key=api_key, max_retries=0, timeout=600)


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[OpenAI]:
    """The client of a module's ``server``."""
    with client_of(server) as one:
        yield one
