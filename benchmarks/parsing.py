"""CPU per token-sized delta while reading model output, for every tool-call format: content and arguments, and whether
the cost grows with the length of the answer.

    python benchmarks/parsing.py [--family NAME] [--deltas 1000 10000 100000] [--json]

An answer is prose, or one call whose string argument is prose; deltas are 4 characters. Figures are the best of five
runs of process CPU time, in microseconds per delta.
"""

from __future__ import annotations

import argparse
import json
import time

from rich.console import Console
from rich.table import Table

from portico.parsing import OutputParser, families, render_calls

PROSE = "The quick brown fox jumps over the lazy dog, and then it does so once more because nobody saw it. "
TOOL = {
    "type": "function",
    "function": {"name": "write", "parameters": {"type": "object", "properties": {"text": {"type": "string"}}}},
}
SIZE = 4  # characters per delta, an ordinary token


def prose(deltas: int) -> str:
    length = deltas * SIZE
    return (PROSE * (length // len(PROSE) + 1))[:length]


def call(name: str, deltas: int) -> str | None:
    for identity in ("call_1", "functions.write:0", "abcdefgh1"):
        wanted = {"name": "write", "id": identity, "arguments": {"text": prose(deltas).strip()}}
        try:
            return render_calls([wanted], name, [TOOL])
        except ValueError:
            continue
    return None


def microseconds(name: str, text: str) -> float:
    pieces = [text[at : at + SIZE] for at in range(0, len(text), SIZE)]
    best = float("inf")
    for _ in range(5):
        parser = OutputParser(name, tools=[TOOL])
        started = time.process_time()
        for piece in pieces:
            parser.feed(piece)
        parser.close()
        best = min(best, time.process_time() - started)
    return best / len(pieces) * 1e6


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--family", action="append", help="a tool parser; all of them if absent")
    options.add_argument("--deltas", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    rows = []
    formats = {described: name for family in families().values() for name, described in family.tools.items()}
    for name in given.family or formats.values():  # one name of each format
        row: dict[str, object] = {"family": name}
        for count in given.deltas:
            row[f"content {count}"] = microseconds(name, prose(count))
            text = call(name, count)
            row[f"arguments {count}"] = None if text is None else microseconds(name, text)
        rows.append(row)
    if given.json:
        print(json.dumps(rows))
        return
    table = Table(title="us per delta")
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "family" else "right")
    for row in rows:
        table.add_row(*(f"{v:.2f}" if isinstance(v, float) else str(v or "-") for v in row.values()))
    Console().print(table)
    for column in list(rows[0])[1:]:
        values = sorted(v for row in rows if isinstance(v := row[column], float))
        if values:
            print(f"{column}: median {values[len(values) // 2]:.2f}, worst {values[-1]:.2f}")


main()
