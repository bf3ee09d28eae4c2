"""What ``portico serve`` says when it is up."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest

from portico.config import Settings
from portico.prompting import Prompter
from portico.server.line.model import ServedModel
from portico.server.line.offers import Offer, Offers
from portico.server.line.served import Served
from portico.server.process.announcement import announce
from support.generation import tiny_model, tiny_tokenizer


def said(capsys: pytest.CaptureFixture[str], settings: dict[str, Any] | None = None, **facts: Any) -> str:
    model = tiny_model(**facts)
    served = Served(Offers([Offer.standing(ServedModel(model, [model.name], cast(Any, None)))]))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        announce(Settings(model="tiny", **(settings or {})), served, listener, None)
    return capsys.readouterr().out


def test_formats_that_were_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, tool_parser="hermes", reasoning_parser="qwen3")
    assert "tiny  4096 tokens of context, tools: hermes, reasoning: qwen3\n" in text
    assert "--tool-parser" not in text


@pytest.mark.parametrize(
    ("reasoning", "lacking"), [(None, "no tool-call or reasoning format"), ("qwen3", "no tool-call format")]
)
def test_formats_that_were_not(capsys: pytest.CaptureFixture[str], reasoning: str | None, lacking: str) -> None:
    text = said(capsys, reasoning_parser=reasoning)
    line = next(line for line in text.splitlines() if lacking in line)
    assert "--tool-parser NAME" in line
    assert "portico formats" in line


def test_whoever_wants_none_or_has_no_template_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--tool-parser" not in said(capsys, {"tool_parser": "none"})
    assert "--tool-parser" not in said(capsys, prompter=Prompter(tiny_tokenizer()))
    embeds = {"capabilities": frozenset({"embed"}), "prompter": Prompter(tiny_tokenizer()), "embedding_size": 8}
    assert "--tool-parser" not in said(capsys, **embeds)
