"""``portico trace`` and ``portico replay`` against a server that records."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from click.testing import CliRunner

from portico import cli
from support.replay import Replaying, replaying
from support.trace import ANSWERS, CHAT, WEATHER, asking
from support.wait import SAFETY


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying(ANSWERS, inspect=True, tool_parser="hermes", reasoning_parser="qwen3") as up:
        yield up


def portico(
    *arguments: str, url: str = "", key: str = "", input: str | None = None
) -> subprocess.CompletedProcess[str]:
    """``portico ARGUMENTS``, within this process."""
    environment = {"COLUMNS": "160", "NO_COLOR": "1", "PORTICO_URL": url or None, "PORTICO_API_KEY": key or None}
    status: Any = 0
    with (
        CliRunner().isolation(input, environment) as (output, errors, _),
        patch.object(sys, "argv", ["portico", *arguments]),
        patch.object(cli, "write_plainly"),
    ):
        try:
            cli.main()
        except SystemExit as end:
            status = end.code
    return subprocess.CompletedProcess(arguments, status or 0, output.getvalue().decode(), errors.getvalue().decode())


def ask(server: Replaying, name: str, **more: Any) -> str:
    """The id of the request's trace."""
    response = httpx.post(server.url + CHAT, json=asking(name, **more), timeout=120)
    return response.headers["x-portico-trace-id"]


class TestTrace:
    def test_the_last_requests(self, server: Replaying) -> None:
        good, bad = ask(server, "plain"), ask(server, "plain", temperature="hot")
        lines = portico("trace", url=server.url).stdout.splitlines()
        assert lines[0].split()[:3] == ["trace", "at", "request"]
        assert re.search(rf"^{bad} +[\d:]+ +POST {CHAT} .*refused 400 .*protocols: invalid_type", lines[1])
        assert re.search(rf"^{good} .*tiny +ok 200 .* stop", lines[2])
        found = json.loads(portico("trace", "--json", url=server.url).stdout)
        assert [one["id"] for one in found["traces"][:2]] == [bad, good]

    def test_one_request(self, server: Replaying) -> None:
        id = ask(server, "alarm", stream=True, tools=[WEATHER])
        result = portico("trace", id, "--url", server.url + "/v1")
        assert result.returncode == 0, result.stderr
        head, facts, first, titles, *rows = result.stdout.splitlines()
        assert head.startswith(f"{id}  POST {CHAT}  tiny  ok 200")
        assert re.search(r"\d+ prompt tokens · \d+ completion tokens · finish stop", facts)
        names = r"read [\d.]+, validate [\d.]+, template [\d.]+, tokenize [\d.]+, constrain [\d.]+, check [\d.]+, "
        assert re.fullmatch(rf"  first token after [\d.]+ ms: {names}admit [\d.]+, engine [\d.]+", first)
        assert titles.split() == ["#", "+ms", "took", "ms", "lane", "kind", "by", "what", "made", "from"]
        table = "\n".join(rows)
        assert re.search(r"0 +0\.0 +[\d.]+ +request +http_request +translation +POST", table)
        assert re.search(r'tokens +step +inference +3 tokens +"L" \d+ +"o" \d+ +"o" \d+ +\d', table)
        assert re.search(r"held +translation +held: .*may be the beginning of <tool_call>", table)
        assert re.search(r"events +event +translation +Finish: stop", table)
        artifacts = json.loads(portico("trace", id, "--json", url=server.url).stdout)["artifacts"]
        assert sum(
            bool(re.match(r" *\d+ +[\d.]+ +[\d.]+ +(request|prompt|tokens|text|events|wire) ", row)) for row in rows
        ) == len(artifacts)

    def test_an_error_says_which_layer(self, server: Replaying) -> None:
        shown = portico("trace", ask(server, "plain", temperature="hot"), url=server.url).stdout
        assert "✗ refused by protocols: 400 invalid_type (param: temperature)" in shown
        assert "Invalid 'temperature'" in shown
        assert "✗ failed in engines: 500 engine_error" in portico("trace", ask(server, "fails"), url=server.url).stdout

    def test_where_an_artifact_came_from(self, server: Replaying) -> None:
        id = ask(server, "plain", stream=True)
        artifacts = json.loads(portico("trace", id, "--json", url=server.url).stdout)["artifacts"]
        chunk = next(one["id"] for one in artifacts if one["kind"] == "chunk" and "🦜" in one["data"]["bytes"])
        rows = portico("trace", id, "--artifact", str(chunk), url=server.url).stdout
        kinds = re.findall(r"^ *\d+ +(\w+) +(\w+)", rows, re.M)
        assert kinds[0] == ("wire", "chunk")
        assert kinds[-1] == ("request", "http_request")
        made = {kind for _, kind in kinds}
        assert {"frame", "event", "text", "held", "step", "submitted", "prompt_tokens", "prompt"} <= made
        tokens = re.findall(r'"�" \d+', rows)
        assert len(tokens) >= 4  # one token per byte of the parrot
        chain = json.loads(portico("trace", id, "--artifact", str(chunk), "--json", url=server.url).stdout)
        assert [one["kind"] for one in chain] == [kind for _, kind in kinds]
        wrong = portico("trace", id, "--artifact", "9999", url=server.url)
        assert (wrong.returncode, "artifacts 0 to" in wrong.stderr) == (2, True)

    def test_following(self, server: Replaying, tmp_path: Path) -> None:
        output = tmp_path / "followed"
        environment = {**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "portico", "trace", "--follow", "--url", server.url]
        with output.open("wb") as file:
            following = subprocess.Popen(command, stdout=file, env=environment)
        try:
            deadline, good, bad = time.monotonic() + SAFETY, "none", "none"
            while not (good in (text := output.read_text()) and bad in text) and time.monotonic() < deadline:
                good, bad = ask(server, "plain"), ask(server, "plain", temperature="hot")
                time.sleep(0.3)
        finally:
            following.terminate()
            following.wait(120)
        text = output.read_text()
        assert re.search(
            rf"^[\d:]+ {good} ok 200 {CHAT} tiny [\d.]+ ms, first token [\d.]+ ms, \d+\+\d+ tokens$", text, re.M
        )
        assert re.search(rf"^[\d:]+ {bad} refused 400 .*protocols: Invalid 'temperature'", text, re.M)

    def test_following_one(self) -> None:
        with replaying(ANSWERS, inspect=True, interval=0.02) as slow:
            asking_now = threading.Thread(target=ask, args=(slow, "plain"), kwargs={"stream": True})
            asking_now.start()
            while not (traces := httpx.get(slow.url + "/inspect/traces").json()["traces"]):
                time.sleep(0.01)
            result = portico("trace", traces[0]["id"], "--follow", url=slow.url)
            asking_now.join()
        lines = result.stdout.splitlines()
        assert re.match(r" +0\.0 ms  #0 +request +http_request +POST", lines[0])
        assert any(
            re.search(r"held +held: .*a character that is not complete.*\(over after [\d.]+ ms\)", one) for one in lines
        )
        assert any("first token after" in one for one in lines[-3:])

    def test_what_to_do(self, server: Replaying) -> None:
        def told(*arguments: str, **options: Any) -> str:
            result = portico("trace", *arguments, **options)
            assert result.returncode == 1
            assert len(result.stderr.splitlines()) == 1
            return result.stderr

        assert "start one with 'portico serve --inspect'" in told(url="http://127.0.0.1:9")
        assert "'portico trace' lists" in told("tr_gone", url=server.url)
        with replaying(ANSWERS) as plain:
            assert "start it with 'portico serve --inspect'" in told(url=plain.url)
            assert "start it with 'portico serve --inspect'" in told("tr_x", url=plain.url)
        with replaying(ANSWERS, inspect=True, keys=["a key"]) as keyed:
            assert "give --api-key" in told(url=keyed.url)
            assert "give --api-key" in told("--follow", url=keyed.url)
            assert portico("trace", url=keyed.url, key="a key").returncode == 0
            assert portico("trace", "--api-key", "a key", url=keyed.url).returncode == 0
        assert portico("trace", "--export", "x.json", url=server.url).returncode == 2


class TestReplay:
    @pytest.fixture
    def exported(self, server: Replaying, tmp_path: Path) -> Path:
        file = tmp_path / "bug.json"
        result = portico(
            "trace", ask(server, "call", stream=True, tools=[WEATHER]), "--export", str(file), url=server.url
        )
        assert "portico replay" in result.stderr
        return file

    def test_nothing_has_changed(self, exported: Path) -> None:
        result = portico("replay", str(exported))
        assert (result.returncode, result.stderr) == (0, "")
        assert "the prompt's tokens are taken as recorded" in result.stdout
        assert re.search(r"events +\d+ as recorded", result.stdout)
        assert result.stdout.splitlines()[-1] == "Nothing has changed."
        through = portico("replay", "-", "--json", input=exported.read_text())
        assert json.loads(through.stdout)["identical"] is True

    def test_the_first_difference(self, exported: Path) -> None:
        recorded = json.loads(exported.read_text())
        event = next(one for one in recorded["artifacts"] if one["data"].get("type") == "CallArguments")
        event["data"]["json_fragment"] += "!"
        exported.write_text(json.dumps(recorded))
        result = portico("replay", str(exported))
        assert result.returncode == 1
        assert re.search(r"^First difference: events of choice 0, after step \d+$", result.stdout, re.M)
        assert re.search(rf"recorded  #{event['id']} CallArguments, after step \d+: .*!", result.stdout)
        found = json.loads(portico("replay", str(exported), "--json").stdout)
        assert (found["identical"], found["layer"]) == (False, "events")
        assert found["recorded"]["artifact"]["id"] == event["id"]
        assert found["recorded"]["value"]["json_fragment"] == found["now"]["value"]["json_fragment"] + "!"

    def test_another_parser(self, exported: Path) -> None:
        assert portico("replay", str(exported), "--tool-parser", "none").returncode == 1
        assert portico("replay", str(exported), "--tool-parser", "hermes").returncode == 0
        unknown = portico("replay", str(exported), "--tool-parser", "nobodys")
        assert (unknown.returncode, "--parser-plugin" in unknown.stderr) == (2, True)

    def test_another_tokenizer(self, exported: Path, smollm2_path: Path) -> None:
        """It is used where it is asked for, and said to be another."""
        result = portico("replay", str(exported), "--model", str(smollm2_path))
        assert result.returncode == 1
        assert "is not the recorded one" in result.stdout
        assert "First difference: prompt" in result.stdout

    def test_what_cannot_be_replayed(self, exported: Path, tmp_path: Path) -> None:
        recorded = json.loads(exported.read_text())
        recorded["trace"]["redacted"] = True
        redacted = tmp_path / "redacted.json"
        redacted.write_text(json.dumps(recorded))
        (tmp_path / "other.json").write_text("[]")
        for file, why in ((redacted, "redacted"), (tmp_path / "other.json", "no exported trace")):
            result = portico("replay", str(file))
            assert result.returncode == 2
            assert why in result.stderr
            assert len(result.stderr.splitlines()) == 1
        assert portico("replay", str(tmp_path / "none.json")).returncode == 2
        absent = portico("replay", str(exported), "--model", "hf:nobody/nothing/x.gguf")
        assert (absent.returncode, "--pull" in absent.stderr) == (2, True)
