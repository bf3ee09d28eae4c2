"""Draw the house from the code: docs/architecture.svg is this program's output.

    python examples/architecture.py > docs/architecture.svg

A box is a folder of ``src/portico``, or a room of its server; an arrow is an import. A box stands above all that it
imports, so an arrow that ran back up would be seen at once. What another arrow already implies is left out, and so are
the words that every box may use.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from html import escape
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "portico"
# single files that every box may use
WORDS = {"events", "errors", "grammar", "child", "threads", "inherited", "config"}
WIDTH, HEIGHT, GAP, RISE, EDGE = 208, 74, 18, 46, 24  # pixels
LOOK = """
  svg { font: 12px system-ui, sans-serif; background: #fff }
  rect { fill: #eef3fb; stroke: #4a6fa5; rx: 6 } .room rect { fill: #fdf3e3; stroke: #b07a2a }
  .words rect { fill: #f2f2f2; stroke: #888 }
  b, .name { font-weight: 600; font-size: 13px } path { fill: none; stroke: #8a94a6 } text { fill: #222 }
"""


def boxes() -> dict[str, Path]:
    """Every box by its name, ``server/http`` for a room of the server."""
    found = {}
    for init in sorted(PACKAGE.rglob("__init__.py")):
        parts = init.parent.relative_to(PACKAGE).parts
        if (len(parts) == 1 and parts[0] != "server") or (len(parts) == 2 and parts[0] == "server"):
            found["/".join(parts)] = init.parent
    return found


def box_of(parts: list[str]) -> str:
    return "/".join(parts[:2]) if parts[0] == "server" else parts[0]


def imports(folder: Path) -> set[str]:
    """The boxes that the files of a folder import."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("portico."):
                found.add(box_of((node.module or "").split(".")[1:]))
            elif isinstance(node, ast.ImportFrom) and node.module == "portico":
                found |= {alias.name for alias in node.names}
    return found


def caption(folder: Path) -> str:
    """The first sentence of the box's own description, as far as its first pause."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    return textwrap.shorten(text.split("\n\n")[0].replace("``", "").split(". ")[0].rstrip("."), 84, placeholder=" …")


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """Everything that the box's imports import, but not the imports themselves."""
    found: set[str] = set()
    waiting = [further for one in graph[start] for further in graph[one]]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += graph[one]
    return found


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """The ground floor imports nothing; every other box stands one above the highest that it imports."""
    found: dict[str, int] = {}

    def floor(box: str, way: tuple[str, ...] = ()) -> int:
        if box in way:
            sys.exit(f"a circle: {' -> '.join([*way, box])}")
        if box not in found:
            found[box] = 1 + max((floor(one, (*way, box)) for one in graph[box]), default=-1)
        return found[box]

    for box in graph:
        floor(box)
    return found


def drawn(name: str, lines: str, x: float, y: float, kind: str) -> list[str]:
    shown = [f'<g class="{kind}"><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}"/>']
    shown.append(f'<text class="name" x="{x + 10}" y="{y + 18}">{escape(name)}</text>')
    for number, line in enumerate(textwrap.wrap(lines, 31)[:3]):
        shown.append(f'<text x="{x + 10}" y="{y + 35 + 14 * number}">{escape(line)}</text>')
    return [*shown, "</g>"]


def main() -> None:
    folders = boxes()
    graph = {name: imports(folder) & folders.keys() - {name} for name, folder in folders.items()}
    level = floors(graph)
    rows = [sorted(name for name in graph if level[name] == number) for number in range(max(level.values()), -1, -1)]
    widest = max(map(len, rows))
    width = 2 * EDGE + widest * (WIDTH + GAP) - GAP
    place = {
        name: ((width - len(row) * (WIDTH + GAP) + GAP) / 2 + column * (WIDTH + GAP), EDGE + line * (HEIGHT + RISE))
        for line, row in enumerate(rows)
        for column, name in enumerate(row)
    }
    bottom = EDGE + len(rows) * (HEIGHT + RISE)
    shown = [
        "<!-- Written by examples/architecture.py from the imports of src/portico. -->",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + HEIGHT + EDGE}" role="img" '
        'aria-label="The boxes of Portico and what each imports">',
        f"<style>{LOOK}</style>",
    ]
    for name in graph:
        for other in sorted(graph[name] - reached(graph, name)):
            (x, y), (to_x, to_y) = place[name], place[other]
            start, end, half = (x + WIDTH / 2, y + HEIGHT), (to_x + WIDTH / 2, to_y), RISE / 2
            way = f"M{start[0]} {start[1]} C{start[0]} {start[1] + half} {end[0]} {end[1] - half} {end[0]} {end[1]}"
            shown.append(f'<path d="{way}"/>')
    for name, (x, y) in place.items():
        shown += drawn(name, caption(folders[name]), x, y, "room" if name.startswith("server/") else "box")
    words = ", ".join(sorted(WORDS))
    shown += drawn("words", f"what every box may use: {words}", (width - WIDTH) / 2, bottom, "words")
    print("\n".join([*shown, "</svg>"]))


if __name__ == "__main__":
    main()
