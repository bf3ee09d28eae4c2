"""Several models in one server, as a client and an operator meet them."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from portico.config import load_settings
from portico.errors import BadRequestError
from support import tiny_models
from support.server import RunningServer, running_server
from support.wait import SAFETY, until

CONFIG = """
max_loaded = 1
api_key = ["operator"]
keys_file = "{directory}/keys.toml"

[[models]]
model = "{directory}/tiny.gguf"
engine = "replay:{directory}/one.jsonl"
served_model_name = ["one", "uno"]
chat_template = "{directory}/template.jinja"
sampling = {{ temperature = 0.25, max_tokens = 77 }}
max_choices = 2

[[models]]
model = "{directory}/tiny.gguf"
engine = "replay:{directory}/two.jsonl"
served_model_name = "{second}"
load = "demand"
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    tiny_models.write("llama", directory / "tiny.gguf")
    (directory / "template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    for name in ("one", "two"):
        (directory / f"{name}.jsonl").write_text(json.dumps({"token_ids": [20, 21, 22]}) + "\n")
    (directory / "keys.toml").write_text(named("guest") + named("keeper") + "operator = true\n")
    return directory


def named(name: str) -> str:
    """A key of that name and secret, which may use one model."""
    hashed = hashlib.sha256(name.encode()).hexdigest()
    return f'[[keys]]\nname = "{name}"\nhash = "sha256:{hashed}"\nmodels = ["two"]\n'


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[RunningServer]:
    config = directory / "portico.toml"
    config.write_text(CONFIG.format(directory=directory, second="two"))
    with running_server("--config", config, "--grpc-port", "0") as server:
        yield server


def ask(
    server: RunningServer, path: str, *, key: str = "operator", method: str = "POST", **body: Any
) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    more = {"json": body} if body else {}
    return httpx.request(method, server.url + path, headers=headers, timeout=SAFETY, **more)


def states(server: RunningServer) -> dict[str, str]:
    return {one["id"]: one["state"] for one in ask(server, "/v1/models", method="GET").json()["data"]}


def test_models_by_name(server: RunningServer) -> None:
    assert states(server) == {"one": "loaded", "uno": "loaded", "two": "unloaded"}
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    assert ask(server, "/v1/chat/completions", model="uno", **chat).json()["model"] == "uno"
    assert ask(server, "/v1/completions", model="two", prompt="Hi").json()["model"] == "two"
    assert states(server) == {"one": "unloaded", "uno": "unloaded", "two": "loaded"}  # one at a time
    assert ask(server, "/v1/responses", model="one", input="Hi").json()["temperature"] == 0.25
    rendered = ask(server, "/v1/chat/completions/render", model="one", **chat).json()
    assert rendered["sampling_params"]["temperature"] == 0.25
    assert rendered["sampling_params"]["max_tokens"] == 77
    assert ask(server, "/v1/chat/completions", model="one", n=3, **chat).status_code == 400
    assert ask(server, "/v1/messages", model="one", max_tokens=5, **chat).json()["model"] == "one"
    assert ask(server, "/tokenize", model="two", prompt="Hi").json()["count"] > 0


def test_unknown_models_in_every_api_s_words(server: RunningServer) -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    for path, body in {
        "/v1/chat/completions": chat,
        "/v1/completions": {"prompt": "Hi"},
        "/v1/responses": {"input": "Hi"},
        "/v1/embeddings": {"input": "Hi"},
        "/v1/score": {"text_1": "Hi", "text_2": "Ho"},
        "/v1/rerank": {"query": "Hi", "documents": ["Ho"]},
        "/v1/decisions": {"input": "Hi", "questions": [{"type": "predicate", "instructions": "It is."}]},
        "/tokenize": {"prompt": "Hi"},
        "/v1/messages": {**chat, "max_tokens": 5},
        "/v1/messages/count_tokens": chat,
        "/v1/models/three/load": {},
        "/v1/models/three/unload": {},
    }.items():
        told = ask(server, path, **({"model": "three"} | body if body else {}))
        assert told.status_code == 404, (path, told.text)
        kind = "not_found_error"
        assert told.json()["error"]["type"] == kind
        assert "one, uno, two" in told.json()["error"]["message"]


def test_a_key_s_models(server: RunningServer) -> None:
    assert [one["id"] for one in ask(server, "/v1/models", key="guest", method="GET").json()["data"]] == ["two"]
    assert ask(server, "/v1/completions", key="guest", model="one", prompt="Hi").status_code == 403
    assert ask(server, "/v1/completions", key="guest", prompt="Hi").json()["model"] == "two"  # its first
    for path in ("/v1/models/two/load", "/v1/models/two/unload"):
        told = ask(server, path, key="guest")
        assert (told.status_code, "--operator" in told.text) == (403, True), path
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
        assert ask(server, path, key="guest", lora_name="a", lora_path="a").status_code == 403
    assert ask(server, "/v1/models/one/unload", key="keeper").status_code == 403
    assert ask(server, "/v1/models/two/unload", key="keeper").json()["state"] == "unloaded"


def test_loading_and_unloading(server: RunningServer) -> None:
    assert ask(server, "/v1/models/one/load").json()["state"] == "loaded"
    assert ask(server, "/v1/models/two/load").json()["state"] == "loaded"
    assert states(server) == {"one": "unloaded", "uno": "unloaded", "two": "loaded"}
    assert ask(server, "/v1/models/two/unload").json()["state"] == "unloaded"
    assert ask(server, "/v1/models/two/unload").json()["state"] == "unloaded"
    assert ask(server, "/health", method="GET").status_code == 200  # no model is no illness
    metrics = ask(server, "/metrics", method="GET").text
    assert 'portico_model_loaded{model="two"} 0.0' in metrics


def test_commands(server: RunningServer) -> None:
    def portico(*arguments: str) -> str:
        command = [sys.executable, "-m", "portico", *arguments, "--url", server.url, "--api-key", "operator"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    ask(server, "/v1/models/one/load")
    listed = json.loads(portico("ps", "--json"))["models"]
    assert [(one["name"], one["names"], one["state"]) for one in listed] == [("one", ["one", "uno"], "loaded")]
    assert json.loads(portico("stop", "uno", "--json"))["state"] == "unloaded"
    assert "No model is loaded" in portico("ps")
    assert "two" in portico("ps", "--all")


def test_other_models_without_a_restart(server: RunningServer, directory: Path) -> None:
    """Last: the server has others afterwards."""
    config = directory / "portico.toml"
    config.write_text(CONFIG.format(directory=directory, second="three"))
    server.process.send_signal(signal.SIGHUP)
    until(lambda: set(states(server)) == {"one", "uno", "three"})
    assert ask(server, "/v1/completions", model="three", prompt="Hi").json()["model"] == "three"
    assert ask(server, "/v1/completions", model="two", prompt="Hi").status_code == 404
    assert "1 models more, 1 less" in server.log()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"models": [{}]}, "names no 'model'"),
        ({"models": [{"model": "a"}], "model": "b"}, "exclude each other"),
        ({"models": [{"engine": "grpc://x:1"}]}, "served_model_name"),
        ({"models": [{"model": "a", "modle": "b"}]}, r"no setting 'models\.0\.modle', .*did you mean model\?"),
        ({"models": [{"model": "a", "sampling": {"heat": 1}}]}, r"no setting 'models\.0\.sampling\.heat'"),
        ({"workers": 2, "max_loaded": 1}, "with --workers every model is loaded at start"),
        ({"workers": 2, "models": [{"model": "a", "load": "demand"}]}, "with --workers every model"),
    ],
    ids=str,
)
def test_what_does_not_fit_together(given: dict[str, Any], told: str) -> None:
    with pytest.raises((ValueError, BadRequestError), match=told):
        load_settings(given)
