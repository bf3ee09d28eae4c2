"""Asking a server for its traces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from portico.commands.remote import RefusedError, Remote
from portico.errors import PorticoError

__all__ = ["TraceServer"]


class TraceServer(Remote):
    """A server with an inspector."""

    def __init__(self, url: str, key: str | None) -> None:
        super().__init__(url, key, "portico serve --inspect")

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """The values of a stream of server-sent events."""
        with self.stream(path) as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line[6:])

    @contextmanager
    def _told(self) -> Iterator[None]:
        with super()._told():
            try:
                yield
            except RefusedError as error:
                if error.refused != 404:
                    raise
                if error.code == "trace_not_found":
                    raise PorticoError(f"{error.told} 'portico trace' lists those that are.") from None
                raise PorticoError(
                    f"{self.url} does not record requests: start it with 'portico serve --inspect'."
                ) from None
