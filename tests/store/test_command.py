"""``portico store``, over stores that a server may have open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from portico.commands.store import command
from portico.errors import StoreError
from portico.store import Store
from portico.store.migrating import HEAD
from portico.store.upkeep import PAGE
from support.store_writer import OWNER, made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def test_all_that_is_kept_comes_out(store: Store, where: str, tmp_path: Path) -> None:
    responses = [made(f"resp_{n}") for n in range(PAGE + 7)]
    odd = {"output": [], "big": 2**70, "text": "\ud800\0\n"}
    responses.append(replace(made("resp_odd"), owner="other", body=odd, output=[]))
    for one in responses:
        await store.put_response(one)
    items = [{"id": f"msg_{n}", "text": "a\nb"} for n in range(PAGE + 3)]
    talk = await store.create_conversation(OWNER, {"topic": "x"}, items)
    empty = await store.create_conversation("other", {}, [])

    found = lines(run("export", "--store", where).stdout)
    told = {one["response"].get("id", "resp_odd"): one for one in found if one["object"] == "response"}
    assert told == {
        one.id: {"object": "response", "owner": one.owner, "input": one.input, "response": one.body}
        for one in responses
    }
    assert {one["conversation"]["id"]: one["owner"] for one in found if one["object"] == "conversation"} == {
        talk.id: OWNER,
        empty.id: "other",
    }
    assert [one["item"] for one in found if one["object"] == "conversation.item"] == items
    assert {one["conversation_id"] for one in found if one["object"] == "conversation.item"} == {talk.id}

    file = tmp_path / "kept.jsonl"
    run("export", "--store", where, "--output", str(file))
    assert lines(file.read_text()) == found
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StoreError, match="cannot be written"):
        run("export", "--store", where, "--output", str(file))

    counts = json.loads(run("info", "--json", "--store", where).stdout)["counts"]
    expected = {"responses": len(responses), "running": 0, "conversations": 2, "keys": 2, "processes": 1}
    assert counts == {**counts, **expected, "conversation_items": len(items)}


async def test_room_is_given_back(store: Store, where: str) -> None:
    for number in range(40):
        await store.put_response(replace(made(f"resp_{number}"), body={"large": f"{number}" * 50_000}))
    for number in range(40):
        await store.delete_response(OWNER, f"resp_{number}")
    sizes = json.loads(run("vacuum", "--json", "--store", where).stdout)
    assert sizes["bytes_after"] < sizes["bytes_before"]
    await store.put_response(made("resp_after"))
    assert await store.response(OWNER, "resp_after") == made("resp_after")


def test_tables_are_made_and_left(where: str) -> None:
    assert json.loads(run("migrate", "--json", "--store", where).stdout) == {"before": None, "after": HEAD}
    assert json.loads(run("migrate", "--json", "--store", where).stdout) == {"before": HEAD, "after": HEAD}
    told = run("info", "--store", where).stdout
    assert "a-secret" not in told
    assert "responses" in told
    assert run("export", "--store", where).stdout == ""


def test_where_there_is_none(tmp_path: Path) -> None:
    for name in ("info", "export", "vacuum"):
        with pytest.raises(StoreError, match="no store at"):
            run(name, "--store", str(tmp_path / "nothing.db"))
        with pytest.raises(StoreError, match="Nothing is kept"):
            run(name, "--store", "none")
    assert not list(tmp_path.iterdir())
