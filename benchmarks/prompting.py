"""From messages to a prompt: rendering beside plain Jinja, whole requests, and what the event loop feels of it.

    python benchmarks/prompting.py [--json] [--rounds 7]

Rendering runs over every conversation of ../shared/corpus (or $PORTICO_SHARED) that the reference renders, or over a
few of its own where the corpus is absent. Plain Jinja is a sandboxed environment set up as transformers does it, in the
same run. Times are CPU time of the best of ``--rounds`` runs of a rendering; compile times are of one cold run each.
The event loop's pause is wall time, the longest between two turns of the loop while one long prompt is prepared; the
row "nothing" is what the machine does to a loop that only waits as long.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import random
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from rich.console import Console
from rich.table import Table

from portico.errors import BadRequestError
from portico.prompting import ChatTemplate, JinjaRenderer, Prompter, RenderRequest, Tokenizer, load_tokenizer
from portico.prompting.environment import GenerationTag
from portico.prompting.sources import compile_source

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("PORTICO_SHARED") or ROOT.parent / "shared") / "corpus"

CHATML = """{% if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content | trim }}{% for call in message.tool_calls or [] %}
<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


# -- what is rendered -------------------------------------------------------------------------------------------------


def corpus() -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Template texts by name, and conversations that render."""
    try:
        with tarfile.open(SHARED / "chat_templates.tar.xz") as archive:
            files = [(member, archive.extractfile(member)) for member in archive if member.isfile()]
            sources = {member.name.rpartition("/")[2]: file.read().decode() for member, file in files if file}
        with gzip.open(SHARED / "golden_renderings.jsonl.gz", "rt", encoding="utf-8") as lines:
            return sources, [row for row in map(json.loads, lines) if "rendered" in row]
    except OSError:
        turns = [
            {"role": role, "content": f"Turn {i}, with words."} for i in range(4) for role in ("user", "assistant")
        ]
        rows = [{"template": "chatml", "messages": turns[:n], "tools": None, "kwargs": {}, "special_tokens": {}}
                for n in (1, 3, 7)]  # fmt: skip
        return {"chatml": CHATML}, rows


def plain_jinja() -> ImmutableSandboxedEnvironment:
    """The environment that transformers renders with."""

    def refuse(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: (
        json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    )
    environment.globals.update(raise_exception=refuse, strftime_now=lambda f: time.strftime(f))
    return environment


def plain_render(template: jinja2.Template, row: dict[str, Any]) -> str:
    """As transformers calls it, its clean-up of messages included, without continuing a message."""
    messages = [{key: value for key, value in message.items() if value is not None} for message in row["messages"]]
    for message in messages:
        reasoning = next((message[k] for k in ("reasoning_content", "thinking", "reasoning") if k in message), None)
        if reasoning is not None:
            message.update(thinking=reasoning, reasoning_content=reasoning)
    kwargs = {"add_generation_prompt": False, **row["kwargs"]}
    return template.render(messages=messages, tools=row["tools"], documents=None, **row["special_tokens"], **kwargs)


# -- measuring --------------------------------------------------------------------------------------------------------


def best(work: Callable[[], Any], rounds: int) -> float:
    """Microseconds of CPU that ``work`` needs."""
    took = []
    for _ in range(rounds):
        before = time.process_time_ns()
        work()
        took.append(time.process_time_ns() - before)
    return min(took) / 1000


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": statistics.median(ordered),
        "p90": ordered[len(ordered) * 9 // 10],
        "max": ordered[-1],
        "count": len(ordered),
    }


def rendering(rounds: int) -> dict[str, dict[str, float]]:
    """CPU microseconds per rendering: plain Jinja, ChatTemplate, and the renderer that also fits the messages."""
    sources, rows = corpus()
    environment = plain_jinja()
    figures: dict[str, list[float]] = {name: [] for name in ("plain", "template", "renderer", "ratio")}
    compiled: dict[str, jinja2.Template] = {}
    templates: dict[tuple[str, str], ChatTemplate] = {}
    for row in rows:
        if row["kwargs"].get("continue_final_message"):
            continue
        name = row["template"]
        key = (name, json.dumps(row["special_tokens"]))
        if name not in compiled:
            compiled[name] = environment.from_string(sources[name])
        if key not in templates:
            templates[key] = ChatTemplate(sources[name], row["special_tokens"])
            templates[key].warm()
        template, reference = templates[key], compiled[name]
        renderer = JinjaRenderer(template)
        kwargs = dict(row["kwargs"])
        request = RenderRequest(
            messages=row["messages"],
            tools=row["tools"],
            add_generation_prompt=kwargs.pop("add_generation_prompt", None),
            kwargs=kwargs,
            modalities=frozenset({"image"}),
        )
        try:
            plain = best(lambda r=reference, row=row: plain_render(r, row), rounds)
        except Exception:
            continue
        ours = best(lambda t=template, row=row: t.render(row["messages"], row["tools"], **row["kwargs"]), rounds)
        figures["plain"].append(plain)
        figures["template"].append(ours)
        figures["ratio"].append(plain / ours)
        try:
            figures["renderer"].append(best(lambda r=renderer, q=request: r.render(q), rounds))
        except BadRequestError:
            continue
    return {name: spread(values) for name, values in figures.items()}


def compiling() -> dict[str, dict[str, float]]:
    """CPU milliseconds, once per template and process: compile it, and find out what it can take."""
    sources, _ = corpus()
    compile_times, warm_times, again = [], [], []
    for source in sources.values():
        compile_source.cache_clear()
        compile_times.append(best(lambda s=source: compile_source(s), 1) / 1000)
        again.append(best(lambda s=source: ChatTemplate(s, {"bos_token": "<s>", "eos_token": "</s>"}), 1) / 1000)
        template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
        warm_times.append(best(template.warm, 1) / 1000)
    return {"compile": spread(compile_times), "warm": spread(warm_times), "compiled before": spread(again)}


# -- the event loop ---------------------------------------------------------------------------------------------------


def some_tokenizer(directory: Path) -> Tokenizer:
    """A real tokenizer where the corpus is, else one token per byte."""
    try:
        with tarfile.open(SHARED / "tokenizers.tar.xz") as archive:
            for name in ("qwen3/tokenizer.json", "qwen3/tokenizer_config.json"):
                archive.extract(name, directory, filter="data")
        return load_tokenizer(directory / "qwen3")
    except OSError:
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers

        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        backend = Backend(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        backend.save(str(directory / "tokenizer.json"))
        return load_tokenizer(directory)


def words(count: int, seed: int) -> str:
    """Text that no cache has seen."""
    source = random.Random(seed)
    return " ".join("".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(2, 9))) for _ in range(count))


async def pause_while(work: asyncio.Future[Any]) -> float:
    """Milliseconds: the longest that the loop was kept from turning."""
    longest = 0.0
    while not work.done():
        before = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - before)
        await asyncio.sleep(0.0005)
    return longest * 1000


async def event_loop(rounds: int) -> dict[str, dict[str, float]]:
    """What one long prompt does to the loop, for conversations of few and of many messages."""
    with tempfile.TemporaryDirectory() as directory:
        tokenizer = some_tokenizer(Path(directory))
    prompter = Prompter(tokenizer, ChatTemplate(CHATML))
    tokenizer.warm()
    found = {}
    idle = [await pause_while(asyncio.ensure_future(asyncio.sleep(0.06))) for _ in range(rounds)]
    found["nothing"] = {"tokens": 0, "median pause": statistics.median(idle), "longest pause": max(idle), "wall": 60.0}
    for messages, length in ((1, 42_000), (100, 420), (2000, 21)):
        pauses, took, tokens = [], [], 0
        for seed in range(rounds):
            chat = [
                {"role": ("user", "assistant")[i % 2], "content": words(length, seed * 10_000 + i)}
                for i in range(messages)
            ]
            before = time.perf_counter()
            work = asyncio.ensure_future(prompter.chat(chat))
            pauses.append(await pause_while(work))
            took.append((time.perf_counter() - before) * 1000)
            tokens = len((await work).token_ids)
        found[f"{messages:,} messages"] = {
            "tokens": tokens,
            "median pause": statistics.median(pauses),
            "longest pause": max(pauses),
            "wall": statistics.median(took),
        }
    return found


async def inline_or_thread(rounds: int) -> dict[str, dict[str, float]]:
    """Wall microseconds of preparing prompts here, and of handing nothing at all to a thread and back."""
    with tempfile.TemporaryDirectory() as directory:
        tokenizer = some_tokenizer(Path(directory))
    prompter = Prompter(tokenizer, ChatTemplate(CHATML))
    tokenizer.warm()
    loop = asyncio.get_running_loop()
    hops = []
    for _ in range(200):
        before = time.perf_counter()
        await loop.run_in_executor(None, lambda: None)
        hops.append((time.perf_counter() - before) * 1e6)
    found = {"a hop": spread(hops)}
    for characters in (200, 1000, 2000, 4000, 16_000):
        took = []
        for seed in range(max(rounds, 5) * 4):
            chat = [{"role": "user", "content": words(characters // 6, seed + characters)[:characters]}]
            before = time.perf_counter()
            prompter.render_chat(chat)
            took.append((time.perf_counter() - before) * 1e6)
        found[f"{characters:,} characters"] = spread(took)
    return found


# -- telling ----------------------------------------------------------------------------------------------------------


def table(title: str, figures: dict[str, dict[str, float]]) -> Table:
    columns = list(next(iter(figures.values())))
    shown = Table(title=title, title_justify="left", box=None)
    shown.add_column("")
    for column in columns:
        shown.add_column(column, justify="right")
    for name, row in figures.items():
        cells = [
            f"{row[column]:,.0f}" if column in ("count", "tokens") else f"{row[column]:,.2f}" for column in columns
        ]
        shown.add_row(name, *cells)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    figures = {
        "rendering, µs of CPU": rendering(options.rounds),
        "once per template, ms of CPU": compiling(),
        "whole prompts, µs": asyncio.run(inline_or_thread(options.rounds)),
        "the event loop while a long prompt is made, ms": asyncio.run(event_loop(options.rounds)),
    }
    if options.json:
        json.dump(figures, sys.stdout, indent=2)
        return
    console = Console()
    for title, part in figures.items():
        console.print(table(title, part))
        console.print()


if __name__ == "__main__":
    main()
