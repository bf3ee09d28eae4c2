"""``portico bench`` counts what a server sends, and tells what went wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from portico.commands.bench import command
from portico.commands.bench.asking import APIS, body_of
from portico.commands.bench.figures import percentile
from portico.commands.bench.local import cpu_seconds, listening
from support.replay import Replaying, replaying


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying({"a": 'It is "\ndata: {" and so on. ' * 3}, keys=["k"]) as up:
        yield up


def bench(server: Replaying, *options: str, key: str = "k") -> Result:
    return CliRunner().invoke(command, ["--url", server.url, "--api-key", key, "--requests", "6", *options])


@pytest.mark.parametrize("api", APIS)
def test_every_answer_is_counted(server: Replaying, api: str, tmp_path: Path) -> None:
    picture = tmp_path / "times.svg"
    result = bench(server, "--api", api, "--concurrency", "2", "--json", "--svg", str(picture))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["requests"], found["failed"]) == (6, 0)
    assert found["events"] % 6 == 0
    assert found["events"] >= 6 * 10
    once = httpx.post(
        server.url + APIS[api],
        content=body_of(api, "tiny", 64, 128, False),
        headers={"Authorization": "Bearer k", "Content-Type": "application/json"},
    )
    assert found["bytes_per_event"] == pytest.approx(len(once.content) * 6 / found["events"], rel=0.02)
    assert 0 < found["first_event_ms"]["p50"] <= found["first_event_ms"]["max"]
    assert found["server_cpu_us_per_event"] > 0
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    assert len(server.requests[-1].token_ids) > 64


def test_pace_and_tools_and_words_for_people(server: Replaying) -> None:
    result = bench(server, "--rate", "50", "--tools", "--prompt-tokens", "5")
    assert result.exit_code == 0, result.output
    assert "6 answers" in result.stdout
    assert "get_weather" in server.prompts[-1]
    assert "us per event" in result.stdout


@pytest.mark.parametrize(
    ("options", "key", "word"),
    [
        (("--model", "nobody"), "k", "status 404"),
        ((), "wrong", "API key"),
        (("--api", "completions", "--tools"), "k", "tools"),
    ],
)
def test_what_goes_wrong_is_told(server: Replaying, options: tuple[str, ...], key: str, word: str) -> None:
    result = bench(server, *options, key=key)
    assert result.exit_code != 0
    assert word in str(result.exception)


def test_a_server_that_is_not_there_is_told() -> None:
    result = CliRunner().invoke(command, ["--url", "http://127.0.0.1:9", "--model", "x"])
    assert result.exit_code != 0
    assert "cannot be reached" in str(result.exception)


@given(st.lists(st.floats(0, 10), min_size=1).map(sorted), st.floats(0, 1))
def test_percentiles(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


def test_the_process_of_a_port_is_found() -> None:
    code = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    code += "; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert listening(int(process.stdout.readline())) == [process.pid]
        assert cpu_seconds(process.pid) > 0
        process.communicate(b"")
