"""Requests that are made to stall a server, and what is measured while one is under them.

An attack is a body of some size. ``assault`` sends it to a server that runs as a process of its own, asks for
``/health`` beside it all the while, and says what that cost: how long the probe waited, how much memory the process
took. ``probing`` is that probe, ``listening`` reads a stream meanwhile. ``serves`` says whether it is as before
afterwards. ``benchmarks/attacks.py`` prints the same of any server.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["ALLOWED", "ATTACKS", "Attack", "Cost", "assault", "high", "listening", "peak", "post", "probing", "serves"]

CHAT, COMPLETIONS, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
PROBE_SECONDS = 0.01  # between one answer of the probe and the next question
PATIENCE = 120.0  # seconds that any answer may take before it counts as none


@dataclass(frozen=True)
class Attack:
    """``body`` makes the attack with so many items; ``full`` are as many as were seen to hurt, ``small`` fewer."""

    name: str
    path: str
    body: Callable[[int], bytes]
    full: int
    param: str | None = None  # the field that the refusal names
    small: int = 150_000


@dataclass(frozen=True)
class Cost:
    """What an attack did. Times are in seconds, sizes in bytes; ``waits`` has one for each answer of the probe."""

    status: int  # 0: no answer
    answer: bytes
    took: float
    waits: list[float]
    healthy: bool  # the probe said 200 each time
    body: int
    memory: int  # that the process took more at its peak than before; 0 where that cannot be seen

    @property
    def stall(self) -> float:
        """The 99th percentile of the probe's waits."""
        return high(self.waits)


def high(values: list[float]) -> float:
    """The 99th percentile."""
    return sorted(values)[int(len(values) * 0.99)] if values else float("inf")


def _list(field: str, item: bytes, rest: bytes = b'"model":"smollm2"') -> Callable[[int], bytes]:
    return lambda count: b'{%b,"%b":[' % (rest, field.encode()) + b",".join([item] * count) + b"]}"


def _said(inside: Callable[[int], bytes], rest: bytes = b"") -> Callable[[int], bytes]:
    head = b'{"model":"smollm2",%b"max_tokens":1,"messages":[{"role":"user","content":' % rest
    return lambda count: head + inside(count) + b"}]}"


def _with(field: str, value: Callable[[int], bytes]) -> Callable[[int], bytes]:
    head = b'{"model":"smollm2","max_tokens":1,"messages":[{"role":"user","content":"hi"}],"%b":' % field.encode()
    return lambda count: head + value(count) + b"}"


def _members(member: bytes) -> Callable[[int], bytes]:
    return lambda count: b"{" + b",".join(member % number for number in range(count)) + b"}"


def _items(item: bytes) -> Callable[[int], bytes]:
    return lambda count: b"[" + b",".join([item] * count) + b"]"


ATTACKS = [
    Attack("messages that are numbers", CHAT, _list("messages", b"1"), 1_000_000, "messages"),
    Attack("empty messages", CHAT, _list("messages", b"{}"), 1_000_000, "messages"),
    Attack("many short messages", CHAT, _list("messages", b'{"role":"user","content":"x"}'), 500_000, "messages"),
    Attack("prompts that are objects", COMPLETIONS, _list("prompt", b"{}"), 1_000_000, "prompt"),
    Attack("a prompt of token ids", COMPLETIONS, _list("prompt", b"300"), 2_000_000, "prompt", 600_000),
    Attack("inputs that are null", "/v1/embeddings", _list("input", b"null"), 1_000_000, "input"),
    Attack("documents that are numbers", "/v1/rerank", _list("documents", b"1"), 1_000_000, "documents"),
    Attack("tools that are numbers", CHAT, _with("tools", _items(b"1")), 1_000_000, "tools"),
    Attack("stop strings that are numbers", CHAT, _with("stop", _items(b"1")), 1_000_000, "stop"),
    Attack("a stop string of a megabyte", CHAT, _with("stop", lambda n: b'["' + b"ab" * n + b'"]'), 500_000, "stop"),
    Attack("a bias for every token", CHAT, _with("logit_bias", _members(b'"%d":1')), 300_000, "logit_bias"),
    Attack("metadata", CHAT, _with("metadata", _members(b'"%d":"x"')), 500_000, "metadata"),
    Attack(
        "a schema", CHAT, _with("response_format", _members(b'"a%d":{"type":"string"}')), 400_000, "response_format"
    ),
    Attack("unknown fields", CHAT, _with("strange", _items(b"{}")), 1_000_000, "strange"),
    Attack("unknown blocks", MESSAGES, _said(_items(b'{"type":"strange"}')), 1_000_000, "messages"),
    Attack("parts that are numbers", CHAT, _said(_items(b"1")), 1_000_000, "messages"),
    Attack("ids to turn into text", "/detokenize", _list("tokens", b"1"), 5_000_000, "tokens", 600_000),
    Attack("quotes", CHAT, lambda count: b'"' * count, 20_000_000, small=2_000_000),
    Attack("brackets", CHAT, lambda count: b"[" * count, 20_000_000, small=2_000_000),
]

SHORT = b'"model":"smollm2","max_tokens":1'


def _called(inside: Callable[[int], bytes]) -> Callable[[int], bytes]:
    head, tail = b'{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":"', b'"}}]}'
    return lambda count: b'{%b,"messages":[%b]}' % (SHORT, head + inside(count) + tail)


# The largest that are no attack: within every bound, so that all their work is done.
ALLOWED = [
    Attack("as many ids to turn into text as may be", "/detokenize", _list("tokens", b"300"), 500_000, small=100_000),
    Attack("a prompt of ids for a larger context", COMPLETIONS, _list("prompt", b"300", SHORT), 200_000, small=100_000),
    Attack("a long text", CHAT, _said(lambda count: b'"' + b"word " * count + b'"'), 60_000, small=20_000),
    Attack("arguments of many values", CHAT, _called(_items(b"{}")), 1_000_000),
    Attack("many parts", CHAT, _said(_items(b'{"type":"text","text":"x"}')), 30_000, small=10_000),
    Attack("many messages", CHAT, _list("messages", b'{"role":"user","content":"x"}', SHORT), 10_000, small=3_000),
    Attack("tools with long schemas", CHAT, _with("tools", _items(
        b'{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{%b}}}}'
        % b",".join(b'"p%d":{"type":"string"}' % number for number in range(60))
    )), 500, small=100),
]  # fmt: skip


@contextmanager
def listening(url: str) -> Iterator[list[float]]:
    """The times between the events of a stream that is read meanwhile, in seconds; a new one begins where it ends."""
    gaps: list[float] = []
    over = threading.Event()
    body = {"model": "smollm2", "stream": True, "messages": [{"role": "user", "content": "hi"}]}

    def listen() -> None:
        while not over.is_set():
            connection = _connection(url)
            connection.request("POST", CHAT, json.dumps(body), {"Content-Type": "application/json"})
            response, last = connection.getresponse(), 0.0
            while not over.is_set() and (line := response.readline()):
                if line.startswith(b"data: {"):
                    now = time.monotonic()
                    if last:
                        gaps.append(now - last)
                    last = now
            connection.close()

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        yield gaps
    finally:
        over.set()
        listener.join()


@dataclass
class Probe:
    """How long each question about health waited, in seconds, and whether the answer was always 200."""

    waits: list[float] = field(default_factory=list)
    healthy: bool = True


@contextmanager
def probing(url: str) -> Iterator[Probe]:
    """Ask for ``/health`` again and again meanwhile."""
    probe, over = Probe(), threading.Event()

    def ask() -> None:
        connection = _connection(url)
        while not over.wait(PROBE_SECONDS):
            began = time.monotonic()
            connection.request("GET", "/health")
            response = connection.getresponse()
            response.read()
            probe.waits.append(time.monotonic() - began)
            probe.healthy &= response.status == 200

    prober = threading.Thread(target=ask)
    prober.start()
    try:
        yield probe
    finally:
        over.set()
        prober.join()


def assault(url: str, attack: Attack, count: int, pid: int | None = None) -> Cost:
    """Send the attack with ``count`` items to the server at ``url``, which is the process ``pid``, and look on."""
    body = attack.body(count)
    before = peak(pid, forget=True)
    with probing(url) as probe:
        began = time.monotonic()
        status, answer = post(url, attack.path, body)
        took = time.monotonic() - began
        time.sleep(0.2)  # what comes after the answer counts too
    return Cost(status, answer, took, probe.waits, probe.healthy, len(body), max(0, peak(pid) - before))


def post(url: str, path: str, body: bytes, patience: float = PATIENCE) -> tuple[int, bytes]:
    """The answer to the body, which may take so many seconds: its status, 0 where there is none, and its bytes."""
    connection = _connection(url, patience)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def serves(url: str) -> bool:
    """Whether an ordinary request is answered."""
    body = {"model": "smollm2", "max_tokens": 2, "messages": [{"role": "user", "content": "hi"}]}
    return post(url, CHAT, json.dumps(body).encode())[0] == 200


def _connection(url: str, patience: float = PATIENCE) -> http.client.HTTPConnection:
    where = urlsplit(url)
    assert where.hostname is not None
    return http.client.HTTPConnection(where.hostname, where.port, timeout=patience)


def peak(pid: int | None, forget: bool = False) -> int:
    """The most memory that the process had, or has now and begins to count from here."""
    if pid is None:
        return 0
    try:
        if forget:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
