"""What recording may cost: the bounds on memory hold in bytes, not in good intentions."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import pytest

from portico.events import TokenLogprob
from portico.trace import Recorder, Trace
from portico.trace import record as record_module


def real_size(value: Any, seen: set[int]) -> int:
    """The bytes that a value holds in memory, each object once."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(real_size(one, seen) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple):
        return size + sum(real_size(one, seen) for one in value)
    if isinstance(value, msgspec.Struct):
        return size + sum(real_size(getattr(value, name), seen) for name in value.__struct_fields__)
    return size


def a_trace() -> Trace:
    recorder = Recorder(iter(range(10**9)).__next__, lambda: 0.0)
    return recorder.begin("r", "POST", "/v1/chat/completions", {b"host": b"localhost"}, 0.0)


def logprobs(count: int) -> list[TokenLogprob]:
    return [TokenLogprob(1000 + i, -0.1 * i, tuple((i + j, -j / 7) for j in range(20))) for i in range(count)]


@pytest.mark.parametrize(
    "data",
    [
        {"text": "x" * 100_000},
        {"text": "\N{PARROT}" * 30_000},
        {"ids": list(range(10**6, 10**6 + 50_000)), "tail": ""},
        {"ids": [1, 2], "logprobs": msgspec.to_builtins(logprobs(500))},
        {"fields": {"messages": [{"role": "user", "content": f"word {i}"} for i in range(2000)]}},
        {"headers": [[f"x-header-{i}", "v" * 40] for i in range(300)]},
        {"type": "Content"},
    ],
)
def test_sizes_are_about_right(data: dict[str, Any]) -> None:
    trace = a_trace()
    before, seen = trace.size, set[int]()
    real_size(trace.artifacts, seen)
    trace.add("text", "text", "label", data, "decoding", of=[0])
    real = real_size(trace.artifacts[-1], seen)
    assert real / 2 < trace.size - before < real * 2.5


def test_a_trace_that_is_full_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_module, "MAX_BYTES", 50_000)
    trace = a_trace()
    for _ in range(100):
        trace.add("text", "text", "", {"text": "x" * 1000}, "decoding")
    kept = len(trace.artifacts)
    assert 20 < kept < 50
    assert trace.head.dropped == 101 - kept
    trace.started(200, [])
    trace.sent(b"data", True)
    trace.ended("ok")
    assert trace.head.state == "ok"


def test_many_large_traces_push_each_other_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from portico.trace import recorder as recorder_module

    monkeypatch.setattr(recorder_module, "MAX_BYTES", 1_000_000)
    recorder = Recorder(iter(range(10**9)).__next__, lambda: 0.0, keep=100)
    for _ in range(20):
        trace = recorder.begin("r", "POST", "/", {}, 0.0)
        trace.add("text", "text", "", {"text": "x" * 300_000}, "decoding")
    assert len(recorder.heads) == 4  # three, and the one that is being made
