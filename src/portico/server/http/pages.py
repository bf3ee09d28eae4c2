"""The pages for people: files without a word of anybody's, which need no key. What they show does.

Each is there where what it shows is: the inspector and the playground with ``--inspect``, the batches always. Where no
keys are set the server listens on loopback, and ``portico.server.http.browsers`` keeps other pages from reading along.

All links are relative to the page, so that they hold wherever a proxy serves it.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

from portico.errors import NotFoundError
from portico.server.http.app import Methods
from portico.server.http.exchange import Exchange

__all__ = ["BATCH_LIST", "PAGES", "Pages"]

BATCH_LIST: Final = "/batches/jobs"  # what the page of batches asks for again and again

TITLES: Final = {"inspect": "Inspector", "play": "Playground", "batches": "Batches"}
MEDIA_TYPES: Final = {
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "svg": b"image/svg+xml",
}
HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)
LINKS: Final = b"<!-- pages -->"  # in a page: where the links to all pages belong
PARTS: Final = {b"<!-- head -->": "common/head.html", b"<!-- top -->": "common/top.html"}  # what pages have in common

_FILES: Final = {  # as they are asked for: folder/name
    f"{folder.name}/{file.name}": file.read_bytes()
    for folder in (resources.files("portico.server") / "pages").iterdir()
    if folder.is_dir()
    for file in folder.iterdir()
    if file.name.rpartition(".")[2] in MEDIA_TYPES
}
PAGES: Final = frozenset({*(f"/{name}" for name in TITLES), *(f"/assets/{name}" for name in _FILES)})  # need no key


class Pages:
    """The handlers of the pages; without ``inspect`` only of those that show nothing of what it records."""

    def __init__(self, *, inspect: bool) -> None:
        self._names = [name for name in TITLES if inspect or name == "batches"]

    def routes(self) -> dict[str, Methods]:
        """The paths of the pages, and of what they are made of."""
        pages: dict[str, Methods] = {f"/{name}": {"GET": self.page} for name in self._names}
        return {**pages, "/assets/{folder}/{name}": {"GET": self.asset}}

    async def page(self, exchange: Exchange) -> None:
        """One of the pages, with links to all that there are."""
        here = exchange.path.strip("/")
        await self._file(exchange, f"{here}/{here}.html", self._links(here))

    async def asset(self, exchange: Exchange) -> None:
        """A file that the pages need."""
        await self._file(exchange, "{folder}/{name}".format_map(exchange.path_params))

    def _links(self, here: str) -> bytes:
        marks = {here: ' aria-current="page"'}
        links = [f'<a href="{name}"{marks.get(name, "")}>{TITLES[name]}</a>' for name in self._names]
        return "\n      ".join(links).encode()

    @staticmethod
    async def _file(exchange: Exchange, name: str, links: bytes = b"") -> None:
        content = _FILES.get(name)
        if content is None:
            raise NotFoundError("There is no such file.")
        if links:
            for place, part in PARTS.items():
                content = content.replace(place, _FILES[part].strip())
            content = content.replace(LINKS, links)
        exchange.response_headers += HEADERS
        await exchange.respond(200, content, MEDIA_TYPES[name.rpartition(".")[2]])
