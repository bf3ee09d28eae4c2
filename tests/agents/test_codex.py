"""The real Codex on a task of several turns, over a model that plays a script, set up as its users set it up.

As with Claude Code: an empty home, no telemetry or updates, nothing but this machine within reach, and each answer of
the model chosen by the last ``[[name]]`` in its prompt.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from portico.errors import PorticoError
from portico.events import EngineRequest
from portico.server.http.exchange import Exchange
from portico.server.routes.responses.socket import LANE
from support.agents import call, run_agent
from support.generation import tiny_vocabulary
from support.js import installed
from support.replay import TEMPLATE, Replaying, replaying
from support.templates import STRICT
from support.vocabulary import Model

pytestmark = pytest.mark.agents

TASK = "[[begin]] Read notes.txt, correct it as it says, and copy it to copy.txt."
OLD, NEW = "Grüße an die Welt", "Grüße an 世界 🗼"
PATCH = f"""*** Begin Patch
*** Update File: notes.txt
@@
 [[seen]]
-{OLD}
+{NEW} [[edited]]
*** End Patch"""
SCRIPT = {
    "begin": f"<think>\nFirst I look.\n</think>\n\nI read it.\n{call('exec_command', cmd='cat notes.txt')}",
    "seen": "<think>\nOne line.\n</think>\n\n" + call("apply_patch", input=PATCH),
    "edited": call("exec_command", cmd="cp notes.txt copy.txt && echo '[[copied]]'"),
    "copied": "The notes are corrected and copied. 🎉",
    "again": "They say what they should.",
}
HERMES = {"tool_parser": "hermes", "reasoning_parser": "qwen3", "patterns": ["*"]}
# The catalogue is only asked for where the key comes from a command.
CONFIG = """
model = "tiny"
model_provider = "portico"
check_for_update_on_startup = false
web_search = "disabled"

[analytics]
enabled = false

[model_providers.portico]
name = "Portico"
base_url = "{url}/v1"
wire_api = "responses"
supports_websockets = {sockets}

[model_providers.portico.auth]
command = "printenv"
args = ["PORTICO_KEY"]
"""


@pytest.fixture(scope="module")
def codex() -> str:
    """The agent's program, which a package for this kind of machine holds."""
    programs = (installed(Path(__file__).parent, "Codex") / "@openai").glob("codex-*/vendor/*/bin/codex*")
    program = next((one for one in programs if one.is_file() and os.access(one, os.X_OK)), None)
    if program is None:
        pytest.skip("there is no Codex for this kind of machine")
    return str(program)


class Agent:
    """Codex in a home and a directory of its own."""

    def __init__(self, program: str, url: str, place: Path, *, sockets: bool = False) -> None:
        self._program = program
        self._home = place / "home"
        self.directory = place / "work"
        self.directory.mkdir()
        (self.directory / "notes.txt").write_text(f"[[seen]]\n{OLD}\n")
        (self._home / ".codex").mkdir(parents=True)
        (self._home / ".codex" / "config.toml").write_text(CONFIG.format(url=url, sockets=json.dumps(sockets)))

    def run(self, *arguments: str, code: int = 0) -> str:
        done = run_agent([self._program, *arguments], self.directory, self._home, PORTICO_KEY="none")
        assert done.returncode == code, (done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout

    def task(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        """Its own report, event by event."""
        free = ("--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
        told = self.run("exec", *arguments[:-1], *free, arguments[-1], code=code)
        return [json.loads(line) for line in told.splitlines() if line.startswith("{")]

    def catalogue(self) -> list[Mapping[str, Any]]:
        """The models as it has read them."""
        models: list[Mapping[str, Any]] = json.loads(self.run("debug", "models"))["models"]
        return models


class Heard:
    """By which way each request for a response came. None may be refused."""

    def __init__(self) -> None:
        self.ways: list[str] = []

    def begun(self, exchange: Exchange) -> None:
        if exchange.path == "/v1/responses" and exchange.method == "POST":
            self.ways.append("websocket" if LANE in exchange.scope else "sse")

    def refused(self, exchange: Exchange, error: PorticoError, raised: BaseException) -> None:
        self.ways.append(f"refused: {error.message}")

    def ended(self, exchange: Exchange, outcome: Any, cause: str) -> None: ...


@pytest.mark.parametrize("template", [TEMPLATE, STRICT], ids=["every role", "one system message, strict turns"])
@pytest.mark.parametrize("transport", ["sse", "websocket"])
def test_a_task_of_several_turns(codex: str, template: str, transport: str, tmp_path: Path) -> None:
    heard = Heard()
    with replaying(SCRIPT, template=template, observers=[heard], **HERMES) as up:
        agent = Agent(codex, up.url, tmp_path, sockets=transport == "websocket")
        events = agent.task(TASK)
        for name in ("notes.txt", "copy.txt"):
            assert (agent.directory / name).read_text() == f"[[seen]]\n{NEW} [[edited]]\n"
        items = [event["item"] for event in events if event["type"] == "item.completed"]
        assert [item["type"] for item in items] == [
            *("reasoning", "agent_message", "command_execution"),
            *("reasoning", "file_change"),
            *("command_execution", "agent_message"),
        ]
        assert items[-1]["text"] == SCRIPT["copied"]
        assert events[-1]["type"] == "turn.completed"
        agent.task("resume", "--last", "[[again]] What do they say?")  # what was said comes back from its own files
        _each_begins_with_the_last(up, template)
        _patches_are_held_to_its_grammar(up.requests[-1])
    assert set(heard.ways) == {transport}


def _each_begins_with_the_last(up: Replaying, template: str) -> None:
    """Whatever is added, nothing before it changes: the engine reads each prompt from where it stopped."""
    turns = [prompt for prompt in up.prompts if TASK in prompt]
    assert len(turns) == 5
    assert all(after.startswith(before) for before, after in pairwise(turns))
    if template is TEMPLATE:
        assert "<think>First I look.</think>" in turns[-1]


def _patches_are_held_to_its_grammar(request: EngineRequest) -> None:
    """What the model may say of a patch, next to everything else, is what Codex can read."""
    assert request.constraint is not None
    lark, writer = request.constraint.lark, Model(tiny_vocabulary())
    empty_lines = PATCH.replace("@@", "@@\n \n-\n+")
    for answer in (SCRIPT["begin"], SCRIPT["seen"], SCRIPT["copied"], call("apply_patch", input=empty_lines)):
        assert writer.accepts(lark, answer)
    for wrong in ("*** Begin Patch\n*** End Patch", PATCH.replace("-", "~"), f"```\n{PATCH}\n```"):
        assert not writer.accepts(lark, call("apply_patch", input=wrong))


def test_the_catalogue_as_it_is_read(codex: str, tmp_path: Path) -> None:
    """Codex takes our entries whole, with what they say."""
    with replaying(
        SCRIPT, names=("tiny", "small"), context_length=24_000, capabilities=frozenset({"generate", "vision"}), **HERMES
    ) as up:
        read = {model["slug"]: model for model in Agent(codex, up.url, tmp_path).catalogue()}
    for name in ("tiny", "small"):
        assert read[name]["context_window"] == 24_000
        assert read[name]["apply_patch_tool_type"] == "freeform"
        assert read[name]["input_modalities"] == ["text", "image"]
        assert read[name]["truncation_policy"] == {"mode": "tokens", "limit": 3000}
        assert [level["effort"] for level in read[name]["supported_reasoning_levels"]] == ["none", "medium"]
        assert read[name]["default_reasoning_level"] == "medium"


def test_a_conversation_that_has_become_too_long(codex: str, tmp_path: Path) -> None:
    """It reads why it was refused, and does not try the same again."""
    with replaying(SCRIPT, context_length=2000, **HERMES) as up:
        events = Agent(codex, up.url, tmp_path).task(TASK, code=1)
        assert events[-1]["type"] == "turn.failed"
        assert "context window" in events[-1]["error"]["message"]
        assert up.prompts == []
