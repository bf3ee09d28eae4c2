"""``portico detokenize``: ids from arguments or standard input, text out, or each step shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from portico.commands.detokenize import command
from portico.prompting.tokenizers import load_tokenizer
from support.tokenizers import byte_level

TEXT = "Hi \U0001f680!\n"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return byte_level(tmp_path_factory.mktemp("command") / "byte_level")


def run(path: Path, *arguments: str, text: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(command, ["--tokenizer", str(path), *arguments], input=text)
    return result.exit_code, result.output


def test_ids_from_arguments_and_standard_input(path: Path) -> None:
    ids = load_tokenizer(path).encode(TEXT)
    assert run(path, *map(str, ids)) == (0, TEXT)
    assert run(path, text=" ".join(map(str, ids))) == (0, TEXT)
    assert run(path, text=f"{ids}\n") == (0, TEXT)  # a JSON list


def test_special_tokens(path: Path) -> None:
    assert run(path, "0", "1") == (0, "")
    assert run(path, "--special", "0", "1") == (0, "<s></s>")


def test_show_says_what_is_held(path: Path) -> None:
    tokenizer = load_tokenizer(path)
    single = {tokenizer.token_bytes(i): i for i in range(tokenizer.vocab_size)}
    ids = [single[bytes([byte])] for byte in "\U0001f680".encode()]
    code, output = run(path, "--show", *map(str, ids[:2]))
    assert code == 0
    assert "f0 9f" in output
    (end,) = [line for line in output.splitlines() if " end " in line]
    assert "\ufffd" in end  # what is left of the character
    code, output = run(path, "--show", *map(str, ids))
    assert "\U0001f680" in output
    told = json.loads(run(path, "--json", *map(str, ids))[1])
    assert told["text"] == "\U0001f680"
    assert [token["held"] for token in told["tokens"]] == ["f0", "f09f", "f09f9a", ""]


@pytest.mark.parametrize("bad", ["x", "1.5", "99999999"])
def test_bad_ids_are_named(path: Path, bad: str) -> None:
    code, output = run(path, bad)
    assert code == 2
    assert bad in output
