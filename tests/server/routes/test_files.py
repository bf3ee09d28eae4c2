"""Files over a real server: OpenAI's SDK, the law of paging, owners, bounds, clients that go away."""

from __future__ import annotations

import io
import random
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from openai import OpenAI

from portico.server.http.connection import Connection
from portico.server.line.served import FileBounds
from portico.store.files import CHUNK
from support.attacks import peak
from support.js import Script as Js
from support.js import js  # noqa: F401  (a fixture)
from support.openapi import assert_valid
from support.raw import raw, request
from support.replay import Replaying, replaying
from support.server import RunningServer, running_server
from support.tiny_models import write
from support.wait import until

KEYS = ("first-key", "second-key")
DAY = 86400
BOUNDS = FileBounds(largest=3 * CHUNK, of_one_key=8 * CHUNK)
TYPE = ("Content-Type", "multipart/form-data; boundary=b0undary")
BEARER = ("Authorization", f"Bearer {KEYS[0]}")
LAST = ("Connection", "close")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "portico.db"


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Replaying]:
    with replaying({"plain": "It is sunny."}, keys=KEYS, store=str(store), file_bounds=BOUNDS) as up:
        yield up


def client_of(server: Replaying | RunningServer, key: str = KEYS[0]) -> OpenAI:
    return OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0, timeout=600)


@pytest.fixture
def client(server: Replaying) -> Iterator[OpenAI]:
    """Of the first key, which has no files before and none behind."""
    with client_of(server) as one:
        yield one
        for file in one.files.list():
            one.files.delete(file.id)


def rows(store: Path, table: str) -> int:
    with closing(sqlite3.connect(store)) as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM portico_{table}").fetchone()
    return int(count)


def form(data: bytes, purpose: bytes = b"batch") -> bytes:
    return (
        b'--b0undary\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n%b\r\n--b0undary\r\n'
        b'Content-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n%b\r\n--b0undary--\r\n'
    ) % (purpose, data)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 2 * CHUNK + 77])
def test_a_file_comes_back(client: OpenAI, size: int) -> None:
    data = random.Random(size).randbytes(size)
    made = client.files.create(file=("../../etc/pass\u2603wd", data), purpose="batch")
    assert (made.filename, made.bytes, made.purpose) == ("../../etc/pass\u2603wd", size, "batch")
    assert (made.object, made.status) == ("file", "processed")
    assert made.expires_at == made.created_at + 30 * DAY
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).content == data
    with client.files.with_streaming_response.content(made.id) as streamed:
        assert streamed.headers["content-length"] == str(size)
        assert b"".join(streamed.iter_bytes()) == data
    assert client.files.wait_for_processing(made.id) == made
    assert client.files.list().data == [made]
    gone = client.files.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "file", True)
    for lost in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match=f"No such File object: {made.id}"):
            lost(made.id)


def test_the_javascript_client(server: Replaying, client: OpenAI, js: Js) -> None:  # noqa: F811
    """It sends the file in front of the fields."""
    (done,) = js("openai.mjs", server.url, "files", key=KEYS[0])
    made = done["made"]
    assert (made["filename"], made["purpose"], made["bytes"]) == ("ä b.txt", "user_data", 8)
    assert made["expires_at"] == made["created_at"] + 3600
    assert (done["listed"], done["text"]) == ([made["id"]], "data ☃")
    assert done["gone"] == {"id": made["id"], "object": "file", "deleted": True}


def test_the_shapes_are_openais(server: Replaying, client: OpenAI) -> None:
    made = client.files.create(file=io.BytesIO(b"data"), purpose="assistants")
    headers = dict([BEARER])
    url = f"{server.url}/v1/files"
    assert_valid("OpenAIFile", httpx.get(f"{url}/{made.id}", headers=headers).json())
    page = httpx.get(url, headers=headers).json()
    assert_valid("ListFilesResponse", page)
    assert page.keys() == {"object", "data", "first_id", "last_id", "has_more"}
    assert_valid("DeleteFileResponse", httpx.delete(f"{url}/{made.id}", headers=headers).json())
    assert httpx.get(url, headers=headers).json().keys() == page.keys()


def test_a_file_ends_when_its_client_says(client: OpenAI) -> None:
    """But not later than the server keeps anything."""
    for seconds in (3600, 30 * DAY):
        after: Any = {"anchor": "created_at", "seconds": seconds}
        made = client.files.create(file=b"data", purpose="user_data", expires_after=after)
        assert made.expires_at == made.created_at + seconds
    with pytest.raises(openai.BadRequestError, match=r"expires_after\.seconds"):
        client.files.create(file=b"data", purpose="user_data", expires_after={"anchor": "created_at", "seconds": 60})


def test_lists_are_those_of_a_plain_model(server: Replaying, client: OpenAI) -> None:
    """Any limit, order, purpose and edge: what a list of all the files says. Pages have no gaps and nothing twice."""
    draw = random.Random(1)
    purposes: list[Any] = ["batch", "evals", "vision"]
    made = [client.files.create(file=b"", purpose=draw.choice(purposes)) for _ in range(23)]
    for _ in range(60):
        purpose = draw.choice([None, *purposes])
        order = draw.choice(["asc", "desc", None])
        limit = draw.choice([1, 2, 5, 22, 23, 24, 10_000])
        edge = draw.choice([None, *made])
        given = {"purpose": purpose, "order": order, "limit": limit, "after": edge and edge.id}
        page = httpx.get(
            f"{server.url}/v1/files",
            params={name: value for name, value in given.items() if value is not None},
            headers=dict([BEARER]),
        ).json()
        ordered = made if order == "asc" else made[::-1]
        wanted = [one.id for one in ordered[ordered.index(edge) + 1 if edge else 0 :] if purpose in (None, one.purpose)]
        shown = [one["id"] for one in page["data"]]
        assert (shown, page["has_more"]) == (wanted[:limit], len(wanted) > limit), given
        assert (page["first_id"], page["last_id"]) == ((shown[0], shown[-1]) if shown else (None, None))
    assert [one.id for one in client.files.list(limit=3)] == [one.id for one in made[::-1]], "the SDK turns pages"


@pytest.mark.parametrize(
    ("query", "status"),
    [("limit=0", 400), ("limit=10001", 400), ("limit=x", 400), ("order=up", 400), ("after=file-none", 404)],
)
def test_what_no_list_has(server: Replaying, query: str, status: int) -> None:
    answer = httpx.get(f"{server.url}/v1/files?{query}", headers=dict([BEARER]))
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, query.partition("=")[0])


def test_files_are_their_keys(server: Replaying, client: OpenAI) -> None:
    made = client.files.create(file=b"secret", purpose="batch")
    with client_of(server, KEYS[1]) as other:
        assert other.files.list().data == []
        for lost in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError, match="No such File object"):
                lost(made.id)
        with pytest.raises(openai.NotFoundError):
            other.files.list(after=made.id)
    with client_of(server, "no key of ours") as stranger, pytest.raises(openai.AuthenticationError):
        stranger.files.create(file=b"data", purpose="batch")
    assert client.files.content(made.id).content == b"secret"


def test_a_head_has_no_body(server: Replaying, client: OpenAI) -> None:
    made = client.files.create(file=b"data", purpose="batch")
    url = f"{server.url}/v1/files/{made.id}"
    with httpx.Client(headers=dict([BEARER])) as http:
        for path, size in ((url, None), (url + "/content", "4")):
            head = http.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert size in (None, head.headers["content-length"])
        assert http.get(url + "/content").headers["content-type"] == "application/octet-stream"


class TestBounds:
    def test_a_file_that_is_too_large(self, server: Replaying, client: OpenAI, store: Path) -> None:
        """Said in its head it is refused before it is read; in chunks as soon as it is more."""
        head = request("POST", "/v1/files", None, [BEARER, TYPE, LAST, ("Content-Length", str(1 << 40))])
        answer = raw(server.url, head)
        assert answer.status == 413
        assert "--max-file" in answer.json["error"]["message"]
        body = form(b"x" * (BOUNDS.largest + 1))
        pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
        chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
        head = request("POST", "/v1/files", None, [BEARER, TYPE, ("Transfer-Encoding", "chunked")])
        answer = raw(server.url, head, *chunks, b"0\r\n\r\n", request("GET", "/v1/files", None, [BEARER, LAST]))
        assert answer.statuses == [413, 200]
        with pytest.raises(openai.APIStatusError) as refused:
            client.files.create(file=b"x" * (BOUNDS.largest + 1), purpose="batch")
        assert refused.value.status_code == 413
        client.files.create(file=b"x" * BOUNDS.largest, purpose="batch")
        assert rows(store, "files") == 1

    def test_what_the_files_of_a_key_have_together(self, server: Replaying, client: OpenAI) -> None:
        for _ in range(2):
            last = client.files.create(file=b"x" * BOUNDS.largest, purpose="batch")
        with pytest.raises(openai.APIStatusError, match="--max-files-per-key") as refused:
            client.files.create(file=b"x" * BOUNDS.largest, purpose="batch")
        assert refused.value.status_code == 413
        client.files.create(file=b"x" * (2 * CHUNK), purpose="batch")
        with pytest.raises(openai.APIStatusError, match="--max-files-per-key"):
            client.files.create(file=b"x", purpose="batch")
        with client_of(server, KEYS[1]) as other:
            other.files.delete(other.files.create(file=b"x" * BOUNDS.largest, purpose="batch").id)
        client.files.delete(last.id)
        client.files.create(file=b"x" * BOUNDS.largest, purpose="batch")

    def test_a_server_that_keeps_nothing_says_so(self) -> None:
        with replaying({"plain": "x"}) as up, client_of(up) as client:
            for ask in (lambda: client.files.create(file=b"x", purpose="batch"), client.files.list):
                with pytest.raises(openai.NotFoundError, match="--store none"):
                    ask()


class TestForms:
    @pytest.mark.parametrize(
        ("body", "headers", "status", "param"),
        {
            "no purpose": (form(b"x").replace(b"purpose", b"color"), [TYPE], 400, "purpose"),
            "unknown purpose": (form(b"x", b"world peace"), [TYPE], 400, "purpose"),
            "no boundary": (form(b"x"), [("Content-Type", "multipart/form-data")], 400, None),
            "JSON": (b"{}", [("Content-Type", "application/json")], 415, None),
            "compressed": (form(b"x"), [TYPE, ("Content-Encoding", "gzip")], 415, None),
            "cut off": (form(b"x" * CHUNK)[:-20], [TYPE], 400, None),
        }.values(),
    )
    def test_what_is_wrong_is_refused(
        self, server: Replaying, store: Path, body: bytes, headers: Any, status: int, param: str | None
    ) -> None:
        answer = raw(server.url, request("POST", "/v1/files", body, [BEARER, LAST, *headers]))
        assert answer.status == status
        assert answer.json["error"].keys() == {"message", "type", "param", "code"}
        assert answer.json["error"]["param"] == param
        assert rows(store, "files") == rows(store, "file_chunks") == 0

    def test_unknown_fields_are_told(self, server: Replaying, client: OpenAI) -> None:
        files = {"file": ("a", b"x"), "purpose": (None, "batch"), "colour": (None, "red")}
        answer = httpx.post(f"{server.url}/v1/files", files=files, headers=dict([BEARER]))
        assert answer.status_code == 200
        assert "colour" in answer.headers["x-portico-warning"]


def test_a_client_that_goes_away_leaves_nothing(server: Replaying, store: Path) -> None:
    where = urlsplit(server.url)
    body = form(b"x" * (2 * CHUNK))
    for sent in (0, 10, 200, CHUNK + 500, len(body) - 1):
        with socket.create_connection((where.hostname or "", where.port or 80)) as connection:
            connection.sendall(request("POST", "/v1/files", None, [BEARER, TYPE, ("Content-Length", str(len(body)))]))
            connection.sendall(body[:sent])
            if sent > CHUNK:
                until(lambda: rows(store, "file_chunks"))
        until(lambda: not rows(store, "files"))
    until(lambda: not rows(store, "file_chunks"))


def test_a_large_file_has_its_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """When the time for a request is over, a body that has kept its pace gets the same again; another is cut off."""
    seen: list[Connection] = []
    monkeypatch.setattr("portico.server.http.connection.PACE", 10)
    monkeypatch.setattr(Connection, "on_message_begin", _seen_by(seen, Connection.on_message_begin))
    body = form(b"x" * (2 * CHUNK))
    head = request("POST", "/v1/files", None, [TYPE, LAST, ("Content-Length", str(len(body)))])
    with replaying({"plain": "x"}, store=str(tmp_path / "portico.db"), client_timeout=600) as up:
        for size, status in ((len(body) - 20, 200), (200, 408)):
            with socket.create_connection(("127.0.0.1", urlsplit(up.url).port or 80)) as connection:
                connection.sendall(head + body[:size])
                until(lambda: seen and seen[-1]._received >= len(head) + size)  # noqa: B023
                last = seen.pop()
                last.loop.call_soon_threadsafe(last._too_slow)
                if status == 200:
                    until(lambda: last._received == 0)  # noqa: B023
                    connection.sendall(body[size:])
                assert connection.recv(1 << 16).startswith(b"HTTP/1.1 %d " % status)


def _seen_by(seen: list[Connection], method: Any) -> Any:
    def called(self: Connection) -> None:
        seen.append(self)
        method(self)

    return called


@pytest.mark.slow
def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    """200 MB go in and out of a server that needs no more than 40 MB more for it."""
    size, piece = 200 << 20, b'{"custom_id": "1"}\n' * 50_000
    model = write("llama", tmp_path / "tiny.gguf")
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"text": "x"}\n')
    with (
        running_server(model, "--engine", f"replay:{answers}", "--store", tmp_path / "portico.db") as up,
        client_of(up) as client,
    ):
        client.files.delete(client.files.create(file=piece, purpose="batch").id)
        before = peak(up.process.pid, forget=True)
        with (tmp_path / "large.jsonl").open("wb") as large:
            large.writelines(piece for _ in range(size // len(piece) + 1))
        made = client.files.create(file=tmp_path / "large.jsonl", purpose="batch")
        read = 0
        with client.files.with_streaming_response.content(made.id) as streamed:
            for some in streamed.iter_bytes():
                read += len(some)
        assert read == made.bytes > size
        assert peak(up.process.pid) - before < 40 << 20
