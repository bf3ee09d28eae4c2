"""The official JavaScript clients under Node: ``tests/js`` installed once, its scripts run as processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.shared import ROOT

PACKAGE = ROOT / "tests" / "js"
Script = Callable[..., Any]


@pytest.fixture(scope="session")
def js() -> Script:
    """``js(script, *arguments, lines=None)``: run a script of ``tests/js``; its output as JSON values, one per line."""
    installed(PACKAGE, "the JavaScript clients")
    return _run


def installed(package: Path, what: str) -> Path:
    """The ``node_modules`` of a package, installed as its lock file says; skips the test where that cannot be."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip(f"node and npm are needed for {what}")
    wanted = (package / "package-lock.json").read_bytes()
    modules = package / "node_modules"
    mark = modules / ".installed"  # a copy of the lock file that was installed from
    if not mark.exists() or mark.read_bytes() != wanted:
        command = ["npm", "ci", "--omit=dev", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            pytest.skip(f"{what} cannot be installed: {(done.stderr or done.stdout).strip()[-300:]}")
        mark.write_bytes(wanted)
    return modules


def _run(script: str, *arguments: str, lines: list[Any] | None = None, **settings: Any) -> list[Any]:
    """``settings`` (key, model, max_tokens) reach the script as ``PORTICO_TEST_*``."""
    done = subprocess.run(
        ["node", script, *arguments],
        cwd=PACKAGE,
        input=None if lines is None else "".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **{f"PORTICO_TEST_{name.upper()}": str(value) for name, value in settings.items()}},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.split("\n") if line]
