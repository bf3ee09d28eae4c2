"""CPU per token of turning tokens into text, side by side with ``tokenizers.DecodeStream`` on the same stream.

    python benchmarks/decoding.py [PATH…] [--json]

Each PATH is a model directory, a ``tokenizer.json`` or a GGUF file of a kind that the ``tokenizers`` library can stand
for (BPE, WordPiece); without one, those of the shared test corpus are taken. The stream is text in several scripts,
encoded by the tokenizer itself. Both decoders take it a token at a time, many streams in turn, as a server does; ours
also 16 tokens at a time. Rounds alternate, medians are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer as Reference
from tokenizers.decoders import DecodeStream

from portico.decoding import Detokenizer
from portico.prompting.tokenizers import load_tokenizer
from portico.prompting.tokenizers.huggingface import HuggingFaceTokenizer

TEXT = (
    "The front door of a language model takes what clients say and hands an engine what it was trained on. "
    "def cost(tokens: list[int]) -> float:\n    return sum(t * 0.5 for t in tokens)  # 3.14159\n\n"
    "Die Straße führt über größere Brücken; ça suffit, garçon. Съешь же ещё этих мягких булок. "
    "日本語のテキストと、中文文本，还有한국어 문장. नमस्ते दुनिया — مرحبا بالعالم. 🚀🌍👩‍👩‍👧‍👦 "
    '{"name": "get_weather", "arguments": {"city": "Zürich", "days": 3}}\n'
)
STREAMS, COPIES, ROUNDS, STEP = 16, 12, 15, 16


def shared_tokenizers(into: Path) -> list[Path]:
    """The Hugging Face tokenizers of the shared corpus, unpacked."""
    base = Path(os.environ.get("PORTICO_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    archive = base / "corpus" / "tokenizers.tar.xz"
    if not archive.is_file():
        sys.exit("no PATH given and no shared corpus found (set PORTICO_SHARED)")
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
    return sorted(path.parent for path in into.glob("*/tokenizer.json"))


def library_tokenizer(path: Path) -> Reference:
    """The ``tokenizers`` object for ``path``; for a GGUF file the one that is rebuilt from it."""
    if path.suffix == ".gguf":
        tokenizer = load_tokenizer(path)
        assert isinstance(tokenizer, HuggingFaceTokenizer), "SentencePiece vocabularies have no such object"
        return tokenizer._backend
    return Reference.from_file(str(path / "tokenizer.json" if path.is_dir() else path))


def cpu_per_token(decode: Callable[[], None], tokens: int) -> float:
    started = time.process_time()
    decode()
    return (time.process_time() - started) / tokens * 1e6


def measure(path: Path) -> dict[str, float | str]:
    """Medians in microseconds of CPU time per token."""
    tokenizer = load_tokenizer(path)
    reference = library_tokenizer(path)
    ids = tokenizer.encode(TEXT * COPIES)
    steps = [ids[i : i + STEP] for i in range(0, len(ids), STEP)]
    singles = [[token] for token in ids]
    tokens = len(ids) * STREAMS

    def ours(pieces: list[list[int]]) -> None:
        streams = [Detokenizer(tokenizer) for _ in range(STREAMS)]
        for piece in pieces:
            for stream in streams:
                stream.feed(piece)

    def theirs() -> None:
        streams = [DecodeStream(skip_special_tokens=True) for _ in range(STREAMS)]
        for token in ids:
            for stream in streams:
                stream.step(reference, token)

    starts = 1000

    def start() -> None:
        for _ in range(starts):
            Detokenizer(tokenizer, prompt_ids=ids)

    ours(singles)
    times: dict[str, list[float]] = {"one": [], "many": [], "decode_stream": [], "start": []}
    for _ in range(ROUNDS):
        times["one"].append(cpu_per_token(lambda: ours(singles), tokens))
        times["decode_stream"].append(cpu_per_token(theirs, tokens))
        times["many"].append(cpu_per_token(lambda: ours(steps), tokens))
        times["start"].append(cpu_per_token(start, starts))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"tokenizer": path.name, "tokens": len(ids), **medians, "ratio": medians["decode_stream"] / medians["one"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        paths = options.paths or shared_tokenizers(Path(scratch))
        rows = [measure(path) for path in paths]
    if options.json:
        for row in rows:
            print(json.dumps(row))
        return
    table = Table(title="CPU per token, microseconds (medians)")
    table.add_column("tokenizer")
    for name in ("one token a step", f"{STEP} tokens a step", "DecodeStream", "times faster", "starting a stream"):
        table.add_column(name, justify="right")
    for row in rows:
        figures = (row["one"], row["many"], row["decode_stream"], row["ratio"], row["start"])
        table.add_row(str(row["tokenizer"]), *(f"{figure:.2f}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
