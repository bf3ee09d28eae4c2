"""Asking a server for its traces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import rich_click as click

from portico.errors import PorticoError

__all__ = ["TraceServer"]


class TraceServer:
    """A server with an inspector. Raises ``PorticoError`` with a sentence that says what to do."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            self._client = httpx.Client(base_url=self._url, headers=headers, timeout=httpx.Timeout(10, read=60))
        except (httpx.InvalidURL, ValueError) as error:
            raise click.UsageError(f"--url: {error}") from None

    def close(self) -> None:
        self._client.close()

    def get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.fetch(path))
        return found

    def fetch(self, path: str) -> bytes:
        with self._told():
            response = self._client.get(path)
            self._check(response)
            return response.content

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """The values of a stream of server-sent events."""
        with self._told(), self._client.stream("GET", path) as response:
            if response.status_code != 200:
                response.read()
            self._check(response)
            for line in response.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line[6:])

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise PorticoError(
                f"No server answers at {self._url}: start one with 'portico serve --inspect', or give its --url."
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PorticoError(f"{self._url}: {error or type(error).__name__}.") from None
        except ValueError:
            raise PorticoError(f"{self._url} does not answer as a Portico server does.") from None

    def _check(self, response: httpx.Response) -> None:
        if response.status_code == 200:
            return
        message, code = _error(response)
        if response.status_code == 401:
            raise PorticoError(f"{self._url} wants an API key: give --api-key, or set PORTICO_API_KEY.")
        if response.status_code == 404 and code == "trace_not_found":
            raise PorticoError(f"{message} 'portico trace' lists those that are.")
        if response.status_code == 404:
            raise PorticoError(f"{self._url} does not record requests: start it with 'portico serve --inspect'.")
        raise PorticoError(f"{self._url} answers {response.status_code}: {message}")


def _error(response: httpx.Response) -> tuple[str, str]:
    try:
        error = response.json()["error"]
        return str(error["message"]), str(error.get("code"))
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase, ""
