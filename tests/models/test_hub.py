"""Models on a hub: what their addresses mean, and the hub's own library against a hub on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from portico.errors import ModelNotFoundError
from portico.models.hub import HubFile, parse
from support.tiny_wheel import tiny_gguf

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("spec", "file", "name"),
    [
        ("hf:org/repo/model-Q4.gguf", HubFile("org/repo", "model-Q4.gguf"), "model-Q4"),
        ("hf:org/re.po@v1.0/a/b.gguf", HubFile("org/re.po", "a/b.gguf", "v1.0"), "b"),
        ("hf:o/r/q8/m-00001-of-00003.gguf", HubFile("o/r", "q8/m-00001-of-00003.gguf"), "m"),
    ],
)
def test_addresses(spec: str, file: HubFile, name: str) -> None:
    assert parse(spec) == file
    assert file.name == name
    assert file.spec == spec


@pytest.mark.parametrize(
    "spec", ["hf:org/repo", "hf:org/repo/", "hf:repo.gguf", "hf:org/repo/x.bin", "hf:a/b/../c.gguf", "hf:a b/c/d.gguf"]
)
def test_what_is_no_address(spec: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"not of the form hf:org/repo/file\.gguf"):
        parse(spec)


def test_all_parts_of_a_split_model() -> None:
    assert parse("hf:o/r/q8/m-00001-of-00002.gguf").parts == ["q8/m-00001-of-00002.gguf", "q8/m-00002-of-00002.gguf"]


class Hub(BaseHTTPRequestHandler):
    """The answers that fetching a file needs: its metadata and its bytes; and what files there are."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        repository, _, path = self.path.partition("/resolve/main/")
        data = self.files.get(path) if repository == "/org/repo" else None
        if self.path.partition("?")[0] == "/api/models/org/repo":
            repository = "/org/repo"
            siblings = [{"rfilename": name, "size": len(content)} for name, content in self.files.items()]
            data = json.dumps({"id": "org/repo", "sha": COMMIT, "siblings": siblings}).encode()
        if data is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if repository == "/org/repo" else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """The address of a hub that has one plain and one split model in ``org/repo``."""
    small = tiny_gguf(tmp_path / "small.gguf").read_bytes()
    Hub.files = {"small.gguf": small, "big-00001-of-00002.gguf": small, "big-00002-of-00002.gguf": b"the rest"}
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


SCRIPT = """
import json, sys
from portico import models
from portico.errors import PorticoError
out, steps = [], []
for spec in sys.argv[1:]:
    try:
        model = models.resolve(spec, lambda *step: steps.append(step))
        out.append([model.name, str(model.path), model.kind])
    except PorticoError as error:
        out.append([type(error).__name__, error.message])
print(json.dumps({"models": out, "steps": steps, "installed": [model.spec for model in models.installed()]}))
"""


def environment_of(tmp_path: Path, endpoint: str, offline: bool = False) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "PORTICO_CACHE": str(tmp_path / "cache"),
    }


def resolve_with(tmp_path: Path, endpoint: str, *specs: str, offline: bool = False) -> dict[str, list[list[str]]]:
    """Resolve in a process of its own: the hub's library reads its environment once, when it is imported."""
    child = subprocess.run(
        [sys.executable, "-c", SCRIPT, *specs],
        capture_output=True,
        text=True,
        env=environment_of(tmp_path, endpoint, offline),
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    result: dict[str, list[list[str]]] = json.loads(child.stdout)
    return result


def test_fetched_once_then_offline(hub: str, tmp_path: Path) -> None:
    first = resolve_with(tmp_path, hub, "hf:org/repo/small.gguf", "hf:org/repo/big-00001-of-00002.gguf")
    (small, small_path, kind), (big, big_path, _) = first["models"]
    assert (small, big, kind) == ("small", "big", "chat")
    assert Path(small_path).read_bytes() == Hub.files["small.gguf"]
    assert Path(big_path).with_name("big-00002-of-00002.gguf").read_bytes() == b"the rest"
    size = len(Hub.files["small.gguf"])
    assert ["fetching", size, size] in first["steps"]
    assert first["installed"] == ["hf:org/repo/big-00001-of-00002.gguf", "hf:org/repo/small.gguf"]
    again = resolve_with(tmp_path, hub, "hf:org/repo/small.gguf", offline=True)
    assert again["models"] == [first["models"][0]]
    assert again["steps"] == []


def test_a_quantisation_is_chosen_kept_and_deleted(hub: str, tmp_path: Path) -> None:
    for name in ("tiny-Q8_0.gguf", "tiny-Q4_K_M.gguf", "F16/tiny-F16.gguf"):
        Hub.files[name] = Hub.files["small.gguf"] + name.encode()
    found = resolve_with(tmp_path, hub, "hf:org/repo", "hf:org/repo:q8_0", "hf:org/repo:Q2_K")
    assert [one[0] for one in found["models"]] == ["tiny-Q4_K_M", "tiny-Q8_0", "ModelNotFoundError"]
    assert found["models"][2][1].startswith("org/repo: the repository has no file of the quantisation Q2_K; it has ")
    assert [step for step, *_ in found["steps"] if step.startswith("taking Q4_K_M, which fits into ")]
    again = resolve_with(tmp_path, hub, "hf:org/repo:Q8_0", "hf:org/repo", "hf:org/repo:F16", offline=True)
    assert again["models"][:2] == [found["models"][1], found["models"][0]]
    assert again["models"][2][0] == "OfflineError"
    command = [sys.executable, "-m", "portico", "rm", "hf:org/repo:Q8_0"]
    environment = environment_of(tmp_path, hub, offline=True)
    asked = subprocess.run(command, env=environment, input=b"n\n", capture_output=True, check=False)
    assert (asked.returncode, b"Delete hf:org/repo/tiny-Q8_0.gguf" in asked.stderr) == (130, True)
    deleted = subprocess.run([*command, "--yes", "--json"], env=environment, capture_output=True, check=True)
    told = json.loads(deleted.stdout)
    assert (told["name"], told["size"]) == ("hf:org/repo/tiny-Q8_0.gguf", len(Hub.files["tiny-Q8_0.gguf"]))
    assert not any(Path(file).exists() for file in told["files"])
    assert resolve_with(tmp_path, hub, offline=True)["installed"] == ["hf:org/repo/tiny-Q4_K_M.gguf"]


def test_absent_things_are_named(hub: str, tmp_path: Path) -> None:
    result = resolve_with(tmp_path, hub, "hf:org/repo/other.gguf", "hf:org/none/small.gguf")
    assert result["models"] == [
        ["ModelNotFoundError", "org/repo has no file other.gguf"],
        ["ModelNotFoundError", "the hub has no repository org/none, or it is private"],
    ]


def test_offline_and_absent_says_so(tmp_path: Path) -> None:
    result = resolve_with(tmp_path, "http://127.0.0.1:1", "hf:org/repo/small.gguf", offline=True)
    ((error, message),) = result["models"]
    assert error == "OfflineError"
    assert message.startswith("small.gguf of org/repo is not here yet and the hub could not be reached")
