"""The shape of the package: imports run down the roles, never up or sideways."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "portico"

WORDS = {"events", "errors", "grammar", "child", "threads"}  # what every box may use
# box -> the boxes it may import (beside itself and the words)
ALLOWED: dict[str, set[str]] = {
    "events": set(),
    "errors": set(),
    "grammar": set(),
    "child": set(),
    "threads": set(),
    "models": set(),
    "decoding": set(),
    "parsing": set(),
    "constraints": set(),
    "prompting": {"models"},
    "protos": set(),
    "engines": {"protos"},
    "generation": {"prompting", "decoding", "parsing", "constraints"},
    "protocols": {"generation", "prompting", "decoding", "parsing", "constraints", "protos"},
    "trace": {"protocols", "generation", "prompting"},
    "config": set(),
    "server": {"protocols", "generation", "prompting", "decoding", "parsing", "constraints", "engines", "models",
               "trace", "config", "protos"},
}  # fmt: skip
ABOVE_ALL = {"cli", "commands", "__main__"}  # the program itself may use everything
VERSION = {"portico"}  # ``from portico import __version__``


def box_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_boxes(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            parts = node.module.split(".")
            if parts[0] == "portico":
                names = [parts[1]] if len(parts) > 1 else [a.name for a in node.names if not a.name.startswith("__")]
                found.update(names)
        elif isinstance(node, ast.Import):
            found.update(a.name.split(".")[1] for a in node.names if a.name.startswith("portico."))
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_imports_run_down(path: Path) -> None:
    box = box_of(path)
    if box in ABOVE_ALL or (path.name == "__init__.py" and path.parent == PACKAGE):
        return
    assert box in ALLOWED, f"{box} is no box of the design; say here what it may import"
    upward = imported_boxes(path) - {box} - WORDS - ALLOWED[box]
    assert not upward, f"{path.relative_to(PACKAGE)} imports {sorted(upward)}"


@pytest.mark.parametrize("box", ["prompting", "decoding", "parsing", "constraints", "protocols", "generation"])
def test_pure_boxes_have_no_sockets_or_clocks(box: str) -> None:
    """Sans-IO: only the guarded fetcher and the thread pool know of IO."""
    banned = {"socket", "asyncio", "httpx", "selectors", "subprocess"}
    excused = {
        "prompting/media.py": {"asyncio", "httpx", "socket"},
        "prompting/prompter.py": {"asyncio"},
    }
    for path in FILES:
        if box_of(path) != box:
            continue
        modules = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.split(".")[0])
        relative = str(path.relative_to(PACKAGE))
        assert not (modules & banned) - excused.get(relative, set()), relative
