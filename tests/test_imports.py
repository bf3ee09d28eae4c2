"""The shape of the package: imports run down the roles, never up or sideways; inside the server, down its rooms."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "portico"

# what every box may use
WORDS = {
    "events",
    "errors",
    "grammar",
    "child",
    "threads",
    "inherited",
    "extras",
    "spelling",
    "values",
}  # what every box may use
# box -> the boxes it may import (beside itself and the words)
ALLOWED: dict[str, set[str]] = {
    "events": set(),
    "errors": set(),
    "grammar": set(),
    "child": set(),
    "threads": set(),
    "spelling": set(),
    "values": set(),
    "inherited": set(),
    "extras": set(),
    "terminal": set(),
    "models": set(),
    "decoding": set(),
    "parsing": set(),
    "constraints": set(),
    "prompting": {"models"},
    "media": {"prompting"},
    "protos": set(),
    "engines": {"protos"},
    "generation": {"prompting", "decoding", "parsing", "constraints"},
    "protocols": {"keys", "generation", "prompting", "decoding", "parsing", "constraints", "protos"},
    "trace": {"protocols", "generation", "prompting"},
    "config": set(),
    "keys": set(),
    "store": {"keys"},
    "server": {"protocols", "generation", "prompting", "decoding", "parsing", "constraints", "engines", "models",
               "media", "keys", "trace", "config", "protos", "terminal", "store"},
}  # fmt: skip
ABOVE_ALL = {"cli", "commands", "__main__"}  # the program itself may use everything

# Inside the server: room -> the rooms it may import (beside itself)
ROOMS: dict[str, set[str]] = {
    "http": set(),
    "line": {"http"},
    "batches": {"line", "http"},
    "observe": {"line", "http"},
    "routes": {"batches", "observe", "line", "http"},
    "grpc": {"observe", "line", "http"},
    "process": {"batches", "routes", "grpc", "observe", "line", "http"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def box_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


BOXES = sorted({box_of(path) for path in FILES} - ABOVE_ALL - {"__init__"})


@cache
def nodes(path: Path) -> list[ast.Import | ast.ImportFrom]:
    return [one for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.Import | ast.ImportFrom)]


@cache
def imported(path: Path) -> list[tuple[str, ...]]:
    """The parts behind ``portico`` of every module of ours that the file imports."""
    found: list[tuple[str, ...]] = []
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            head, *rest = node.module.split(".")
            if head == "portico":
                for alias in node.names:
                    if rest or not alias.name.startswith("__"):  # ``from portico import __version__`` is no box
                        found.append((*rest, alias.name))
        elif isinstance(node, ast.Import):
            found += [tuple(a.name.split(".")[1:]) for a in node.names if a.name.startswith("portico.")]
    return found


@pytest.mark.parametrize("box", BOXES)
def test_imports_run_down(box: str) -> None:
    assert box in ALLOWED, f"{box} is no box of the design; say here what it may import"
    for path in FILES:
        if box_of(path) == box:
            upward = {parts[0] for parts in imported(path)} - {box} - WORDS - ALLOWED[box]
            assert not upward, f"{path.relative_to(PACKAGE)} imports {sorted(upward)}"


def test_imports_run_down_inside_the_server() -> None:
    for path in FILES:
        if box_of(path) != "server" or path.parent == PACKAGE / "server":
            continue
        room = path.relative_to(PACKAGE / "server").parts[0]
        assert room in ROOMS, f"server/{room} is no room of the design; say here what it may import"
        upward = {parts[1] for parts in imported(path) if parts[0] == "server"} - {room} - ROOMS[room]
        assert not upward, f"{path.relative_to(PACKAGE)} imports {sorted(upward)}"


def test_no_two_files_need_each_other() -> None:
    """Also imports inside functions and for types alone count: a circle is one box that has not been seen as one."""
    modules = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in FILES}
    needs = {
        name: {module for parts in imported(path) for module in (".".join(parts), ".".join(parts[:-1]))}
        & modules.keys() - {name}
        for name, path in modules.items()
    }
    circles = [f"{one} <-> {other}" for one in needs for other in needs[one] if one < other and one in needs[other]]
    assert not circles


@pytest.mark.parametrize("box", ["prompting", "decoding", "parsing", "constraints", "protocols", "generation"])
def test_pure_boxes_have_no_sockets_or_clocks(box: str) -> None:
    """Sans-IO: only the thread pool knows of IO."""
    banned = {"socket", "asyncio", "httpx", "selectors", "subprocess"}
    excused = {
        "prompting/prompter.py": {"asyncio"},
    }
    for path in FILES:
        if box_of(path) != box:
            continue
        modules = set()
        for node in nodes(path):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif node.module:
                modules.add(node.module.split(".")[0])
        relative = str(path.relative_to(PACKAGE))
        assert not (modules & banned) - excused.get(relative, set()), relative
