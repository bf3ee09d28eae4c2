"""What a batch does beside everybody else, over the embedded engine and over the replay engine, in one run:

    python benchmarks/batches.py [MODEL] [--engines embedded replay] [--lines 64] [--requests 60] [--json]

- *Throughput*: lines per minute of a batch, and of a plain loop of eight concurrent requests on the same server.
- *First tokens*: how long streams wait for their first token, one after the other, without and with a batch beside
  them, in turns of a few requests each. A turn with a batch begins when its lines run.
- *Shared beginnings* (embedded): prompt tokens that were computed for a file in which lines with ``--prefixes`` long
  beginnings take turns: as a batch, which runs lines that begin alike together, and by the loop, in the file's order.

No two prompts begin alike, so nothing is cached but what a file shares.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.batches import create, outcome, read_lines, wait_for
from support.server import running_server

CHAT = "/v1/chat/completions"
LOOP = 8  # requests at a time
TURN = 10  # streams between two changes of what is beside them
PAUSE = 0.25  # seconds between an answer and the next request of who waits for it
SAFETY = 3600.0  # seconds
RANDOM = random.Random(0)
WORDS = (
    "river",
    "bread",
    "winter",
    "bee",
    "map",
    "music",
    "moon",
    "stone",
    "garden",
    "engine",
    "bridge",
    "forest",
    "clock",
)

Line = dict[str, Any]


def text(words: int) -> str:
    """Words that no other text begins with."""
    return " ".join([f"{RANDOM.randrange(10**6)}", *(RANDOM.choice(WORDS) for _ in range(words))])


def line(number: int, prompt: str, tokens: int) -> Line:
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "ignore_eos": True}
    return {"custom_id": str(number), "method": "POST", "url": CHAT, "body": {**body, "temperature": 0}}


def some_lines(given: argparse.Namespace, count: int) -> list[Line]:
    return [line(number, text(given.words), given.tokens) for number in range(count)]


def as_batch(client: httpx.Client, lines: Sequence[Line]) -> tuple[float, dict[str, Any]]:
    """Seconds from the first line's beginning to the end, and the batch. Looking at its file is not counted."""
    id = create(client, lines)
    wait_for(client, id, ("in_progress", "finalizing", "completed"))
    started = time.perf_counter()
    batch = wait_for(client, id)
    took = time.perf_counter() - started
    outcome(client, batch, [one["custom_id"] for one in lines])
    return took, batch


async def as_loop(url: str, lines: Sequence[Line]) -> tuple[float, list[dict[str, Any]]]:
    """Seconds, and the answers."""
    waiting, answers = list(reversed(lines)), []
    async with httpx.AsyncClient(base_url=url, timeout=SAFETY) as client:

        async def one() -> None:
            while waiting:
                answer = await client.post(CHAT, json=waiting.pop()["body"])
                answers.append(answer.raise_for_status().json())

        started = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(LOOP)))
        return time.perf_counter() - started, answers


def throughput(client: httpx.Client, url: str, given: argparse.Namespace, count: int) -> dict[str, Any]:
    asyncio.run(as_loop(url, some_lines(given, LOOP)))  # warm
    batch, _ = as_batch(client, some_lines(given, count))
    loop, _ = asyncio.run(as_loop(url, some_lines(given, count)))
    return {
        "batch_lines_per_minute": round(60 * count / batch, 1),
        "loop_lines_per_minute": round(60 * count / loop, 1),
        "ratio": round(loop / batch, 2),
    }


def first_token(client: httpx.Client, given: argparse.Namespace) -> float:
    """Seconds until a stream has its first token."""
    body = {**line(0, text(given.words), given.answer)["body"], "stream": True}
    started, first = time.perf_counter(), 0.0
    with client.stream("POST", CHAT, json=body) as response:
        for event in response.raise_for_status().iter_lines():
            if not first and '"content":"' in event and '"content":""' not in event:
                first = time.perf_counter() - started
    return first


@contextmanager
def batch_beside(client: httpx.Client, given: argparse.Namespace, count: int) -> Iterator[None]:
    """A batch that has some lines behind it, and is left when the block ends."""
    id = create(client, some_lines(given, count))
    while not client.get(f"/v1/batches/{id}").json()["request_counts"]["completed"]:
        time.sleep(0.05)
    yield
    left = client.post(f"/v1/batches/{id}/cancel")
    assert left.status_code == 200, f"it ended too soon: {left.text}"
    wait_for(client, id)


def first_tokens(client: httpx.Client, given: argparse.Namespace, count: int) -> dict[str, Any]:
    found: dict[str, list[float]] = {"without": [], "with": []}

    def turn(into: list[float], requests: int) -> None:
        for _ in range(requests):
            time.sleep(PAUSE)
            into.append(first_token(client, given))

    turn([], 3)  # warm
    for start in range(0, given.requests, TURN):
        requests = min(TURN, given.requests - start)
        turn(found["without"], requests)
        with batch_beside(client, given, count):
            turn(found["with"], requests)
    middle = {name: median(times) for name, times in found.items()}
    worst = {name: quantiles(times, n=100, method="inclusive")[-1] for name, times in found.items()}
    return {
        "ttft_ms_p50": {name: round(1000 * seconds, 1) for name, seconds in middle.items()},
        "ttft_ms_p99": {name: round(1000 * seconds, 1) for name, seconds in worst.items()},
        "p50_ratio": round(middle["with"] / middle["without"], 2),
        "p99_ratio": round(worst["with"] / worst["without"], 2),
    }


def shared_beginnings(client: httpx.Client, url: str, given: argparse.Namespace) -> dict[str, Any]:
    """Tokens of prompts in all, and those that were computed."""

    def lines() -> list[Line]:
        beginnings = [text(given.prefix_words) for _ in range(given.prefixes)]
        prompts = [f"{one}\nQuestion {turn}" for turn in range(given.per_prefix) for one in beginnings]
        return [line(number, prompt, 1) for number, prompt in enumerate(prompts)]

    grouped, batch = as_batch(client, lines())
    told = [one["response"]["body"] for one in read_lines(client, batch["output_file_id"])]
    loop, answers = asyncio.run(as_loop(url, lines()))
    usage = {"grouped": [one["usage"] for one in told], "in_order": [one["usage"] for one in answers]}
    cached = {
        name: sum((one.get("prompt_tokens_details") or {}).get("cached_tokens", 0) for one in all)
        for name, all in usage.items()
    }
    tokens = {name: sum(one["prompt_tokens"] for one in all) for name, all in usage.items()}
    return {
        "prompt_tokens": tokens,
        "computed": {name: tokens[name] - cached[name] for name in usage},
        "seconds": {"grouped": round(grouped, 1), "in_order": round(loop, 1)},
    }


@contextmanager
def serving(engine: str, given: argparse.Namespace) -> Iterator[tuple[httpx.Client, str]]:
    with tempfile.TemporaryDirectory() as directory:
        options: list[str | Path] = [given.model, "--store", Path(directory) / "store.db", "--log-level", "warning"]
        if engine == "replay":
            script = Path(directory) / "replay.jsonl"
            script.write_text(json.dumps({"text": "The quick brown fox jumps over the lazy dog. " * 100}) + "\n")
            options += ["--engine", f"replay:{script}", "--replay-rate", str(given.rate)]
        with running_server(*options) as server, httpx.Client(base_url=server.url, timeout=SAFETY) as client:
            yield client, server.url


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", nargs="?", default="smollm2", help="a pulled model's name, or a path")
    options.add_argument("--engines", nargs="+", choices=["embedded", "replay"], default=["embedded", "replay"])
    options.add_argument("--lines", type=int, default=64, help="of a batch over the embedded engine")
    options.add_argument("--words", type=int, default=40, help="of a prompt")
    options.add_argument("--tokens", type=int, default=32, help="of a line's answer")
    options.add_argument(
        "--requests", type=int, default=60, help="that wait for first tokens, without and with a batch"
    )
    options.add_argument("--answer", type=int, default=8, help="tokens of their answers")
    options.add_argument("--prefixes", type=int, default=32)
    options.add_argument("--per-prefix", type=int, default=4, help="lines that share one")
    options.add_argument("--prefix-words", type=int, default=120)
    options.add_argument("--rate", type=float, default=50.0, help="steps per second of the replay engine; 0: a burst")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for engine in given.engines:
        with serving(engine, given) as (client, url):
            count = given.lines if engine == "embedded" else 20 * given.lines
            found[engine] = {
                "throughput": throughput(client, url, given, count),
                "first_tokens": first_tokens(client, given, 100 * given.lines),
            }
            if engine == "embedded":
                found[engine]["shared_beginnings"] = shared_beginnings(client, url, given)
    if given.json:
        print(json.dumps(found))
        return
    for engine, parts in found.items():
        for name, figures in parts.items():
            print(f"{engine}, {name.replace('_', ' ')}")
            for figure, value in figures.items():
                shown = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else value
                print(f"    {figure.replace('_', ' ')}: {shown}")


if __name__ == "__main__":
    main()
