"""Tools of MCP servers, run by this server for a response: over a real one, and the guards around it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("mcp")

from portico.media.hosts import Hosts
from portico.protocols.responses.mcp import mcp_servers
from portico.server.http import connection
from portico.server.observe.access import AccessLog
from portico.server.routes.responses import mcp
from support.mcp import McpUp, mcp_server
from support.replay import Replaying, replaying
from support.responses import assert_in_order, assert_valid, assert_valid_event, events_of
from support.wait import until


def call(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


ANSWERS = {
    "plain": "It is cold. ☀️",
    "weather": "Let me look.\n" + call("home__weather", city="Oslo"),
    "both": call("home__weather", city="Oslo") + "\n" + call("home__weather", city="Rome"),
    "fails": call("home__fails"),
    "long": call("home__long", length=(1 << 20) + 1),
    "sleeps": call("home__sleeps"),
    "forever": call("home__echo", text="[[forever]]"),
    "mixed": call("get_time") + "\n" + call("home__weather", city="Oslo"),
    "cut": call("home__weather", city="Oslo " * 200),
}
TIME = {"type": "function", "name": "get_time", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def home() -> Iterator[McpUp]:
    with mcp_server() as up:
        yield up


@pytest.fixture(scope="module")
def server(home: McpUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replaying]:
    store = str(tmp_path_factory.mktemp("store") / "portico.db")
    allow = [home.host, "127.0.0.1:9"]
    facts: dict[str, Any] = {"tool_parser": "hermes", "trace_header": True, "observers": [AccessLog()]}
    with replaying(ANSWERS, store=store, mcp_allow=allow, **facts) as up:
        yield up


class Asking:
    def __init__(self, server: Replaying, home: McpUp) -> None:
        self.url = server.url
        self.tool = {"type": "mcp", "server_label": "home", "server_url": home.url, "require_approval": "never"}

    def body(self, given: Any, fields: dict[str, Any]) -> dict[str, Any]:
        return {"model": "tiny", "input": given, "tools": [self.tool], **fields}

    def __call__(self, given: Any, status: int = 200, **fields: Any) -> Any:
        answer = httpx.post(f"{self.url}/v1/responses", json=self.body(given, fields), timeout=120)
        assert answer.status_code == status, answer.text
        if status == 200 and answer.json()["usage"] is not None:
            assert_valid(answer.json())
        return answer.json()

    def stream(self, given: Any, **fields: Any) -> list[dict[str, Any]]:
        answer = httpx.post(f"{self.url}/v1/responses", json=self.body(given, {**fields, "stream": True}), timeout=120)
        assert answer.status_code == 200, answer.text
        events = events_of(answer.content)
        assert_in_order(events, background=bool(fields.get("background")))
        for event in events:
            assert_valid_event(event)
        assert_valid(events[-1]["response"])
        return events


@pytest.fixture
def ask(server: Replaying, home: McpUp) -> Asking:
    home.calls.clear()
    home.headers.clear()
    return Asking(server, home)


def kinds(response: Any) -> list[str]:
    return [item["type"] for item in response["output"]]


@pytest.mark.parametrize("how", ["whole", "stream", "background"])
def test_a_tool_is_run_and_the_answer_goes_on(server: Replaying, home: McpUp, ask: Asking, how: str) -> None:
    if how == "whole":
        answer = ask("[[weather]]")
    elif how == "stream":
        answer = ask.stream("[[weather]]")[-1]["response"]
    else:
        queued = ask("[[weather]]", background=True)
        path = f"{server.url}/v1/responses/{queued['id']}"
        until(lambda: httpx.get(path).json()["status"] == "completed")
        answer = httpx.get(path).json()
        read = httpx.get(f"{path}?stream=true").content
        told = events_of(b"\n".join(line for line in read.split(b"\n") if not line.startswith(b"id: ")))
        assert_in_order(told, background=True)
        assert told[-1]["response"] == answer
    assert kinds(answer) == ["mcp_list_tools", "message", "mcp_call", "message"]
    listed, _, ran, said = answer["output"]
    assert [tool["name"] for tool in listed["tools"]] == ["weather", "fails", "echo", "long", "sleeps"]
    assert (ran["status"], ran["output"], ran["error"]) == ("completed", "cold in Oslo [[plain]]", None)
    assert json.loads(ran["arguments"]) == {"city": "Oslo"}
    assert said["content"][0]["text"] == ANSWERS["plain"]
    assert home.calls == [("weather", "Oslo")]
    assert "[tool home__weather]" in server.prompts[-1]
    assert server.prompts[-1].endswith("<|tool|>cold in Oslo [[plain]]<|assistant|>")
    usage = answer["usage"]
    assert usage["input_tokens"] == sum(len(one.token_ids) for one in server.requests[-2:])
    assert httpx.get(f"{server.url}/v1/responses/{answer['id']}").json() == answer


def test_the_log_counts_every_generation(ask: Asking, caplog: pytest.LogCaptureFixture) -> None:
    def told() -> list[dict[str, Any]]:
        return [fields for one in caplog.records if (fields := getattr(one, "fields", None)) is not None]

    with caplog.at_level(logging.INFO, "portico"):
        usage = ask("[[weather]]")["usage"]
        until(lambda: bool(told()))
    (line,) = told()
    assert (line["tokens_in"], line["tokens_out"]) == (usage["input_tokens"], usage["output_tokens"])
    assert line["finish"] == "tool_calls,stop"


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_every_generation_is_recorded(server: Replaying, ask: Asking, stream: bool, background: bool) -> None:
    body = ask.body("[[weather]]", {"stream": stream, "background": background})
    answer = httpx.post(f"{server.url}/v1/responses", json=body, headers={"x-portico-trace": "1"}, timeout=120)
    path = f"{server.url}/inspect/traces/{answer.headers['x-portico-trace-id']}"

    def seen(kind: str) -> list[dict[str, Any]]:
        return [one for one in httpx.get(path).json()["artifacts"] if one["kind"] == kind]

    until(lambda: len([one for one in seen("event") if one["data"]["type"] == "Finish"]) == 2)
    asked = server.requests[-2:]
    assert [one["data"]["ids"] for one in seen("prompt_tokens")] == [list(one.token_ids) for one in asked]
    assert [one["data"]["request_id"] for one in seen("submitted")] == [
        one.request_id.rsplit("-", 2)[0] for one in asked
    ]
    finishes = [one for one in seen("event") if one["data"]["type"] == "Finish"]
    assert [one["choice"] for one in finishes] == [0, 1]
    assert finishes[0]["id"] in seen("prompt")[1]["of"]  # the second prompt comes of the first answer
    said = "".join(one["data"]["text"] for one in seen("text") if one["choice"] == 1)
    assert said == ANSWERS["plain"]
    told = httpx.get(path).json()["trace"]
    assert told["prompt_tokens"] == sum(len(one.token_ids) for one in asked)
    assert told["completion_tokens"] == sum(len(one["data"]["ids"]) for one in seen("step"))


def test_events_tell_of_a_call_while_it_runs(ask: Asking) -> None:
    events = [event["type"] for event in ask.stream("[[weather]]")]
    assert [kind for kind in events if "mcp" in kind] == [
        "response.mcp_list_tools.in_progress",
        "response.mcp_list_tools.completed",
        "response.mcp_call.in_progress",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.completed",
    ]


def test_what_was_listed_is_not_listed_again(server: Replaying, home: McpUp, ask: Asking) -> None:
    first = ask("[[both]]")
    assert kinds(first) == ["mcp_list_tools", "mcp_call", "mcp_call", "message"]
    prompt = server.prompts[-1]
    asked = len(home.headers)
    second = ask("And? [[plain]]", previous_response_id=first["id"])
    assert kinds(second) == ["message"]
    assert len(home.headers) == asked
    assert server.prompts[-1].startswith(prompt.removesuffix("<|assistant|>"))  # in the engine's cache
    again = [{"role": "user", "content": "Go"}, *first["output"], {"role": "user", "content": "[[weather]]"}]
    assert kinds(ask(again, store=False)) == ["message", "mcp_call", "message"]


@pytest.mark.parametrize("approve", [True, False])
def test_a_call_that_has_to_be_approved(server: Replaying, home: McpUp, ask: Asking, approve: bool) -> None:
    del ask.tool["require_approval"]
    events = ask.stream("[[weather]]")
    waiting = events[-1]["response"]
    assert kinds(waiting) == ["mcp_list_tools", "message", "mcp_approval_request"]
    assert not home.calls
    wish = waiting["output"][-1]
    said = {
        "type": "mcp_approval_response",
        "approval_request_id": wish["id"],
        "approve": approve,
        "reason": "[[plain]]",
    }
    answer = ask.stream([said], previous_response_id=waiting["id"])[-1]["response"]
    if approve:
        assert kinds(answer) == ["mcp_call", "message"]
        assert answer["output"][0]["approval_request_id"] == wish["id"]
        assert home.calls == [("weather", "Oslo")]
        later = ask("And? [[plain]]", previous_response_id=answer["id"])
        assert kinds(later) == ["message"]  # it is not carried out twice
        assert len(home.calls) == 1
    else:
        assert kinds(answer) == ["message"]
        assert "The user has not allowed this call. [[plain]]" in server.prompts[-1]
        assert not home.calls
    refused = ask([{**said, "approval_request_id": "mcpr_none"}], 400)
    assert refused["error"]["param"] == "input[0].approval_request_id"


@pytest.mark.parametrize(
    ("approval", "asked"),
    [
        ("never", False),
        ("always", True),
        ({"never": {"tool_names": ["weather"]}}, False),
        ({"never": {"tool_names": ["echo"]}}, True),
        ({"never": {"read_only": True}}, False),
        ({"always": {"tool_names": ["weather"]}}, True),
        ({"always": {"tool_names": ["echo"]}}, False),
    ],
)
def test_who_has_to_be_asked(ask: Asking, approval: Any, asked: bool) -> None:
    ask.tool["require_approval"] = approval
    assert ("mcp_approval_request" in kinds(ask("[[weather]]"))) == asked


def test_what_goes_wrong_is_told_and_the_answer_goes_on(
    server: Replaying, ask: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ask("[[fails]]", tools=[{**ask.tool}], max_tool_calls=1)["output"][1]
    assert (broken["status"], broken["error"]["type"]) == ("failed", "mcp_tool_execution_error")
    assert "fails" in json.dumps(broken["error"])
    large = ask("[[long]]", max_tool_calls=1)["output"][1]
    assert (large["status"], large["output"]) == ("failed", None)
    monkeypatch.setattr(mcp, "SECONDS", 1.0)
    late = ask("[[sleeps]]", max_tool_calls=1)["output"][1]
    assert (late["error"]["type"], late["error"]["code"]) == ("http_error", 504)
    gone = {**ask.tool, "server_url": "http://127.0.0.1:9/mcp"}
    answer = ask("[[plain]]", tools=[gone])
    assert kinds(answer) == ["mcp_list_tools", "message"]
    assert answer["output"][0]["error"]
    assert answer["output"][0]["tools"] == []


def test_calls_have_a_limit(home: McpUp, ask: Asking) -> None:
    answer = ask("[[forever]]", max_tool_calls=2)
    assert kinds(answer) == ["mcp_list_tools", "mcp_call", "mcp_call", "message"]  # then there are none to call
    assert len(home.calls) == 2
    answer = ask("[[both]]", max_tool_calls=1)
    assert [item["status"] for item in answer["output"][1:3]] == ["completed", "failed"]
    assert len(home.calls) == 3
    cut = ask("[[cut]]", max_output_tokens=90)
    assert cut["status"] == "incomplete"
    assert "mcp_call" not in kinds(cut)
    assert len(home.calls) == 3


def test_beside_a_call_of_the_clients_own(server: Replaying, ask: Asking) -> None:
    first = ask("[[mixed]]", tools=[ask.tool, TIME])
    assert kinds(first) == ["mcp_list_tools", "function_call", "mcp_call"]
    result = {"type": "function_call_output", "call_id": first["output"][1]["call_id"], "output": "noon [[plain]]"}
    second = ask([result], tools=[ask.tool, TIME], previous_response_id=first["id"])
    assert kinds(second) == ["message"]
    assert "cold in Oslo" in server.prompts[-1]


def test_only_what_is_allowed_is_offered(server: Replaying, ask: Asking) -> None:
    for allowed, names in ((["echo"], ["echo"]), ({"read_only": True}, ["weather"]), ({"tool_names": []}, [])):
        ask.tool["allowed_tools"] = allowed
        ask("[[plain]]")
        assert [name for name in ("weather", "echo", "fails") if f"[tool home__{name}]" in server.prompts[-1]] == names


def test_tool_choice_knows_them(server: Replaying, ask: Asking) -> None:
    for choice in ({"name": "weather"}, {}):
        asked = ask("[[weather]]", tool_choice={"type": "mcp", "server_label": "home", **choice})
        assert "mcp_call" in kinds(asked)
    refused = ask("[[weather]]", 400, tool_choice={"type": "mcp", "server_label": "home", "name": "none"})
    assert refused["error"]["param"] == "tool_choice"


def test_secrets_go_to_the_server_alone(home: McpUp, ask: Asking) -> None:
    ask.tool |= {"headers": {"X-Team": "sec-ret"}, "authorization": "tok-en"}
    answer = ask("[[weather]]")
    assert {one["authorization"] for one in home.headers} == {"Bearer tok-en"}
    assert {one["x-team"] for one in home.headers} == {"sec-ret"}
    assert "sec-ret" not in json.dumps(answer)
    assert "tok-en" not in json.dumps(answer)


def test_hosts_that_nobody_listed_are_left_out_and_told(server: Replaying, home: McpUp, ask: Asking) -> None:
    for url in ("http://example.org/mcp", "http://127.0.0.1/mcp", f"http://user@{home.host}/mcp", "file:///etc", "x"):
        body = ask.body("[[plain]]", {"tools": [{**ask.tool, "server_url": url}]})
        answer = httpx.post(f"{server.url}/v1/responses", json=body, timeout=120)
        assert kinds(answer.json()) == ["message"]
        assert "tools[0] (mcp" in answer.headers["x-portico-warning"]
    assert not home.headers
    with replaying(ANSWERS, tool_parser="hermes") as up:
        assert kinds(Asking(up, home)("[[plain]]")) == ["message"]
    assert not home.headers


@pytest.mark.parametrize("name", ["public.example", "*.public.example"])
async def test_public_names_lead_to_no_inner_address(home: McpUp, name: str) -> None:
    async def inside(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    port = home.host.partition(":")[2]
    tool = {"type": "mcp", "server_label": "a", "server_url": f"http://a.public.example:{port}/mcp"}
    server = mcp_servers([tool])["a"]
    client = mcp.McpClient([f"a.{name}:{port}" if "*" not in name else f"{name}:{port}"])
    assert client.allows(server)
    client._hosts._resolve = inside
    with pytest.raises(mcp.McpFailure, match="no public address"):
        await client.tools(server)
    client._inner = Hosts([f"a.public.example:{port}"], resolve=inside, public=lambda address: True)
    with pytest.raises(mcp.McpFailure, match="status 421"):  # it is reached, and does not know that name
        await client.tools(server)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"headers": {"Host": "a"}}, "headers"),
        ({"headers": {"A": "b\r\nC: d"}}, "headers"),
        ({"headers": ["a"]}, "headers"),
        ({"authorization": 3}, "authorization"),
        ({"server_label": 3}, "server_label"),
        ({"server_url": 3}, "server_url"),
        ({"require_approval": "perhaps"}, "require_approval"),
    ],
)
def test_refusals_name_the_field(ask: Asking, fields: dict[str, Any], param: str) -> None:
    refused = ask("[[plain]]", 400, tools=[{**ask.tool, **fields}])
    assert refused["error"]["param"] == f"tools[0].{param}"


def test_a_client_that_goes_ends_it_while_a_tool_runs(
    server: Replaying, home: McpUp, ask: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HALF_CLOSED", 0.0)  # who closes so soon might still want the answer

    def gone() -> float:
        lines = httpx.get(f"{server.url}/metrics").text.split("\n")
        return sum(float(line.split()[-1]) for line in lines if line.startswith("portico_disconnects_total"))

    before = gone()
    body = ask.body("[[sleeps]]", {"stream": True})
    with httpx.stream("POST", f"{server.url}/v1/responses", json=body, timeout=120):
        until(lambda: home.calls)
    until(lambda: gone() == before + 1)
    queued = ask("[[sleeps]]", background=True)
    until(lambda: len(home.calls) == 2)
    cancelled = httpx.post(f"{server.url}/v1/responses/{queued['id']}/cancel", timeout=120).json()
    assert cancelled["status"] == "cancelled"
    assert kinds(cancelled) == ["mcp_list_tools"]
