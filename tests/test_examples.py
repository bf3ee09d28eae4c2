"""The examples run, and the page that one of them writes is the page in docs/."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def artifacts(page: str) -> set[tuple[str, ...]]:
    """What the table of a page tells apart: lane, layer, mark and the artifact's first word."""
    found = set()
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.split(" | ")]
        if re.match(r"\| \d+$", cells[0]) and len(cells) >= 6:
            found.add((cells[2], cells[3], cells[4], re.split(r"[ ,:`]", cells[5])[0]))
    return found


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the example asks with curl, which is not installed")
def test_anatomy() -> None:
    run = subprocess.run([sys.executable, "examples/anatomy.py"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    written = (ROOT / "docs" / "anatomy.md").read_text()
    assert artifacts(run.stdout) == artifacts(written)
    assert {lane for lane, *_ in artifacts(written)} == {"request", "prompt", "tokens", "text", "events", "wire"}
    assert "data: [DONE]" in run.stdout


@pytest.mark.slow
def test_architecture() -> None:
    """The picture of the house is the house's."""
    run = subprocess.run([sys.executable, "examples/architecture.py"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    written = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    assert run.stdout == written, "draw it again: python examples/architecture.py > docs/architecture.svg"
