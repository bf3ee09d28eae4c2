"""``portico batch``, as a program: without a server, killed and taken up again; and against one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from portico.cli import cli
from portico.errors import PorticoError
from support.replay import Replaying, replaying
from support.tiny_models import write

TEMPLATE = "{% for m in messages %}<user>{{ m.content }}{% endfor %}<turn>"
KEYS = ("first-key", "second-key")


def lines(count: int, bad: Sequence[int] = ()) -> str:
    """A file of requests, of which some are refused by their endpoint."""
    return "".join(
        json.dumps(
            {
                "custom_id": f"request-{n}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": "gpt-4o",
                    "messages": [{"role": "user", "content": f"Say {n}."}],
                    "max_tokens": 0 if n in bad else 20,
                },
            }
        )
        + "\n"
        for n in range(count)
    )


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    stdout: str
    stderr: str


def portico(*arguments: str | Path, **environment: str) -> Done:
    """``portico batch ARGUMENTS``, in this process."""
    names = {"COLUMNS": "160", "NO_COLOR": "1", **environment}
    found = CliRunner().invoke(cli, ["batch", *map(str, arguments)], env=names)
    if isinstance(found.exception, PorticoError):
        return Done(1, found.stdout, found.exception.message)
    assert isinstance(found.exception, SystemExit | None), found.exception
    return Done(found.exit_code, found.stdout, found.stderr)


def results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answer(result: dict[str, Any]) -> str:
    return str(result["response"]["body"]["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """Options for a model whose answers are known."""
    directory = tmp_path_factory.mktemp("model")
    (directory / "template.jinja").write_text(TEMPLATE)
    (directory / "answers.jsonl").write_text('{"text": "It is sunny."}\n')
    return [
        *("--model", write("llama", directory / "tiny.gguf")),
        *("--engine", f"replay:{directory / 'answers.jsonl'}"),
        *("--chat-template", directory / "template.jinja"),
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replaying]:
    store = tmp_path_factory.mktemp("store") / "portico.db"
    with replaying({"plain": "It is sunny."}, keys=KEYS, store=str(store), patterns=["*"]) as up:
        yield up


class TestRun:
    def test_every_line_is_answered_in_order(self, model: list[str | Path], tmp_path: Path) -> None:
        file = tmp_path / "requests.jsonl"
        file.write_text(lines(12, bad=[3]))
        done = portico("run", file, *model)
        assert done.status == 3, done.stderr
        assert "12 of 12 lines, 1 failed" in done.stdout
        assert "requests.jsonl: completed, 12 of 12, 1 failed" in done.stderr
        found = results(tmp_path / "requests.results.jsonl")
        assert [one["custom_id"] for one in found] == [f"request-{n}" for n in range(12)]
        assert [one["response"]["status_code"] for one in found] == [400 if n == 3 else 200 for n in range(12)]
        assert {answer(one) for n, one in enumerate(found) if n != 3} == {"It is sunny."}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["requests.jsonl", "requests.results.jsonl"]
        again = portico("run", file, *model)
        assert again.status == 2
        assert "--overwrite" in again.stderr

    def test_stopped_or_killed_it_goes_on_where_it_was(self, model: list[str | Path], tmp_path: Path) -> None:
        """Lines that were answered before are not asked again."""
        file, out = tmp_path / "requests.jsonl", tmp_path / "out.jsonl"
        file.write_text(lines(20))
        arguments = ["run", file, "--out", out, *model, "--batch-concurrency", "1"]
        stopped = _stopped_in_the_middle(arguments, signal.SIGINT)
        assert stopped.status == 130
        assert "goes on where it was" in stopped.stderr
        assert _stopped_in_the_middle(arguments, signal.SIGKILL).status == -signal.SIGKILL
        assert not out.exists()
        (tmp_path / "other.jsonl").write_text(lines(1))
        other = portico("run", tmp_path / "other.jsonl", "--out", out, *model)
        assert other.status == 1
        assert "the work on another file" in other.stderr
        done = portico(*arguments, "--json")
        assert done.status == 0, done.stderr
        assert "in_progress, 0 " not in done.stderr, "it began anew"
        told = json.loads(done.stdout)
        assert told["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
        assert told["results"] == str(out)
        assert [one["custom_id"] for one in results(out)] == [f"request-{n}" for n in range(20)]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["other.jsonl", "out.jsonl", "requests.jsonl"]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("", "has no lines"),
            ("{}\n", "the first line is no JSON object"),
            (lines(2) + lines(1), "line 3: "),
            (lines(1) + '{"custom_id": "a"}\n', "line 2: "),
        ],
    )
    def test_a_file_that_is_none(self, model: list[str | Path], tmp_path: Path, content: str, said: str) -> None:
        file = tmp_path / "requests.jsonl"
        file.write_text(content)
        done = portico("run", file, *model)
        assert done.status == 2
        assert said in done.stdout + done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["requests.jsonl"], "nothing is left of it"


def _stopped_in_the_middle(arguments: Sequence[str | Path], how: signal.Signals) -> Done:
    """The command as a process that gets the signal when it has some answers, and needs many times as long for all."""
    command = [sys.executable, "-m", "portico", "batch", *map(str, arguments)]
    names = {**os.environ, "NO_COLOR": "1", "PORTICO_REPLAY_RATE": "10"}
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # also where these tests ignore it
    with subprocess.Popen(command, env=names, stderr=subprocess.PIPE, text=True, preexec_fn=heeds) as running:
        assert running.stderr is not None
        for told in running.stderr:
            if "in_progress, " in told and "in_progress, 0 " not in told:
                break
        running.send_signal(how)
        said = running.stderr.read()
    return Done(running.returncode, "", said)


class TestServer:
    @pytest.fixture
    def ask(self, server: Replaying) -> Any:
        def ask(*arguments: str | Path, key: str = KEYS[0]) -> Done:
            return portico(*arguments, PORTICO_URL=server.url + "/v1", PORTICO_API_KEY=key)

        return ask

    def test_there_and_back(self, ask: Any, tmp_path: Path) -> None:
        file, out = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
        file.write_text(lines(9, bad=[2, 5]))
        submitted = ask("submit", file)
        assert submitted.status == 0, submitted.stderr
        id = submitted.stdout.strip()
        assert id.startswith("batch_")
        fetched = ask("fetch", id, "--follow", "--out", out, "--json")
        assert fetched.status == 3, fetched.stderr
        told = json.loads(fetched.stdout)
        assert (told["id"], told["status"], told["results"]) == (id, "completed", str(out))
        found = {one["custom_id"]: one["response"]["status_code"] for one in results(out)}
        assert found == {f"request-{n}": 400 if n in (2, 5) else 200 for n in range(9)}
        shown = ask("status", id, "--follow")
        assert shown.status == 3
        assert "completed  9 of 9 lines, 2 failed" in shown.stdout
        assert id in ask("status").stdout
        assert json.loads(ask("status", "--json").stdout)["data"][0]["id"] == id
        late = ask("cancel", id)
        assert late.status == 1
        assert "cannot be cancelled" in late.stderr
        stranger = ask("status", id, key=KEYS[1])
        assert stranger.status == 1
        assert f"No batch found with id '{id}'" in stranger.stderr

    def test_a_file_that_is_refused(self, ask: Any, tmp_path: Path) -> None:
        file = tmp_path / "requests.jsonl"
        file.write_text(lines(2) + lines(1))
        refused = ask("submit", file, "--follow")
        assert refused.status == 2
        assert "line 3: " in refused.stdout

    def test_who_cannot_be_asked(self, ask: Any, server: Replaying) -> None:
        for arguments, environment, said in (
            (("status",), {"PORTICO_URL": "http://127.0.0.1:9"}, "start one with 'portico serve'"),
            (("status",), {"PORTICO_URL": server.url}, "--api-key"),
            (("status",), {"PORTICO_URL": "no url"}, ""),
            (("fetch", "batch_none"), {"PORTICO_URL": server.url, "PORTICO_API_KEY": KEYS[0]}, "No batch found"),
        ):
            done = portico(*arguments, **environment)
            assert done.status in (1, 2)
            assert said in done.stderr
            assert "Traceback" not in done.stderr
