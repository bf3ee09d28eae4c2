"""The one place that fetches media: images, sounds and films that a conversation mentions by URL.

A URL in a request makes the server speak to whom the client chooses, so everything about it is guarded:

    * ``data:`` URLs always work; they are decoded strictly and may not be larger than any other medium.
    * http and https are off until the operator lists hosts; what ``hosts`` says of these holds.
    * Redirects are followed by hand, and each target is checked like the first URL.
    * Bytes are counted as they come and never decompressed; the clock runs over everything, redirects included.
    * Proxies of the environment, cookies and passwords in URLs are not used. What goes wrong is told in our words,
      never in a library's.

The only IO here is in this file and in ``hosts``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urljoin

from portico.errors import BadRequestError
from portico.media.hosts import Address, Hosts, Resolver
from portico.prompting import MediaPart

if TYPE_CHECKING:
    import httpx

__all__ = ["Fetched", "MediaFetcher"]

MAX_BYTES = 20 * 1024 * 1024
MAX_SECONDS = 10.0
MAX_REDIRECTS = 3
MAX_URL = 4096  # characters, but for data: URLs
INLINE_URL = 256 * 1024  # longer data: URLs are decoded in a thread: a millisecond or more


@dataclass(frozen=True)
class Fetched:
    """A medium in memory: its bytes as they were sent, and the MIME type that the sender claims."""

    kind: str
    data: bytes
    content_type: str


class MediaFetcher:
    """Fetches under the rules above.

    ``hosts`` may be asked over http(s); empty switches that off. ``max_bytes`` and ``seconds`` hold for one medium.
    ``resolve`` and ``transport`` take the place of the system's resolver and of httpx's connections, ``public`` that of
    the rule for addresses: for tests, and for operators who know their network.
    """

    def __init__(
        self,
        hosts: Collection[str] = (),
        *,
        max_bytes: int = MAX_BYTES,
        seconds: float = MAX_SECONDS,
        resolve: Resolver | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        public: Callable[[Address], bool] | None = None,
    ) -> None:
        self.hosts = Hosts(hosts, resolve=resolve, public=public)
        self.max_bytes = max_bytes
        self.seconds = seconds
        self._transport = transport

    async def fetch_all(self, parts: Sequence[MediaPart]) -> list[Fetched]:
        """The media of ``parts``, in order, fetched at the same time."""
        tasks = [asyncio.ensure_future(self.fetch(part)) for part in parts]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def fetch(self, part: MediaPart) -> Fetched:
        """The medium that ``part`` mentions. Raises ``BadRequestError`` naming its place in the request."""
        url = part.url
        if url is None:
            raise BadRequestError(f"{part.param}: there is no URL to take the {part.kind} from.", param=part.param)
        if url[:5].lower() == "data:":
            if len(url) < INLINE_URL:
                return self._decode(url, part)
            return await asyncio.to_thread(self._decode, url, part)
        import httpx  # five megabytes with what it imports: only where something is fetched

        try:
            return await asyncio.wait_for(self._fetch(url, part), self.seconds)
        except TimeoutError:
            raise _refused(part, f"it did not arrive within {self.seconds:g} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError):
            raise _refused(part, "it could not be fetched") from None

    # -- data: --------------------------------------------------------------------------------------------------------

    def _decode(self, url: str, part: MediaPart) -> Fetched:
        header, comma, payload = url[5:].partition(",")
        if not comma:
            raise _refused(part, "a data: URL is written data:TYPE;base64,DATA")
        if len(payload) * 3 // 4 > self.max_bytes + 2:
            raise self._too_large(part)
        kind, *parameters = (piece.strip() for piece in header.split(";"))
        if "base64" in [parameter.lower() for parameter in parameters]:
            try:
                data = base64.b64decode(payload, validate=True)
            except (binascii.Error, ValueError):
                raise _refused(part, "its base64 is not valid") from None
        else:
            data = unquote_to_bytes(payload)
        return self._checked(part, data, kind or "text/plain")

    # -- http(s): -----------------------------------------------------------------------------------------------------

    async def _fetch(self, url: str, part: MediaPart) -> Fetched:
        import httpx

        transport = self._transport or httpx.AsyncHTTPTransport(retries=0, trust_env=False)
        async with httpx.AsyncClient(
            transport=transport, trust_env=False, follow_redirects=False, timeout=self.seconds
        ) as client:
            for _ in range(MAX_REDIRECTS + 1):
                response = await client.send(await self._pinned(url, part), stream=True)
                try:
                    if not response.has_redirect_location:
                        return await self._body(response, part)
                    url = urljoin(url, response.headers["location"])
                finally:
                    await response.aclose()
        raise _refused(part, f"it redirects more than {MAX_REDIRECTS} times")

    async def _pinned(self, url: str, part: MediaPart) -> httpx.Request:
        """The request for ``url``, to an address that was checked."""
        import httpx

        if len(url) > MAX_URL:
            raise _refused(part, f"its URL is longer than {MAX_URL} characters")
        target = httpx.URL(url)
        if target.scheme not in ("http", "https") or not target.host:
            raise _refused(part, "only http, https and data: URLs are taken")
        if target.userinfo:
            raise _refused(part, "its URL may not hold a user name or password")
        port = target.port or (443 if target.scheme == "https" else 80)
        if not self.hosts.lists(target.host, target.port):
            raise _refused(part, "this server may not fetch from that host; send the medium as a data: URL")
        address = await self.hosts.address(target.host, port)
        if address is None:
            raise _refused(part, "its host has no public address")
        headers = {"host": target.netloc.decode("ascii"), "accept": f"{part.kind}/*", "accept-encoding": "identity"}
        timeout = httpx.Timeout(self.seconds).as_dict()
        extensions = {"sni_hostname": target.host, "timeout": timeout}
        return httpx.Request("GET", target.copy_with(host=address), headers=headers, extensions=extensions)

    async def _body(self, response: httpx.Response, part: MediaPart) -> Fetched:
        if response.status_code != 200:
            raise _refused(part, f"its host answered with status {response.status_code}")
        if "content-encoding" in response.headers:
            raise _refused(part, "its host sent it compressed")
        data = bytearray()
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > self.max_bytes:
                raise self._too_large(part)
        return self._checked(part, bytes(data), response.headers.get("content-type", ""))

    # -- both ---------------------------------------------------------------------------------------------------------

    def _checked(self, part: MediaPart, data: bytes, content_type: str) -> Fetched:
        content_type = content_type.partition(";")[0].strip().lower()
        if not data:
            raise _refused(part, "it is empty")
        if len(data) > self.max_bytes:
            raise self._too_large(part)
        if content_type and content_type != "application/octet-stream" and not content_type.startswith(part.kind + "/"):
            raise _refused(part, f"its type is not {part.kind}/…")
        return Fetched(part.kind, data, content_type)

    def _too_large(self, part: MediaPart) -> BadRequestError:
        return _refused(part, f"it is larger than {self.max_bytes:,} bytes")


def _refused(part: MediaPart, why: str) -> BadRequestError:
    return BadRequestError(f"{part.param}: the {part.kind} cannot be used: {why}.", param=part.param)
