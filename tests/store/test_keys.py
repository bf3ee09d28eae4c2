"""Keys with names: made, shown, rotated and revoked from the terminal, and heeded by whoever looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from portico.commands.keys import command
from portico.errors import AuthenticationError, BadRequestError, NotFoundError, PorticoError, StoreError
from portico.keys import hash_of
from portico.server.http.auth import Keys
from portico.server.process.key_watch import KeyWatch
from portico.store import Store


def run(*arguments: str, **more: Any) -> Result:
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False, **more)


def made(where: str, *arguments: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--store", where, "--json", **more).stdout)
    return found


async def test_a_key_from_its_making_to_its_end(store: Store, where: str) -> None:
    keys = Keys()
    watch = KeyWatch(store, keys)
    await watch.look()
    assert not keys, "nobody has made one"
    assert keys.verify(None).owner == ""

    ann = made(where, "add", "ann", "--requests-per-minute", "5", "--model", "qwen*", "--priority", "-3", "--operator")
    bob = made(where, "add", "bob", "--expires", "2999-01-31")
    assert (bob["expires"], ann["requests_per_minute"], ann["models"]) == ("2999-01-31T00:00:00Z", 5, ["qwen*"])
    await watch.look()
    found = keys.verify(ann["secret"].encode())
    assert (found.name, found.owner, found.models, found.priority) == ("ann", "key:ann", ("qwen*",), -3)
    assert found.may_use(["tiny", "qwen3"])
    assert found.may_operate
    assert not found.may_use(["tiny"])
    assert not keys.verify(bob["secret"].encode()).may_operate
    assert set(keys.callers) == {"key:ann", "key:bob"}

    renewed = made(where, "rotate", "ann")
    await watch.look()
    assert keys.verify(renewed["secret"].encode()).owner == "key:ann", "what it has made stays its own"
    with pytest.raises(AuthenticationError):
        keys.verify(ann["secret"].encode())

    both = made(where, "rotate", "ann", "--grace", "2w")
    await watch.look()
    for secret in (renewed["secret"], both["secret"]):
        assert keys.verify(secret.encode()).name == "ann"

    made(where, "revoke", "ann")
    await watch.look()
    for secret in (ann["secret"], renewed["secret"], both["secret"]):
        with pytest.raises(AuthenticationError):
            keys.verify(secret.encode())
    with pytest.raises(AuthenticationError):
        keys.of("key:ann")
    assert keys.callers == ["key:bob"]

    made(where, "revoke", "bob")
    await watch.look()
    assert keys, "the door stays closed when the last key is gone"
    with pytest.raises(AuthenticationError):
        keys.verify(None)
    assert [one["name"] for one in json.loads(run("list", "--store", where, "--json").stdout)] == []
    told = json.loads(run("list", "--all", "--store", where, "--json").stdout)
    assert [(one["name"], one["state"]) for one in told] == [("ann", "revoked"), ("bob", "revoked")]


async def test_no_secret_is_kept_or_shown_again(store: Store, where: str) -> None:
    secret = made(where, "add", "ann")["secret"]
    rotated = made(where, "rotate", "ann", "--grace", "1h")["secret"]
    kept = b"".join(await store.keys())
    for one in (secret, rotated):
        assert one.encode() not in kept
        assert hash_of(one).encode() in kept
        shown = run("list", "--all", "--store", where).stdout + run("list", "--store", where, "--json").stdout
        assert one not in shown
        assert hash_of(one) not in shown


async def test_what_people_read(store: Store, where: str) -> None:
    told = run("add", "ann", "--in-flight", "2", "--tokens-per-day", "1000000", "--store", where)
    assert told.stdout.startswith("sk-portico-"), "the secret alone, for a pipe"
    assert "ann" in told.stderr
    listed = run("list", "--store", where).stdout
    assert "1,000,000 tokens/day, 2 in flight" in " ".join(listed.split())


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        (["add", "ann"], BadRequestError, "There is a key 'ann' already, or was"),
        (["add", "a/b"], BadRequestError, "'a/b' is no name for a key"),
        (["add", "bob", "--in-flight", "0"], BadRequestError, "'in_flight': Expected int >= 1"),
        (["add", "bob", "--expires", "soon"], BadRequestError, "'expires' must be a date"),
        (["add", "bob", "--secret-stdin"], BadRequestError, "The key 'ann' has this secret already"),
        (["rotate", "bob"], NotFoundError, "There is no key 'bob'; 'portico keys list'"),
        (["rotate", "ann", "--grace", "x"], BadRequestError, "'grace' must be a time"),
        (["rotate", "gone"], BadRequestError, "'gone' is revoked: it gets no new secret"),
        (["revoke", "gone"], NotFoundError, "was revoked already"),
        (["add", "gone"], BadRequestError, "what it made is not for another"),
    ],
)
async def test_what_is_refused(
    store: Store, where: str, arguments: list[str], error: type[PorticoError], told: str
) -> None:
    run("add", "ann", "--secret-stdin", "--store", where, input="sesame, open\n")
    run("add", "gone", "--store", where)
    run("revoke", "gone", "--store", where)
    with pytest.raises(error) as refused:
        run(*arguments, "--store", where, input="sesame, open\n")
    assert told in refused.value.message
    assert "sesame" not in refused.value.message


def test_without_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no store"):
        run("list", "--store", str(tmp_path / "none.db"))
    made(str(tmp_path / "new" / "portico.db"), "add", "ann")
    with pytest.raises(StoreError, match="Nothing is kept"):
        run("add", "ann", "--store", "none")
    assert run("hash", input="sesame, open\n").stdout == f"sha256:{hash_of('sesame, open')}\n"
