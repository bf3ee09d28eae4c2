"""A running server, as commands ask it: over HTTP, with a sentence for everything that can go wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import rich_click as click

from portico.errors import PorticoError

__all__ = ["RefusedError", "Remote", "server_options"]

Function = TypeVar("Function", bound=Callable[..., Any])


def server_options(function: Function) -> Function:
    """Decorate a command with ``--url`` and ``--api-key``."""
    key = click.option("--api-key", envvar="PORTICO_API_KEY", help="API key of the server.")
    url = click.option(
        "--url",
        envvar="PORTICO_URL",
        default="http://127.0.0.1:8000",
        show_default=True,
        help="Base URL of the server.",
    )
    return url(key(function))


class RefusedError(PorticoError):
    """The server answered with an error: ``refused`` is its HTTP status, ``told`` its message."""

    def __init__(self, url: str, refused: int, told: str, code: str) -> None:
        super().__init__(f"{url} answers {refused}: {told}", code=code)
        self.refused = refused
        self.told = told


class Remote:
    """A server. All calls raise ``PorticoError`` with a sentence that says what to do; ``start`` is what starts such a
    server."""

    def __init__(self, url: str, key: str | None, start: str = "portico serve") -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._start = start
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            self._client = httpx.Client(base_url=self.url, headers=headers, timeout=httpx.Timeout(10, read=60))
        except (httpx.InvalidURL, ValueError) as error:
            raise click.UsageError(f"--url: {error}") from None

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def fetch(self, path: str, method: str = "GET", **more: Any) -> bytes:
        """The body of the answer; ``more`` is for httpx."""
        with self._told():
            response = self._client.request(method, path, **more)
            self._check(response)
            return response.content

    def get(self, path: str, method: str = "GET", **more: Any) -> dict[str, Any]:
        """The object that is the answer."""
        with self._told():
            found = json.loads(self.fetch(path, method, **more))
            if not isinstance(found, dict):
                raise ValueError
            return found

    @contextmanager
    def stream(self, path: str) -> Iterator[httpx.Response]:
        """The answer, whose body is read by who asks."""
        with self._told(), self._client.stream("GET", path) as response:
            if response.status_code != 200:
                response.read()
            self._check(response)
            yield response

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise PorticoError(
                f"No server answers at {self.url}: start one with '{self._start}', or give its --url."
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PorticoError(f"{self.url}: {error or type(error).__name__}.") from None
        except ValueError:
            raise PorticoError(f"{self.url} does not answer as a Portico server does.") from None

    def _check(self, response: httpx.Response) -> None:
        if response.status_code == 200:
            return
        if response.status_code == 401:
            raise PorticoError(f"{self.url} wants an API key: give --api-key, or set PORTICO_API_KEY.")
        try:
            error = response.json()["error"]
            message, code = str(error["message"]), str(error.get("code"))
        except (ValueError, KeyError, TypeError):
            message, code = response.reason_phrase, ""
        raise RefusedError(self.url, response.status_code, message, code)
