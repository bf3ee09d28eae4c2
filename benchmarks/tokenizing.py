"""CPU of tokenizing a prompt never seen before, side by side with the ``tokenizers`` library.

    python benchmarks/tokenizing.py [PATH…] [--tokens 4096] [--json]

Each PATH is a model directory, a ``tokenizer.json`` or a GGUF file of a kind that the ``tokenizers`` library can stand
for (BPE, WordPiece); without one, those of the shared test corpus are taken. Prompts are pieces of the standard
library's sources, each used once, because both sides remember words they have met. Before the first, both have encoded
other pieces. Rounds alternate, medians are shown.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from decoding import library_tokenizer, shared_tokenizers
from portico.prompting.tokenizers import load_tokenizer

WARM_UP, ROUNDS = 10, 40


def prompts(characters: int) -> Iterator[str]:
    """Pieces of source text, in an order that is the same every time and never twice."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    random.Random(1).shuffle(files)
    text = "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
    for start in range(0, len(text) - characters, characters):
        yield text[start : start + characters]


def measure(path: Path, tokens: int) -> dict[str, float | str | bool]:
    """Medians in microseconds of CPU time per prompt of about ``tokens`` tokens."""
    started = time.process_time()
    tokenizer = load_tokenizer(path)
    loaded = time.process_time()
    tokenizer.warm()
    warmed = time.process_time()
    reference = library_tokenizer(path)
    reference.no_truncation()
    reference.no_padding()
    sample = next(prompts(40_000))
    characters = int(40_000 * tokens / len(tokenizer.encode(sample)))
    ours: list[float] = []
    theirs: list[float] = []
    same = True
    for turn, text in zip(range(WARM_UP + ROUNDS), prompts(characters), strict=False):
        begin = time.process_time()
        ids = tokenizer.encode(text)
        middle = time.process_time()
        expected = reference.encode(text, add_special_tokens=False).ids
        end = time.process_time()
        same = same and ids == expected
        if turn >= WARM_UP:
            ours.append((middle - begin) * 1e6)
            theirs.append((end - middle) * 1e6)
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {
        "tokenizer": path.name,
        "load_s": loaded - started,
        "warm_s": warmed - loaded,
        "ours": mine,
        "tokenizers": other,
        "ratio": other / mine,
        "same_ids": same,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
    parser.add_argument("--tokens", type=int, default=4096, help="length of a prompt (default 4096)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        paths = options.paths or shared_tokenizers(Path(scratch))
        rows = [measure(path, options.tokens) for path in paths]
    if options.json:
        for row in rows:
            print(json.dumps(row))
        return
    table = Table(title=f"CPU to tokenize an unseen prompt of {options.tokens} tokens, microseconds (medians)")
    table.add_column("tokenizer")
    for name in ("load, s", "warm, s", "here", "tokenizers", "times faster", "same ids"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            str(row["tokenizer"]),
            f"{row['load_s']:.2f}",
            f"{row['warm_s']:.2f}",
            f"{row['ours']:.0f}",
            f"{row['tokenizers']:.0f}",
            f"{row['ratio']:.1f}",
            "yes" if row["same_ids"] else "NO",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
