"""From a name to a file, and what a file says about itself; the commands that show it."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
from click.testing import CliRunner

from portico.commands import models as models_command
from portico.commands import pull as pull_command
from portico.errors import ModelNotFoundError
from portico.models import CATALOGUE, ensure, facts, installed, resolve
from portico.models.gguf import GGUFError
from support.tiny_wheel import tiny_gguf, tiny_model


@pytest.fixture(autouse=True)
def no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.scan_cache_dir", _no_cache)


def _no_cache() -> None:
    from huggingface_hub.errors import CacheNotFound

    raise CacheNotFound("none", "none")


@pytest.fixture
def tiny(index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of one model, not pulled yet; where it will lie."""
    for name in list(CATALOGUE):
        monkeypatch.delitem(CATALOGUE, name)
    monkeypatch.setitem(CATALOGUE, "tiny", tiny_model(index))
    return cache / "tiny" / "tiny.gguf"


def test_a_path_is_served_under_its_stem(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "My-Model.Q8_0.gguf")
    model = resolve(str(path))
    assert (model.name, model.path, model.kind, model.tokenizer_path) == ("My-Model.Q8_0", path, "chat", None)
    assert ensure(str(path)) == path


def test_a_name_that_is_nothing_says_what_would_be_something(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no model 'gpt-9'.*hf:org/repo/file\.gguf.*smollm2"):
        resolve("gpt-9")
    with pytest.raises(ModelNotFoundError):
        resolve(str(tmp_path))


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "x.gguf"
    foreign.write_bytes(b"PK\x03\x04 this is a zip file")
    with pytest.raises(GGUFError, match="not a GGUF file"):
        resolve(str(foreign))


def test_facts(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "a.gguf")
    said = facts(path)
    assert (said.kind, said.architecture, said.context_length, said.quantisation) == ("chat", "llama", 77, "Q8_0")
    assert said.size == path.stat().st_size


@pytest.mark.parametrize("pooling", list(gguf.PoolingType))
def test_a_model_that_pools_is_an_embedding_model(tmp_path: Path, pooling: gguf.PoolingType) -> None:
    path = tiny_gguf(tmp_path / "a.gguf", architecture="qwen3", pooling=pooling)
    assert facts(path).kind == ("chat" if pooling == gguf.PoolingType.NONE else "embedding")


def test_smollm2(smollm2_path: Path) -> None:
    model = resolve("smollm2")
    assert (model.name, model.kind, model.path) == ("smollm2", "chat", smollm2_path)
    assert (facts(smollm2_path).quantisation, facts(smollm2_path).context_length) == ("Q4_1", 8192)


def test_minilm(minilm_path: Path) -> None:
    model = resolve("minilm")
    assert (model.name, model.kind, model.path) == ("minilm", "embedding", minilm_path)
    assert model.tokenizer_path == minilm_path.with_name("tokenizer.json")


def test_installed_is_what_was_pulled(tiny: Path) -> None:
    assert installed() == []
    resolve("tiny")
    assert [(model.spec, model.path, model.facts.kind) for model in installed()] == [("tiny", tiny, "chat")]
    tiny.write_bytes(b"damaged")
    assert installed() == []


def test_commands_for_scripts(tiny: Path) -> None:
    run = CliRunner().invoke
    before = json.loads(run(models_command.command, ["--json"]).stdout)
    assert (before["installed"], [model["name"] for model in before["available"]]) == ([], ["tiny"])
    pulled = json.loads(run(pull_command.command, ["tiny", "--json"]).stdout)
    assert pulled == {"name": "tiny", "kind": "chat", "path": str(tiny)}
    after = json.loads(run(models_command.command, ["--json"]).stdout)
    assert after["available"] == []
    assert after["installed"][0]["context_length"] == 77


def test_commands_for_people(tiny: Path) -> None:
    run = CliRunner().invoke
    assert "To be pulled" in run(models_command.command, []).stdout
    pulled = run(pull_command.command, ["tiny"])
    assert pulled.stderr.splitlines()[0].startswith("tiny: fetching (")
    assert "tiny is here:" in pulled.stdout
    assert "llama Q8_0" in run(models_command.command, []).stdout
    assert run(pull_command.command, ["tiny"]).stderr == ""
