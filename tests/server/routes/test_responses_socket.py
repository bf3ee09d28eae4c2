"""Responses over a WebSocket: the same events as over HTTP, in frames; lanes, what a socket remembers, how it ends."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from openai.types.responses import ResponseSteerFailedEvent
from pydantic import TypeAdapter
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect

from support.raw import raw, request
from support.replay import Replaying, replaying
from support.responses import assert_in_order, assert_valid_event
from support.sockets import BEARER, ENDS, KEY, Socket
from support.wait import SAFETY, until

ANSWERS = {
    "plain": "It is sunny. ☀️",
    "calls": "<think>\nHm.\n</think>\n\nLook.\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"a": 1}}\n</tool_call>',
    "long": "word " * 150,
    "endless": "word " * 60_000,
}
TOOL = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replaying]:
    store = str(tmp_path_factory.mktemp("store") / "portico.db")
    with replaying(ANSWERS, keys=[KEY], store=store, tool_parser="hermes", reasoning_parser="qwen3") as up:
        yield up


@pytest.fixture
def one(server: Replaying) -> Iterator[Socket]:
    with Socket(server.url) as opened:
        yield opened


@pytest.mark.parametrize("lane", [{}, {"stream_id": "agent_1"}])
def test_frames_are_the_events_of_a_stream(server: Replaying, one: Socket, lane: dict[str, str]) -> None:
    for text in ("calls", "plain"):
        one.say(f"[[{text}]]", tools=[TOOL], **lane)
        events = one.answer()
        assert all(event.pop("stream_id", None) == lane.get("stream_id") for event in events)
        assert_in_order(events)
        for event in events:
            assert_valid_event(event, functions=True)
        response = events[-1]["response"]
        kept = httpx.get(f"{server.url}/v1/responses/{response['id']}", headers=BEARER)
        assert kept.json() == response


def test_of_one_lane_one_after_the_other(one: Socket) -> None:
    for number in range(5):
        one.say("[[long]]", metadata={"number": str(number)})
    for number in range(5):
        events = one.answer()
        assert_in_order(events)
        assert events[-1]["response"]["metadata"] == {"number": str(number)}


def test_lanes_run_side_by_side() -> None:
    turns = threading.Semaphore(0)
    with replaying(ANSWERS, turns=turns) as up, Socket(up.url) as one:
        for name in ("long", "plain"):
            one.say(f"[[{name}]]", stream_id=name)
        begun = [one.hear() for _ in range(4)]
        assert {event["stream_id"] for event in begun} == {"long", "plain"}
        for _ in range(2000):
            turns.release()
        events = [*begun, one.hear()]
        while sum(event["type"] in ENDS for event in events) < 2:
            events.append(one.hear())
        ended = [event["stream_id"] for event in events if event["type"] in ENDS]
        assert ended == ["plain", "long"]
        for lane in ended:
            assert_in_order([event for event in events if event["stream_id"] == lane])


def test_a_socket_remembers_what_is_kept_nowhere(server: Replaying, one: Socket) -> None:
    first = one.ask("I am Bo. [[calls]]", store=False, tools=[TOOL])
    call = first["output"][-1]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "cold [[plain]]"}
    with Socket(server.url) as other:
        refused = other.ask([result], previous_response_id=first["id"])
        assert (refused["status"], refused["error"]["code"]) == (400, "previous_response_not_found")
    second = one.ask([result], previous_response_id=first["id"], store=False)
    assert second["previous_response_id"] == first["id"]
    assert "I am Bo." in server.prompts[-1]
    assert "cold" in server.prompts[-1]
    refused = one.ask("Hm", previous_response_id=first["id"])  # the last one alone is remembered
    assert refused["error"]["code"] == "previous_response_not_found"
    forked = one.ask("And? [[plain]]", previous_response_id=second["id"], store=False, stream_id="two")
    assert "cold" in server.prompts[-1]
    assert one.ask("[[plain]]", previous_response_id=forked["id"])["status"] == "completed"


def test_a_failed_continuation_is_the_end_of_what_it_followed(one: Socket) -> None:
    first = one.ask("[[calls]]", store=False, tools=[TOOL])
    refused = one.ask("No output of the call", previous_response_id=first["id"])
    assert (refused["status"], refused["error"]["param"]) == (400, "input")
    refused = one.ask("[[plain]]", previous_response_id=first["id"])
    assert refused["error"]["code"] == "previous_response_not_found"


def test_a_prompt_that_was_only_read_is_gone_on_from(server: Replaying, one: Socket) -> None:
    warm = one.ask("I am Bo.", generate=False)
    assert (warm["output"], warm["usage"]["output_tokens"]) == ([], 0)
    assert one.ask("[[plain]]", previous_response_id=warm["id"])["status"] == "completed"
    assert "I am Bo." in server.prompts[-1]


@pytest.mark.parametrize(
    ("frame", "param"),
    [
        ('{"type": "response.create", "input": "Hi", "model": "tiny", "temperature": "hot"}', "temperature"),
        ('{"type": "response.create", "input": "Hi", "model": "tiny", "background": true}', "background"),
        ('{"type": "response.create", "input": "Hi", "model": "tiny", "stream_id": "a b"}', "stream_id"),
        ('{"type": "response.create", "input": "Hi", "model": "none"}', "model"),
        ('{"type": "response.do", "input": "Hi"}', "type"),
        ("{}", "type"),
        ("[]", None),
        ("{", None),
        ("", None),
        ('{"type": "response.create", "input": ' + "[" * 200_000, "input"),
        ('{"type": "response.create", "tools": [' + "1," * 200_000 + "1]}", "tools"),
        (b"\xff\x00", None),
    ],
)
def test_a_refusal_leaves_the_socket_open(one: Socket, frame: str | bytes, param: str | None) -> None:
    one.connection.send(frame)
    refused = one.hear()
    assert (refused["type"], refused["status"] // 100) == ("error", 4)
    assert set(refused["error"]) == {"message", "type", "param", "code"}
    assert refused["error"]["param"] == param
    for passing in ("response.processed", "response.append"):
        one.connection.send(json.dumps({"type": passing, "response_id": "resp_1"}))
    assert one.ask("[[plain]]", stream=False)["status"] == "completed"


def test_what_is_passed_over_is_told_with_the_first_event(server: Replaying, one: Socket) -> None:
    given = {"nonsense": 1, "tools": [{"type": "web_search"}]}
    body = {"model": "tiny", "input": "[[plain]]", "stream": True, **given}
    with httpx.stream("POST", f"{server.url}/v1/responses", json=body, headers=BEARER, timeout=SAFETY) as answer:
        told = answer.headers["x-portico-warning"]
    assert "nonsense" in told
    assert "web_search" in told or "tools[0]" in told
    for lane in ({}, {"stream_id": "a"}):
        one.say("[[plain]]", **given, **lane)
        first, *rest = one.answer()
        assert first["headers"] == {"x-portico-warning": told}
        assert_valid_event(first)
        assert not any("headers" in event for event in rest)
    one.say("[[plain]]")
    assert not any("headers" in event for event in one.answer())


def test_steering_is_refused_in_its_own_words(one: Socket) -> None:
    for given in ("Stop. ☀️", [{"type": "message", "role": "user", "content": "Stop."}]):
        one.connection.send(json.dumps({"type": "response.steer", "previous_response_id": "resp_1", "input": given}))
        refused = one.hear()
        event: Any = TypeAdapter(ResponseSteerFailedEvent).validate_python(refused)
        assert event.error.code == "steering_not_supported"
        assert refused["steer"] == {"input": given, "previous_response_id": "resp_1"}
    one.connection.send('{"type": "response.steer", "input": "Stop."}')
    assert one.hear()["error"]["param"] == "previous_response_id"
    assert one.ask("[[plain]]")["status"] == "completed"


def test_limits_hold_for_every_frame() -> None:
    with replaying(ANSWERS, max_in_flight=1, turns=threading.Semaphore(3)) as up, Socket(up.url) as one:
        one.say("[[long]]", stream_id="a")
        assert one.hear()["type"] == "response.created"
        one.say("[[plain]]", stream_id="b")
        events = one.answer()
        while events[-1]["type"] != "error":
            events += one.answer()
        assert events[-1]["stream_id"] == "b"
        assert (events[-1]["status"], events[-1]["headers"]) == (503, {"retry-after": "1"})


def test_a_handshake_is_a_request(server: Replaying) -> None:
    for headers, status, code in (
        ({"Authorization": "Bearer wrong"}, 401, "invalid_api_key"),
        ({}, 401, "invalid_api_key"),
    ):
        with pytest.raises(InvalidStatus) as refused:
            Socket(server.url, additional_headers=headers).__enter__()
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body)["error"]["code"] == code
    for path, status in (("/v1/response", 404), ("/v1/chat/completions", 405)):
        with pytest.raises(InvalidStatus) as refused:
            connect(server.url.replace("http", "ws") + path, additional_headers=BEARER).__enter__()
        assert refused.value.response.status_code == status
    assert httpx.get(f"{server.url}/v1/responses", headers=BEARER).status_code == 405
    key = ("Sec-WebSocket-Key", base64.b64encode(b"short").decode())
    wish = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), key]
    asked = request("GET", "/v1/responses", headers=[*BEARER.items(), *wish, ("Connection", "close")])
    assert raw(server.url, asked).status == 405
    two_hosts = _handshake().replace(b"\r\n", b"\r\nHost: elsewhere\r\n", 1)
    assert raw(server.url, two_hosts).status == 400
    assert raw(server.url, _handshake().replace(b"\r\n", b"\r\nX: " + b"x" * 70_000 + b"\r\n", 1)).status == 431


def test_pages_elsewhere_get_no_socket() -> None:
    with replaying(ANSWERS) as up:
        for wrong in ({"origin": "http://evil.example"}, {"additional_headers": {"Sec-Fetch-Site": "cross-site"}}):
            with pytest.raises(InvalidStatus) as refused:
                Socket(up.url, **wrong).__enter__()
            assert refused.value.response.status_code == 403
        with Socket(up.url, origin=up.url) as one:
            assert one.ask("[[plain]]")["status"] == "completed"


def test_a_client_that_goes_ends_what_it_asked_for() -> None:
    with replaying(ANSWERS, max_in_flight=2, turns=threading.Semaphore(20)) as up:
        with Socket(up.url) as one:
            for lane in ("a", "a", "b"):
                one.say("[[endless]]", stream_id=lane)
            assert one.hear()["type"] == "response.created"
        metrics = lambda: httpx.get(f"{up.url}/metrics").text  # noqa: E731
        until(lambda: "portico_requests_in_flight 0.0" in metrics() and 'outcome="gone"' in metrics())


def test_at_the_end_of_the_server_what_runs_may_end(tmp_path: Path) -> None:
    turns = threading.Semaphore(5)

    def rest(one: Socket) -> tuple[list[dict[str, Any]], int]:
        events = []
        with suppress(ConnectionClosed):
            events.extend(iter(one.hear, None))
        return events, one.connection.close_code or 0

    with ThreadPoolExecutor() as pool:
        with replaying(ANSWERS, turns=turns) as up:
            idle, busy = Socket(up.url).__enter__(), Socket(up.url).__enter__()
            busy.say("[[long]]")
            begun = busy.hear()
            quiet, told = pool.submit(rest, idle), pool.submit(rest, busy)
            threading.Timer(1.0, lambda: [turns.release() for _ in range(2000)]).start()
        assert quiet.result(SAFETY) == ([], 1012)
        events, code = told.result(SAFETY)
        assert_in_order([begun, *events])
        assert code == 1012


def test_a_client_that_does_not_read_is_cut_off() -> None:
    with replaying(ANSWERS, client_timeout=1.0) as up, _socket(up.url) as slow:
        body = json.dumps({"type": "response.create", "model": "tiny", "input": "[[endless]]"})
        slow.sendall(_frame(Opcode.TEXT, body.encode()))
        until(lambda: "portico_requests_in_flight 1.0" in httpx.get(f"{up.url}/metrics").text)
        until(lambda: "portico_requests_in_flight 0.0" in httpx.get(f"{up.url}/metrics").text)


def test_a_message_has_a_size_a_time_and_not_too_many_pieces() -> None:
    with replaying(ANSWERS, client_timeout=1.0, max_body=1 << 16) as up:
        text = b'{"type":"response.processed"}'
        pings = [_frame(Opcode.TEXT, text), _frame(Opcode.PING, b"hello")]
        unfinished = _frame(Opcode.TEXT, text)[:-1]
        pieces = [_frame(Opcode.TEXT, b"", fin=False), _frame(Opcode.CONT, b"", fin=False) * 20_000]
        cases = (
            ([*pings, unfinished], 1008),
            ([_frame(Opcode.TEXT, b"{", fin=False)], 1008),
            (pieces, 1008),
            ([_frame(Opcode.TEXT, b"x" * (1 << 16) + b"x")], 1009),
        )

        def told(case: tuple[list[bytes], int]) -> bytes:
            with _socket(up.url) as connection:
                for frame in case[0]:
                    connection.sendall(frame)
                said = b""
                while piece := connection.recv(1 << 16):
                    said += piece
            return said

        with ThreadPoolExecutor() as pool:
            answers = list(pool.map(told, cases))
        for (frames, code), said in zip(cases, answers, strict=True):
            assert said.startswith(b"\x8a\x05hello") == (frames[0] is pings[0])
            assert code.to_bytes(2, "big") in said
        with Socket(up.url) as one:
            one.connection.send(["{", '"type": "response.create", "model": "tiny",', ' "input": "[[plain]]"}'])
            assert one.answer()[-1]["type"] == "response.completed"


def test_the_openai_client(server: Replaying) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY)
    with client.responses.connect() as connection:
        connection.response.create(model="tiny", input="[[calls]]", tools=[TOOL])  # type: ignore[list-item]
        kinds = []
        for event in connection:
            kinds.append(event.type)
            if event.type == "response.completed":
                break
        assert event.response.output[-1].type == "function_call"
        assert kinds[:2] == ["response.created", "response.in_progress"]
        connection.response.create(model="none", input="Hi")
        refused = connection.recv()
        assert refused.type == "error"
        assert refused.error.code == "model_not_found"


def _socket(url: str) -> socket.socket:
    """One without a library, which takes little at a time."""
    where = urlsplit(url)
    connection = socket.socket()
    connection.settimeout(SAFETY)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((where.hostname, where.port))
    connection.sendall(_handshake())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return connection


def _handshake() -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    wish = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    return request("GET", "/v1/responses", headers=[*wish, ("Sec-WebSocket-Key", key)])


def _frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)
