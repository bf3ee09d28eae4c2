"""Files that come in parts, over a real server: OpenAI's SDK, its helper, owners, what is wrong, what is left."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from portico.server.line.served import FileBounds
from support.openapi import assert_valid
from support.replay import Replaying, replaying

KEYS = ("first-key", "second-key")
BOUNDS = FileBounds(largest=100_000, of_one_key=250_000)
DATA = random.Random(1).randbytes(70_000)
HOUR = 3600
HEADERS = {"Authorization": f"Bearer {KEYS[0]}"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "portico.db"


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Replaying]:
    with replaying({"plain": "x"}, keys=KEYS, store=str(store), file_bounds=BOUNDS) as up:
        yield up


def client_of(server: Replaying, key: str = KEYS[0]) -> OpenAI:
    return OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0, timeout=600)


@pytest.fixture
def client(server: Replaying, store: Path) -> Iterator[OpenAI]:
    """Of the first key, with nothing kept before and behind."""
    with client_of(server) as one:
        yield one
        for file in one.files.list():
            one.files.delete(file.id)
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM portico_files")


def begun(client: OpenAI, size: int = len(DATA), **more: Any) -> Any:
    facts: dict[str, Any] = {"filename": "a.bin", "purpose": "user_data", "mime_type": "text/plain", **more}
    return client.uploads.create(bytes=size, **facts)


def kept(store: Path) -> int:
    with closing(sqlite3.connect(store)) as connection:
        return int(connection.execute("SELECT count(*) FROM portico_files").fetchone()[0])


def test_the_sdks_helper(client: OpenAI, store: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(DATA)
    for md5 in (openai.omit, hashlib.md5(DATA).hexdigest()):
        done = client.uploads.upload_file_chunked(
            file=path, mime_type="text/plain", purpose="batch", part_size=20_000, md5=md5
        )
        assert (done.status, done.bytes, done.filename) == ("completed", len(DATA), "large.bin")
        assert done.file is not None
        assert (done.file.filename, done.file.purpose, done.file.bytes) == ("large.bin", "batch", len(DATA))
        assert client.files.content(done.file.id).content == DATA
        assert client.files.list().data == [done.file]
        client.files.delete(done.file.id)
    assert kept(store) == 0, "nothing is left of the parts"


def test_parts_in_another_order(server: Replaying, client: OpenAI) -> None:
    """They are put together as they are named, whichever came first."""
    upload = begun(client, 6, expires_after={"anchor": "created_at", "seconds": HOUR})
    assert (upload.status, upload.object, upload.expires_at) == ("pending", "upload", upload.created_at + HOUR)
    parts = [client.uploads.parts.create(upload.id, data=data) for data in (b"def", b"abc", b"not wanted")[:2]]
    assert {(part.object, part.upload_id) for part in parts} == {("upload.part", upload.id)}
    assert client.files.list().data == [], "parts are no files"
    done = client.uploads.complete(upload.id, part_ids=[part.id for part in parts[::-1]])
    assert done.file is not None
    assert client.files.content(done.file.id).content == b"abcdef"
    assert done.file.expires_at == done.file.created_at + HOUR
    for again in (client.uploads.cancel, lambda id: client.uploads.complete(id, part_ids=["x"])):
        with pytest.raises(openai.NotFoundError, match=f"No such Upload object: {upload.id}"):
            again(upload.id)


def test_the_shapes_are_openais(server: Replaying, client: OpenAI) -> None:
    url = f"{server.url}/v1/uploads"
    facts = {"filename": "a", "purpose": "vision", "bytes": 1, "mime_type": "text/plain"}
    upload = httpx.post(url, json=facts, headers=HEADERS).json()
    assert_valid("Upload", upload)
    part = httpx.post(f"{url}/{upload['id']}/parts", files={"data": b"x"}, headers=HEADERS).json()
    assert_valid("UploadPart", part)
    done = httpx.post(f"{url}/{upload['id']}/complete", json={"part_ids": [part["id"]]}, headers=HEADERS).json()
    assert_valid("Upload", done)


def test_cancelled_it_is_gone(client: OpenAI, store: Path) -> None:
    upload = begun(client)
    client.uploads.parts.create(upload.id, data=DATA)
    assert kept(store) == 2
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert kept(store) == 0
    with pytest.raises(openai.NotFoundError):
        client.uploads.parts.create(upload.id, data=b"x")


def test_an_upload_is_its_keys(server: Replaying, client: OpenAI) -> None:
    upload, other_upload = begun(client), begun(client)
    foreign = client.uploads.parts.create(other_upload.id, data=b"x" * len(DATA))
    with client_of(server, KEYS[1]) as other:
        for ask in (
            lambda: other.uploads.parts.create(upload.id, data=b"x"),
            lambda: other.uploads.complete(upload.id, part_ids=[foreign.id]),
            lambda: other.uploads.cancel(upload.id),
            lambda: other.files.content(foreign.id),
            lambda: client.files.content(foreign.id),
            lambda: client.files.retrieve(upload.id),
        ):
            with pytest.raises(openai.NotFoundError):
                ask()
    with pytest.raises(openai.BadRequestError, match=r"part_ids\[0\]"):
        client.uploads.complete(upload.id, part_ids=[foreign.id])


def test_what_does_not_add_up_is_refused(client: OpenAI, store: Path) -> None:
    upload = begun(client)
    part = client.uploads.parts.create(upload.id, data=DATA[:-1])
    with pytest.raises(openai.BadRequestError, match="69999 bytes together"):
        client.uploads.complete(upload.id, part_ids=[part.id])
    last = client.uploads.parts.create(upload.id, data=DATA[-1:])
    with pytest.raises(openai.BadRequestError, match="MD5"):
        client.uploads.complete(upload.id, part_ids=[part.id, last.id], md5="0" * 32)
    with pytest.raises(openai.BadRequestError, match="part_ids"):
        client.uploads.complete(upload.id, part_ids=[])
    assert client.files.list().data == []
    done = client.uploads.complete(upload.id, part_ids=[part.id, last.id])  # it can be mended
    assert done.file is not None
    assert kept(store) == 1


def test_bounds(client: OpenAI) -> None:
    """A part is no larger than its upload, an upload than a file may be; parts count for their key."""
    with pytest.raises(openai.APIStatusError, match="--max-file") as refused:
        begun(client, BOUNDS.largest + 1)
    assert refused.value.status_code == 413
    with pytest.raises(openai.APIStatusError, match="no part may have more"):
        client.uploads.parts.create(begun(client, 50).id, data=b"x" * 51)
    upload = begun(client, BOUNDS.largest)
    for _ in range(2):
        client.uploads.parts.create(upload.id, data=b"x" * BOUNDS.largest)
    with pytest.raises(openai.APIStatusError, match="--max-files-per-key"):
        begun(client, BOUNDS.largest)
    with pytest.raises(openai.APIStatusError, match="--max-files-per-key"):
        client.uploads.parts.create(upload.id, data=b"x" * BOUNDS.largest)
    with pytest.raises(openai.BadRequestError, match="purpose"):
        begun(client, purpose="fun")
