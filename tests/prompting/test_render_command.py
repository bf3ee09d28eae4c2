"""``portico render``: the prompt in a pipe, as JSON, and coloured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from portico.commands import render
from portico.prompting import load_tokenizer
from support.templates import MODERN


@pytest.fixture
def model(tmp_path: Path) -> Path:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|end|>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text(MODERN, encoding="utf-8")
    return tmp_path


def run(*arguments: str, messages: Any = None) -> Result:
    text = json.dumps(messages if messages is not None else [{"role": "user", "content": "Grüße"}])
    return CliRunner().invoke(render.command, [*arguments, "-"], input=text)


def test_in_a_pipe_the_prompt_is_all(model: Path) -> None:
    result = run("--model", str(model))
    assert result.exit_code == 0, result.output
    assert result.output == "<|user|>\nGrüße<|end|>\n<|assistant|>\n<think>"


def test_as_json(model: Path) -> None:
    described = json.loads(
        run("--model", str(model), "--json", "--set", "enable_thinking=false", "--set", "x=y").output
    )
    assert described["prompt"].endswith("<think>\n</think>\n")
    assert load_tokenizer(model).decode(described["token_ids"], skip_special_tokens=False) == described["prompt"]
    assert described["count"] == len(described["token_ids"]) == len(described["tokens"])
    assert "<|end|>" in described["tokens"]
    assert described["tail"].startswith("<|end|>\n<|assistant|>")
    assert described["passed_over"] == ["x"]


def test_a_whole_request_and_options(model: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text('[{"type": "function", "function": {"name": "f"}}]', encoding="utf-8")
    request = {
        "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
        "chat_template_kwargs": {"enable_thinking": False},
    }
    output = run("--model", str(model), "--tools", str(tools), "--continue", messages=request).output
    assert output == '<tools>{"name": "f"}</tools>\n<|user|>\nQ<|end|>\n<|assistant|>\nA'
    assert run("--model", str(model), "--no-generation-prompt", messages=request).output.endswith("A<|end|>\n")


def test_another_template_or_a_template_alone(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jinja"
    other.write_text("<{{ messages[0].content }}>", encoding="utf-8")
    assert run("--model", str(model), "--chat-template", str(other)).output == "<Grüße>"
    assert run("--model", str(other)).output == "<Grüße>"


def test_on_a_terminal_special_tokens_are_coloured(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    output = run("--model", str(model), "--set", "x=y").output
    assert "\x1b[1;35m<|end|>\x1b[0m" in output
    assert "rüß" in output
    assert "�" not in output
    assert "'x'" in output


@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [([], "{", "is not JSON"), (["--set", "novalue"], "[]", "NAME=VALUE")],
)
def test_what_it_does_not_take(model: Path, arguments: list[str], text: str, words: str) -> None:
    result = CliRunner().invoke(render.command, ["--model", str(model), *arguments, "-"], input=text)
    assert result.exit_code == 2
    assert words in result.output
