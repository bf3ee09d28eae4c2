"""Errors that name an extra say how to install it from where this package came from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from portico import extras
from portico.extras import installing

ROOT = Path(__file__).resolve().parents[1]


class Installed:
    def __init__(self, origin: str | None) -> None:
        self._origin = origin

    def read_text(self, name: str) -> str | None:
        return self._origin


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ('{"url": "file:///srv/portico", "dir_info": {}}', "pip install '/srv/portico[grpc]'"),
        ('{"url": "file:///srv/my%20portico", "dir_info": {"editable": true}}', "pip install '/srv/my portico[grpc]'"),
        ('{"url": "file:///tmp/portico-0.1.0-py3-none-any.whl"}', "pip install '.[grpc]' in a clone of Portico"),
        (None, "pip install '.[grpc]' in a clone of Portico"),
    ],
)
def test_where_it_came_from(origin: str | None, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "distribution", lambda name: Installed(origin))
    assert installing("grpc") == told


def test_nothing_else_says_how_and_every_extra_is_one() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py") if path.name != "extras.py")
    assert not re.search(r"pip install\s+'?portico", source)
    named = set(re.findall(r"""installing\(["'](\w+)["']\)""", source))
    assert {"grpc", "otel", "mcp"} <= named <= set(known)
