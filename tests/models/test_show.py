"""``portico show`` and ``portico rm``: what is known of a model, and what is not theirs to delete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from portico.commands import rm, show
from portico.errors import BadRequestError, ModelNotFoundError
from support import tiny_models


def test_a_file(tmp_path: Path) -> None:
    path = tiny_models.write("llama", tmp_path / "tiny.gguf")
    told = json.loads(CliRunner().invoke(show.command, [str(path), "--json"], catch_exceptions=False).output)
    assert (told["name"], told["kind"], told["architecture"]) == ("tiny", "chat", "llama")
    assert (told["context_length"], told["vocabulary"]) == (tiny_models.CONTEXT, tiny_models.VOCABULARY)
    assert (told["size"], told["chat_template"]) == (path.stat().st_size, None)
    shown = CliRunner().invoke(show.command, [str(path)], catch_exceptions=False).output
    assert "llama" in shown
    with pytest.raises(ModelNotFoundError, match="no chat template"):
        CliRunner().invoke(show.command, [str(path), "--template"], catch_exceptions=False)
    with pytest.raises(BadRequestError, match="your own"):
        CliRunner().invoke(rm.command, [str(path), "--yes"], catch_exceptions=False)
    assert path.exists()


def test_what_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_CACHE", str(tmp_path))
    with pytest.raises(ModelNotFoundError, match="portico pull smollm2"):
        CliRunner().invoke(show.command, ["smollm2"], catch_exceptions=False)
    with pytest.raises(ModelNotFoundError, match="'portico models' lists what is"):
        CliRunner().invoke(rm.command, ["smollm2", "--yes"], catch_exceptions=False)
