"""Responses over a real server: kept, continued, read again, cancelled; and to nobody but their key."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from portico.errors import PorticoError
from portico.protocols.responses.schema import ResponsesRequest
from portico.server.routes.responses.past import Past
from portico.store import open_store
from support.replay import Replaying, replaying
from support.responses import assert_in_order, assert_valid, events_of
from support.wait import until

ANSWERS = {
    "plain": "It is sunny. ☀️",
    "calls": "<think>\nI have to ask.\n</think>\n\nLet me look.\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    "spaced": '<tool_call>\n{"name": "web__search", "arguments": {"q": "x"}}\n</tool_call>',
    "long": "word " * 400,
}
TOOL = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
KEYS = ("first-key", "second-key")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("store") / "portico.db")


@pytest.fixture(scope="module")
def server(store: str) -> Iterator[Replaying]:
    with replaying(ANSWERS, keys=KEYS, store=store, tool_parser="hermes", reasoning_parser="qwen3") as up:
        yield up


class Client:
    """One key's."""

    def __init__(self, url: str, key: str = KEYS[0]) -> None:
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120)

    def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self._http.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def create(self, given: Any, status: int = 200, **fields: Any) -> Any:
        return self.ask("POST", "/v1/responses", {"model": "tiny", "input": given, **fields}, status)

    def stream(self, path: str, body: Any = None) -> list[dict[str, Any]]:
        answer = self._http.request("GET" if body is None else "POST", path, json=body)
        assert answer.status_code == 200, answer.text
        data = b"\n".join(line for line in answer.content.split(b"\n") if not line.startswith(b"id: "))
        return events_of(data)


@pytest.fixture
def client(server: Replaying) -> Client:
    return Client(server.url)


def test_a_response_is_kept_and_continued_with_all_that_was_in_it(server: Replaying, client: Client) -> None:
    first = client.create("[[calls]]", tools=[TOOL], instructions="Be brief.")
    assert_valid(first)
    assert [item["type"] for item in first["output"]] == ["reasoning", "message", "function_call"]
    assert client.ask("GET", f"/v1/responses/{first['id']}") == first
    call = first["output"][-1]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny [[plain]]"}
    second = client.create([result], previous_response_id=first["id"], tools=[TOOL])
    assert second["output"][0]["content"][0]["text"] == ANSWERS["plain"]
    prompt = server.prompts[-1]
    assert "<think>I have to ask.</think>" in prompt
    assert 'get_weather {"city": "Paris"}' in prompt
    assert "Let me look." in prompt
    assert "Be brief." not in prompt  # instructions are not inherited
    items = client.ask("GET", f"/v1/responses/{second['id']}/input_items?order=asc")["data"]
    assert [item["type"] for item in items] == [
        *("message", "reasoning", "message", "function_call"),
        "function_call_output",
    ]
    page = client.ask("GET", f"/v1/responses/{second['id']}/input_items?limit=2")
    assert page["has_more"]
    assert page["last_id"] == items[3]["id"]
    rest = client.ask("GET", f"/v1/responses/{second['id']}/input_items?limit=9&after={page['last_id']}")
    assert [item["id"] for item in rest["data"]] == [item["id"] for item in reversed(items[:3])]


@pytest.mark.parametrize("tools", [[], [TOOL]])
def test_a_stream_is_the_response(client: Client, tools: list[Any]) -> None:
    events = client.stream("/v1/responses", {"model": "tiny", "input": "[[calls]]", "stream": True, "tools": tools})
    assert_in_order(events)
    last = events[-1]["response"]
    assert_valid(last, functions=True)
    assert client.ask("GET", f"/v1/responses/{last['id']}") == last  # kept before it was told


def test_what_clients_give_back_is_taken(server: Replaying, client: Client) -> None:
    """Whole items with ids; thoughts sealed; references; a conversation that was never kept."""
    fields = {"tools": [TOOL], "store": False, "include": ["reasoning.encrypted_content"]}
    first = client.create("[[calls]]", **fields)
    assert first["store"] is False
    client.ask("GET", f"/v1/responses/{first['id']}", status=404)
    thought, said, call = first["output"]
    output = {
        "type": "function_call_output",
        "call_id": call["call_id"],
        "output": [{"type": "input_text", "text": "x"}],
    }
    sealed = {key: thought[key] for key in ("id", "type", "summary", "encrypted_content")}
    asked = [{"role": "user", "content": "Go"}, sealed, said, call, output, {"role": "user", "content": "[[plain]]"}]
    client.create(asked, **fields)
    assert "<think>I have to ask.</think>" in server.prompts[-1]
    broken = {**sealed, "encrypted_content": "gAAAAB" + "x" * 40}
    answer = client._http.post(
        "/v1/responses", json={"model": "tiny", "input": [*asked[:1], broken, *asked[2:]], **fields}
    )
    assert answer.status_code == 200
    assert "input[1].encrypted_content" in answer.headers["x-portico-warning"]
    kept = client.create("[[plain]] please")
    again = client.create(
        [{"type": "item_reference", "id": kept["output"][0]["id"]}, {"role": "user", "content": "Hm"}]
    )
    assert again["status"] == "completed"
    assert ANSWERS["plain"] in server.prompts[-1]


def test_little_is_enough(server: Replaying, client: Client) -> None:
    """No item at all, as some ask whether anybody is there; a message of no parts; a shell's output as SDKs name it."""
    assert client.create([], max_output_tokens=1)["usage"]["output_tokens"] == 1
    assert client.create([{"role": "user", "content": []}])["status"] == "completed"
    action = {"type": "exec", "command": ["ls"], "env": {}}
    call = {"type": "local_shell_call", "id": "lsh_1", "call_id": "call_1", "status": "completed", "action": action}
    output = {"type": "local_shell_call_output", "id": "call_1", "output": "a-file.txt"}
    assert client.create([{"role": "user", "content": "Look"}, call, output])["status"] == "completed"
    assert "a-file.txt" in server.prompts[-1]


def test_a_namespace_is_flat_inside_and_itself_outside(server: Replaying, client: Client) -> None:
    space = {"type": "namespace", "name": "web", "description": "The web.", "tools": [{**TOOL, "name": "search"}]}
    answer = client._http.post(
        "/v1/responses", json={"model": "tiny", "input": "[[spaced]]", "tools": [{"type": "web_search"}, space]}
    )
    call = answer.json()["output"][0]
    assert (call["namespace"], call["name"]) == ("web", "search")
    assert "tools[0] (web_search" in answer.headers["x-portico-warning"]
    assert "[tool web__search]" in server.prompts[-1]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "found"}
    client.create([{"role": "user", "content": "Go"}, call, result], tools=[space])
    assert "web__search" in server.prompts[-1].rpartition("Go")[2]


def test_conversations_grow_by_what_is_said(server: Replaying, client: Client) -> None:
    made = client.ask(
        "POST", "/v1/conversations", {"metadata": {"a": "b"}, "items": [{"role": "user", "content": "I am Bo."}]}
    )
    path = f"/v1/conversations/{made['id']}"
    first = client.create("[[plain]]", conversation=made["id"])
    assert first["conversation"] == {"id": made["id"]}
    client.create("And? [[plain]]", conversation={"id": made["id"]})
    assert server.prompts[-1].count(ANSWERS["plain"]) == 1
    assert "I am Bo." in server.prompts[-1]
    listed = client.ask("GET", f"{path}/items?order=asc")
    assert [item["role"] for item in listed["data"]] == ["user", "user", "assistant", "user", "assistant"]
    one = listed["data"][0]
    assert client.ask("GET", f"{path}/items/{one['id']}") == one
    client.ask("DELETE", f"{path}/items/{one['id']}")
    client.ask("GET", f"{path}/items/{one['id']}", status=404)
    assert client.ask("POST", path, {"metadata": {"c": "d"}})["metadata"] == {"c": "d"}
    client.ask("DELETE", path)
    client.ask("GET", path, status=404)
    assert client.ask("GET", f"/v1/responses/{first['id']}")["id"] == first["id"]


async def test_a_turn_that_has_read_less_than_there_is_is_not_added(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "a.db"))
    await store.start()
    try:
        said = {"type": "message", "role": "user", "content": []}
        made = await store.create_conversation("", {}, [{**said, "id": "msg_1"}])
        request = ResponsesRequest(conversation=made.id)
        one, two = [await Past.of(request, store, "") for _ in range(2)]
        await one.lock(store, "", "resp_1")
        with pytest.raises(PorticoError, match="Another response"):
            await two.lock(store, "", "resp_2")
        await store.add_items("", made.id, [{**said, "id": "msg_2"}])
        await one.unlock(store, "", "resp_1")
        for _ in range(2):  # and it leaves nothing locked
            with pytest.raises(PorticoError, match="Another response"):
                await two.lock(store, "", "resp_2")
        await (await Past.of(request, store, "")).lock(store, "", "resp_3")
    finally:
        await store.close()


def test_another_key_sees_nothing(server: Replaying, client: Client) -> None:
    other = Client(server.url, KEYS[1])
    mine = client.create("[[plain]]")
    room = client.ask("POST", "/v1/conversations", {})
    for method, path in (
        ("GET", f"/v1/responses/{mine['id']}"),
        ("DELETE", f"/v1/responses/{mine['id']}"),
        ("POST", f"/v1/responses/{mine['id']}/cancel"),
        ("GET", f"/v1/responses/{mine['id']}/input_items"),
        ("GET", f"/v1/conversations/{room['id']}"),
        ("GET", f"/v1/conversations/{room['id']}/items"),
    ):
        other.ask(method, path, status=404)
    other.create("Hi", status=400, previous_response_id=mine["id"])
    other.create("Hi", status=404, conversation=room["id"])
    other.create([{"type": "item_reference", "id": mine["output"][0]["id"]}], status=404)


def test_a_deleted_response_ends_its_chain(client: Client) -> None:
    first = client.create("[[plain]]")
    second = client.create("[[plain]]", previous_response_id=first["id"])
    assert client.ask("DELETE", f"/v1/responses/{first['id']}")["deleted"] is True
    client.ask("GET", f"/v1/responses/{first['id']}", status=404)
    client.ask("DELETE", f"/v1/responses/{first['id']}", status=404)
    refused = client.create("[[plain]]", status=400, previous_response_id=second["id"])["error"]
    assert (refused["code"], refused["param"]) == ("previous_response_not_found", "previous_response_id")


def test_in_the_background(client: Client) -> None:
    queued = client.create("[[long]]", background=True)
    assert (queued["status"], queued["output"]) == ("queued", [])
    events = client.stream(f"/v1/responses/{queued['id']}?stream=true")
    assert_in_order(events, background=True)
    whole = client.ask("GET", f"/v1/responses/{queued['id']}")
    assert whole == events[-1]["response"]
    assert whole["output"][0]["content"][0]["text"] == ANSWERS["long"]
    rest = client.stream(f"/v1/responses/{queued['id']}?stream=true&starting_after=7")
    assert rest == events[8:]
    assert client.ask("POST", f"/v1/responses/{queued['id']}/cancel") == whole
    foreground = client.create("[[plain]]")
    client.ask("POST", f"/v1/responses/{foreground['id']}/cancel", status=400)
    client.ask("GET", f"/v1/responses/{foreground['id']}?stream=true", status=400)


def test_cancelled_in_the_background(tmp_path: Path) -> None:
    turns = threading.Semaphore(5)
    with replaying(ANSWERS, store=str(tmp_path / "a.db"), turns=turns) as up:
        client = Client(up.url)
        queued = client.create("[[long]]", background=True)
        path = f"/v1/responses/{queued['id']}"
        until(lambda: client.ask("GET", path)["status"] == "in_progress")
        cancelled = client.ask("POST", f"{path}/cancel")
        assert cancelled["status"] == "cancelled"
        assert client.ask("POST", f"/v1/responses/{queued['id']}/cancel") == cancelled
        assert client.ask("GET", f"/v1/responses/{queued['id']}") == cancelled
        events = client.stream(f"/v1/responses/{queued['id']}?stream=true")
        assert_in_order(events, background=True)
        assert events[-1]["response"] == cancelled
        room = client.ask("POST", "/v1/conversations", {})
        client.create("[[long]]", background=True, conversation=room["id"])
        locked = client.create("[[long]]", status=409, conversation=room["id"])["error"]
        assert locked["code"] == "conversation_locked"
        for _ in range(1000):
            turns.release()


def test_without_a_store() -> None:
    with replaying(ANSWERS) as up:
        client = Client(up.url)
        answer = client.create("[[plain]]")
        assert answer["store"] is False
        assert client.create("Hi", status=400, background=True)["error"]["param"] == "background"
        assert (
            client.create("Hi", status=400, previous_response_id="resp_1")["error"]["param"] == "previous_response_id"
        )
        client.ask("GET", f"/v1/responses/{answer['id']}", status=404)


def test_cutting_what_does_not_fit(server: Replaying) -> None:
    with replaying(ANSWERS, context_length=260) as up:
        client = Client(up.url)
        said = [{"role": ("user", "assistant")[n % 2], "content": f"number {n} " + "word " * 20} for n in range(9)]
        asked = [*said, {"role": "user", "content": "[[plain]]"}]
        refused = client.create(asked, status=400, max_output_tokens=5)["error"]
        assert refused["code"] == "context_length_exceeded"
        answer = client.create(asked, truncation="auto", instructions="Stay.", max_output_tokens=5)
        assert answer["status"] in ("completed", "incomplete")
        assert "Stay." in up.prompts[-1]
        assert "number 0" not in up.prompts[-1]
        assert "number 8" in up.prompts[-1]


LONG_TALK = [
    {"role": "user", "content": "Look it up."},
    {"type": "function_call", "call_id": "a", "name": "get_weather", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "a", "output": "a very long report"},
    {"role": "assistant", "content": "It rains."},
]


def test_a_conversation_in_short(server: Replaying, client: Client) -> None:
    body = {"model": "tiny", "input": [*LONG_TALK, {"role": "user", "content": "[[plain]]"}]}
    short = client.ask("POST", "/v1/responses/compact", body)
    assert short["object"] == "response.compaction"
    assert "a very long report" in server.prompts[-1]
    assert [item["type"] for item in short["output"]] == ["message", "message", "compaction"]
    assert short["usage"]["output_tokens"] > 0
    item = short["output"][-1]
    assert ANSWERS["plain"] not in json.dumps(item)  # it is sealed
    client.create([*short["output"], {"role": "user", "content": "Well? [[plain]]"}])
    prompt = server.prompts[-1]
    assert "Look it up." in prompt
    assert ANSWERS["plain"] in prompt
    assert "report" not in prompt
    foreign = {**item, "encrypted_content": item["encrypted_content"][:-9] + "AAAAAAAAA"}
    assert client.create([foreign], status=400)["error"]["param"] == "input[0].encrypted_content"


@pytest.mark.parametrize("stream", [True, False])
def test_a_trigger_is_answered_with_a_summary(client: Client, stream: bool) -> None:
    asked = [*LONG_TALK, {"role": "user", "content": "[[plain]]"}, {"type": "compaction_trigger"}]
    if stream:
        events = client.stream("/v1/responses", {"model": "tiny", "input": asked, "stream": True})
        assert_in_order(events)
        answer = events[-1]["response"]
    else:
        answer = client.create(asked)
    assert [item["type"] for item in answer["output"]] == ["compaction"]
    assert answer["status"] == "completed"


@pytest.mark.parametrize("stream", [True, False])
def test_what_is_over_the_threshold_is_summed_up_first(server: Replaying, client: Client, stream: bool) -> None:
    first = client.create([{"role": "user", "content": "Remember this. " + "word " * 50}], store=True)
    fields = {"previous_response_id": first["id"]}
    within = [{"type": "compaction", "compact_threshold": 100_000}]
    answer = client.create("[[plain]]", context_management=within, **fields)
    assert [item["type"] for item in answer["output"]] == ["message"]
    over = [{"type": "compaction", "compact_threshold": 20}]
    if stream:
        body = {"model": "tiny", "input": "[[plain]]", "stream": True, "context_management": over, **fields}
        events = client.stream("/v1/responses", body)
        assert_in_order(events)
        answer = events[-1]["response"]
    else:
        answer = client.create("[[plain]]", context_management=over, **fields)
    assert_valid(answer)
    assert [item["type"] for item in answer["output"]] == ["compaction", "message"]
    counted = client.ask("POST", "/v1/responses/input_tokens", {"model": "tiny", "input": "[[plain]]", **fields})
    assert answer["usage"]["input_tokens"] > counted["input_tokens"]  # both runs
    client.create("Go on. [[plain]]", previous_response_id=answer["id"])
    assert "Remember this." in server.prompts[-1]


def test_counted_as_they_would_be_read(client: Client) -> None:
    body = {"model": "tiny", "input": "[[plain]]", "instructions": "Be brief.", "tools": [TOOL]}
    counted = client.ask("POST", "/v1/responses/input_tokens", body)
    answer = client.create(body["input"], instructions="Be brief.", tools=[TOOL])
    assert counted == {"object": "response.input_tokens", "input_tokens": answer["usage"]["input_tokens"]}
    warmed = client.create(body["input"], instructions="Be brief.", tools=[TOOL], generate=False)
    assert (warmed["output"], warmed["usage"]["output_tokens"]) == ([], 0)
    assert warmed["usage"]["input_tokens"] == counted["input_tokens"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": "b"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "a", "name": "b", "arguments": "{}"}]}, "input"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}, {"role": "user", "content": "x"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0].encrypted_content"),
        ({"input": None}, "input"),
        ({"tools": [{"type": "function", "function": {"name": "a"}}]}, "tools[0].function"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "b"}}, "tool_choice"),
        ({"tools": [TOOL, TOOL]}, "tools[1]"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True, "store": False}, "background"),
        ({"previous_response_id": "resp_1", "conversation": "conv_1"}, "previous_response_id"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_refusals_name_the_field(client: Client, fields: dict[str, Any], param: str) -> None:
    error = client.create(fields.pop("input", "Hi"), status=400, **fields)["error"]
    assert error["param"] == param, error
    assert set(error) == {"message", "type", "param", "code"}


def test_numbers_of_any_size_are_repeated(client: Client) -> None:
    huge = 10**30
    schema = {"type": "object", "properties": {"n": {"type": "integer", "default": huge}}}
    fields = {"max_output_tokens": huge, "max_tool_calls": huge, "tools": [{**TOOL, "parameters": schema}]}
    answer = client.create("[[plain]]", **fields)
    assert (answer["max_output_tokens"], answer["tools"][0]["parameters"]) == (huge, schema)
    assert client.ask("GET", f"/v1/responses/{answer['id']}") == answer
    events = client.stream("/v1/responses", {"model": "tiny", "input": "[[plain]]", "stream": True, **fields})
    assert events[-1]["response"]["tools"] == answer["tools"]


def test_null_is_absent(client: Client) -> None:
    names = json.loads(httpx.get(f"{client._http.base_url}/openapi.json", headers=client._http.headers).content)
    schema = names["components"]["schemas"]["ResponsesRequest"]["properties"]
    body = dict.fromkeys(set(schema) - {"model", "input"})
    assert client.create("[[plain]]", **body)["status"] == "completed"
