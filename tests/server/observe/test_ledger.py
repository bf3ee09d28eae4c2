"""Metrics of several workers: one page, whoever answers, and no counter that goes backwards."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import httpx
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from portico.server.observe.ledger import Ledger, rows
from portico.server.observe.metrics import Metrics
from support.processes import children
from support.server import RunningServer, running_server
from support.wait import SAFETY, until

WORKER = "portico.server.process.worker"


def values(page: bytes) -> dict[tuple[str, str], float]:
    """Every line of a page; that it can be read at all says that it is well formed."""
    return {
        (sample.name, json.dumps(sample.labels, sort_keys=True)): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def total(found: dict[tuple[str, str], float], name: str) -> float:
    return sum(value for (sample, _), value in found.items() if sample == name)


def test_what_each_worker_sees_whole_is_no_sum() -> None:
    files = rows(2)
    ledgers = [Ledger(files, row) for row in range(2)]
    for ledger in ledgers:
        ledger.write([GaugeMetricFamily("a_usage", "", value=0.4), GaugeMetricFamily("b", "", value=1)])
    assert {family.name: family.samples[0].value for family in ledgers[0].collect()} == {"a_usage": 0.4, "b": 2}


def test_sums_and_successors() -> None:
    files = rows(2)
    one, two = (Metrics(Ledger(files, row)) for row in range(2))
    for metrics, times in ((one, 3), (two, 4)):
        for number in range(times):
            metrics.count("openai", "/v1/chat/completions", "tiny", "ok", "", 0.2 * number)
        metrics.count("none", f"/{times}", "", "refused", "x", 0.1)  # labels that the other has not
        metrics.step.observe(0.001)
        metrics.in_flight.inc()
        metrics.lines("errored", f"of {times}", times)
        metrics.lines("succeeded", "", times)
        metrics.backlog({"running": 1, "waiting": 2}, {"running": times, "waiting": 10})
        for later in (False, True):
            metrics.waits(later).between_tokens.observe(0.01)
            metrics.waits(later).first_token.observe(0.01)
    one.render()
    before = values(two.render())
    assert before == values(two.render()) | {
        key: value for key, value in before.items() if key[0].startswith("process_")
    }
    assert total(before, "portico_requests_total") == total(before, "portico_request_seconds_count") == 9
    assert total(before, "portico_step_seconds_count") == total(before, "portico_requests_in_flight") == 2
    assert total(before, "portico_build_info") == 1
    assert before["portico_batch_lines_total", '{"cause": "", "outcome": "succeeded"}'] == 7
    assert before["portico_batch_lines_total", '{"cause": "of 4", "outcome": "errored"}'] == 4
    assert before["portico_batch_lines_open", '{"state": "running"}'] == 7
    assert total(before, "portico_batches_open") == 6
    for name in ("portico_inter_token_seconds_count", "portico_time_to_first_token_seconds_count"):
        assert {before[name, f'{{"work": "{work}"}}'] for work in ("interactive", "batch")} == {2}

    successor = Metrics(Ledger(files, 0))
    successor.count("openai", "/v1/chat/completions", "tiny", "ok", "", 0.1)
    after = values(successor.render())
    assert total(after, "portico_requests_total") == 10
    assert total(after, "portico_requests_in_flight") == 1, "what a killed worker was at is not in flight any more"
    assert after["portico_batch_lines_open", '{"state": "running"}'] == 4, "nor are its lines"
    counters = re.compile(r".*(_total|_count|_sum|_bucket)$")
    assert all(after[key] >= value for key, value in before.items() if counters.match(key[0]))
    for file in files:
        os.close(file)


def test_what_is_written_by_half_is_not_read() -> None:
    files = rows(1)
    metrics = Metrics(Ledger(files, 0))
    for _ in range(3):
        metrics.count("server", "/", "", "ok", "", 0.1)
        metrics.render()
    ledger = Ledger(files, 0)
    sane = {one.name for one in ledger.collect()}
    os.pwrite(files[0], b"\xc1" * 100, 1 << 26 if ledger_slot(files[0]) == 4096 else 4096)  # as far as a killed one got
    assert {one.name for one in Ledger(files, 0).collect()} == sane
    os.close(files[0])


def ledger_slot(file: int) -> int:
    """Where what is valid begins."""
    return int.from_bytes(os.pread(file, 8, 0), "little")


def test_workers(tmp_path: Path, smollm2_path: Path) -> None:
    script = tmp_path / "answers.jsonl"
    script.write_text(json.dumps({"text": "Hello."}) + "\n")

    def counted(server: RunningServer) -> float:
        try:
            page = httpx.get(server.url + "/metrics", timeout=SAFETY).content
        except httpx.HTTPError:  # the worker was killed with the connection in its hands
            return counted(server)
        return sum(
            value
            for (name, labels), value in values(page).items()
            if name == "portico_requests_total" and "chat" in labels
        )

    def ask(server: RunningServer, times: int) -> None:
        for _ in range(times):
            body = {"messages": [{"role": "user", "content": "Hi"}]}
            assert httpx.post(server.base_url + "/chat/completions", json=body, timeout=SAFETY).status_code == 200

    with running_server(smollm2_path, "--engine", f"replay:{script}", "--workers", "2") as server:
        ask(server, 12)
        until(lambda: counted(server) == 12)
        assert {counted(server) for _ in range(8)} == {12}, "whoever answers"
        first = children(server.process.pid, WORKER)
        os.kill(first[0], signal.SIGKILL)
        assert {counted(server) for _ in range(8)} == {12}
        until(lambda: len(set(children(server.process.pid, WORKER)) - {first[0]}) == 2)
        assert {counted(server) for _ in range(8)} == {12}
        ask(server, 3)
        until(lambda: counted(server) == 15)
        assert server.stop() == 0
