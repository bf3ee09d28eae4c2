"""What a request asks of the store takes no longer for what else is kept: no table, and no index, is read from end to
end."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, event

from portico.store import Store, open_store
from portico.store.tables import metadata, processes
from support.store_writer import OWNER, made

OF_FEW = {  # indices of little more than what is being made now
    index.name for table in metadata.sorted_tables for index in table.indexes if index.dialect_kwargs
}
SCAN = re.compile(rf"SCAN ({'|'.join(metadata.tables)})(?: USING (?:COVERING )?INDEX (\w+))?")
BESIDE = {"start", "close", "keys", "put_usage", "settle"}  # what no request waits for


class _Called:
    """The store, as whoever calls it: ``names`` are the methods that were called."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        return getattr(self._store, name)


async def _requests(store: Any) -> None:
    """Everything that requests ask of responses and conversations."""
    item = {"id": "an-item", "type": "message", "role": "user", "content": "hello"}
    conversation = await store.create_conversation(OWNER, {"a": "b"}, [item])
    running = replace(made("resp_1"), status="queued")
    await store.put_response(running)
    await store.add_events(running.id, 1, [b"one", b"two"])
    assert len(await store.events(OWNER, running.id, 0)) == 2
    assert await store.ask_cancel(OWNER, running.id)
    assert await store.cancels([running.id]) == {running.id}
    await store.put_response(replace(running, status="completed"))
    assert await store.lock_conversation(OWNER, conversation.id, "resp_2")
    await store.finish_turn(replace(made("resp_2"), previous_id="resp_1"), conversation.id, [item | {"id": "other"}])
    await store.unlock_conversation(OWNER, conversation.id, "resp_2")
    assert await store.response(OWNER, "resp_2") is not None
    assert len(await store.chain(OWNER, "resp_2")) == 2
    assert await store.item(OWNER, "out_resp_2") is not None
    assert await store.item(OWNER, "other") is not None
    assert await store.conversation(OWNER, conversation.id) is not None
    assert await store.update_conversation(OWNER, conversation.id, {}) is not None
    assert await store.add_items(OWNER, conversation.id, [item | {"id": "third"}])
    assert len(await store.items(OWNER, conversation.id)) == 3
    assert len(await store.items(OWNER, conversation.id, after="third", order="desc", limit=5)) == 2
    assert await store.conversation_item(OWNER, conversation.id, "third") is not None
    assert await store.delete_item(OWNER, conversation.id, "third")
    assert await store.delete_conversation(OWNER, conversation.id)
    assert await store.delete_response(OWNER, "resp_1")


async def test_no_request_reads_a_table_from_end_to_end(where: str) -> None:
    """Nor does what every process does every few seconds."""
    store = open_store(where)
    await asyncio.to_thread(store._open)
    asked: dict[str, Any] = {}

    @event.listens_for(store.database._engine, "before_cursor_execute")
    def executed(connection: Any, cursor: Any, text: str, parameters: Any, context: Any, many: bool) -> None:
        asked[text] = parameters[0] if many else parameters

    called = _Called(store)
    await _requests(called)
    await store.database.write(store._enter)
    methods = {name for name, _ in inspect.getmembers(Store, inspect.iscoroutinefunction) if not name.startswith("_")}
    assert called.names == methods - BESIDE
    assert len(asked) > 20
    for text, parameters in [*asked.items()]:
        whole = store.database.outside(partial(_read_whole, text=text, parameters=parameters))
        assert not whole, f"{whole}: {text}"
    store.database.close()


def _read_whole(connection: Connection, text: str, parameters: Any) -> list[str]:
    """What the database would read from end to end for that statement."""
    if connection.dialect.name == "sqlite":
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters)
        found = [(row.detail, SCAN.fullmatch(row.detail)) for row in plan]
        return [said for said, scan in found if scan and scan[1] != processes.name and scan[2] not in OF_FEW]
    connection.exec_driver_sql("SET enable_seqscan = off")  # small tables it would read whole, whatever indices say
    plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {text}", parameters).scalar_one()
    return [*_whole_nodes((orjson.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])]


def _whole_nodes(node: dict[str, Any]) -> Iterator[str]:
    if node["Node Type"] == "Seq Scan" and node["Relation Name"] != processes.name:
        yield f"Seq Scan on {node['Relation Name']}"
    for inner in node.get("Plans", ()):
        yield from _whole_nodes(inner)


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_what_goes_with_a_row_is_found_by_an_index(table: Any) -> None:
    """A database looks for it itself, and no plan says so."""
    indices = [[column.name for column in index.columns] for index in (table.primary_key, *table.indexes)]
    for one in table.foreign_keys:
        assert any(index[0] == one.parent.name for index in indices)
