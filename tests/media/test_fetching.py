"""The media fetcher: a real server behind a made-up name, and every way to get past the guard."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.errors import BadRequestError
from portico.media.fetching import Fetched, MediaFetcher
from portico.media.hosts import is_public
from portico.prompting import MediaPart

PARAM = "messages[0].content[1].image_url"
PIXEL = b"\x89PNG not really"


class Handler(BaseHTTPRequestHandler):
    seen: list[tuple[str, str]] = []  # noqa: RUF012  (path, Host) of every request

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["Host"]))
        port = self.server.server_address[1]
        redirects = {
            "/moved": "/image",
            "/elsewhere": "http://other.example/image",
            "/inside": f"http://private.example:{port}/image",
            "/round": "/round",
            "/metadata": "http://169.254.169.254/latest",
        }
        if self.path in redirects:
            self.send_response(302)
            self.send_header("Location", redirects[self.path])
            self.end_headers()
            return
        if self.path == "/slow":
            time.sleep(1.0)
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Type", {"/page": "text/html"}.get(self.path, "image/png; charset=x"))
        if self.path == "/zipped":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if self.path != "/empty":
            self.wfile.write(PIXEL if self.path != "/large" else b"x" * 200_000)

    def log_message(self, *args: Any) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what is tested here."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = QuietServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


ADDRESSES = {"media.example": "127.0.0.1", "a.b.media.example": "127.0.0.1", "private.example": "127.0.0.2"}


async def resolve(host: str, port: int) -> Sequence[str]:
    return [ADDRESSES[host]]


def fetcher(port: int, **how: Any) -> MediaFetcher:
    """A fetcher for which 127.0.0.1 is the public internet and everything else is not."""
    hosts = [f"media.example:{port}", f"*.media.example:{port}", f"private.example:{port}"]
    how = {"max_bytes": 100_000, "resolve": resolve, "public": lambda a: str(a) == "127.0.0.1", **how}
    return MediaFetcher(hosts, **how)


async def refused(fetcher: MediaFetcher, url: str | None, words: str) -> None:
    with pytest.raises(BadRequestError, match=words) as error:
        await fetcher.fetch(MediaPart("image", url, PARAM))
    assert error.value.param == PARAM
    assert "127.0.0" not in error.value.message


async def test_what_is_listed_is_fetched(port: int) -> None:
    Handler.seen.clear()
    for host in ("media.example", "a.b.media.example"):
        medium = await fetcher(port).fetch(MediaPart("image", f"http://{host}:{port}/image?q=1", PARAM))
        assert medium == Fetched("image", PIXEL, "image/png")
    assert Handler.seen == [("/image?q=1", f"media.example:{port}"), ("/image?q=1", f"a.b.media.example:{port}")]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/missing", "status 404"),
        ("/page", "type is not image"),
        ("/large", "larger than 100,000 bytes"),
        ("/zipped", "compressed"),
        ("/empty", "empty"),
        ("/elsewhere", "may not fetch from that host"),
        ("/metadata", "may not fetch from that host"),
        ("/inside", "no public address"),
        ("/round", "redirects more than 3 times"),
        ("/slow", "did not arrive within 0.3 seconds"),
    ],
)
async def test_what_a_listed_host_may_not_do(port: int, path: str, words: str) -> None:
    seconds = 0.3 if path == "/slow" else 10.0
    await refused(fetcher(port, seconds=seconds), f"http://media.example:{port}{path}", words)


async def test_redirects_within_the_list(port: int) -> None:
    assert (await fetcher(port).fetch(MediaPart("image", f"http://media.example:{port}/moved", PARAM))).data == PIXEL


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/image",
        "http://media.example/image",  # the list names a port
        "http://media.example.evil.example/image",
        "http://evilmedia.example/image",
        "http://127.0.0.1/image",
        "http://[::1]/image",
    ],
)
async def test_hosts_that_are_not_listed(port: int, url: str) -> None:
    await refused(fetcher(port), url, "may not fetch from that host")


async def test_off_by_default(port: int) -> None:
    await refused(MediaFetcher(), f"http://media.example:{port}/image", "may not fetch from that host")


async def test_listing_a_private_host_does_not_open_it() -> None:
    for host in ("localhost", "127.0.0.1", "0.0.0.0", "169.254.169.254", "10.0.0.1"):
        await refused(MediaFetcher([host]), f"http://{host}/image", "no public address")


async def test_one_private_address_among_public_ones_is_enough(port: int) -> None:
    async def both(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1", "127.0.0.2"]

    await refused(fetcher(port, resolve=both), f"http://media.example:{port}/image", "no public address")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, "no URL"),
        ("file:///etc/passwd", "only http, https and data"),
        ("ftp://media.example/x", "only http, https and data"),
        ("gopher://media.example/x", "only http, https and data"),
        ("/etc/passwd", "only http, https and data"),
        ("http://", "only http, https and data"),
        ("", "only http, https and data"),
        ("http://user:word@media.example/x", "user name or password"),
        ("http://media.example:99999/x", "may not fetch from that host"),
        ("http://\x00/", "could not be fetched"),
        ("http://media.example/" + "x" * 5000, "longer than 4096"),
    ],
)
async def test_urls_that_are_none(port: int, url: str | None, words: str) -> None:
    await refused(fetcher(port), url, words)


async def test_a_host_that_cannot_be_reached(port: int) -> None:
    fetch = MediaFetcher(["media.example:1"], resolve=resolve, public=lambda a: True)
    await refused(fetch, "http://media.example:1/x", "could not be fetched")

    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    await refused(fetcher(port, resolve=unknown), f"http://media.example:{port}/x", "could not be fetched")


async def test_several_at_once_and_one_failure_ends_all(port: int) -> None:
    parts = [MediaPart("image", f"http://media.example:{port}/image", PARAM) for _ in range(4)]
    assert [medium.data for medium in await fetcher(port).fetch_all(parts)] == [PIXEL] * 4
    with pytest.raises(BadRequestError):
        await fetcher(port).fetch_all([*parts, MediaPart("image", "file:///x", PARAM)])
    assert len(asyncio.all_tasks()) == 1


# -- data: ------------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=400))
def test_data_urls_come_back_as_they_went(data: bytes) -> None:
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    assert asyncio.run(MediaFetcher().fetch(MediaPart("image", url, PARAM))) == Fetched("image", data, "image/png")


async def test_data_urls_of_other_kinds() -> None:
    plain = await MediaFetcher().fetch(MediaPart("image", "DATA:image/svg+xml,%3Csvg%20/%3E", PARAM))
    assert plain == Fetched("image", b"<svg />", "image/svg+xml")
    large = base64.b64encode(b"x" * 400_000).decode()
    medium = await MediaFetcher().fetch(MediaPart("audio", f"data:audio/wav;base64,{large}", PARAM))
    assert len(medium.data) == 400_000


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("data:image/png;base64", "data:TYPE;base64,DATA"),
        ("data:image/png;base64,A*A=", "base64 is not valid"),
        ("data:image/png;base64,AAA", "base64 is not valid"),
        ("data:image/png;base64,", "empty"),
        ("data:text/html,x", "type is not image"),
        ("data:,x", "type is not image"),
        ("data:image/png;base64," + "A" * 2000, "larger than 1,000 bytes"),
        ("data:image/png," + "A" * 2000, "larger than 1,000 bytes"),
    ],
)
async def test_data_urls_that_are_none(url: str, words: str) -> None:
    await refused(MediaFetcher(max_bytes=1000), url, words)


# -- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1", "192.0.2.1",
     "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1",
     "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
     "2002:7f00:1::", "2002:a00:1::", "::127.0.0.1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_addresses_that_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
