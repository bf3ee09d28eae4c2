"""What constraints cost: ``python benchmarks/constraints.py [--json]``.

Compiling an ordinary request, trying it out the first time and again; and, without any limit of ours, what llguidance
alone needs for three schemas that are made to cost: building the matcher, one mask, memory. Over smollm2's vocabulary;
the hostile schemas each in a process of its own, ended after 100 seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
from llguidance import LLMatcher
from rich.console import Console
from rich.table import Table

from portico import models
from portico.constraints import Checker, Vocabulary, call_policy, compile_constraint, json_calls
from portico.events import Constraint
from portico.prompting import load_tokenizer

SECONDS = 100
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}},
        "home": {"anyOf": [{"$ref": "#/$defs/place"}, {"type": "null"}]},
    },
    "required": ["name", "age"],
    "$defs": {"place": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}}}},
}
HOSTILE: dict[str, Any] = {
    "multipleOf 999983": {"type": "integer", "multipleOf": 999_983},
    "40 patterns intersected": {"allOf": [{"type": "string", "pattern": f"a.{{{n}}}b"} for n in range(40)]},
    "8 values of 100,000 characters": {"enum": ["x" * 100_000 + str(n) for n in range(8)]},
}


def vocabulary() -> Vocabulary:
    tokenizer = load_tokenizer(models.ensure("smollm2"))
    tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    return Vocabulary(tokens, sorted(tokenizer.special_ids), min(tokenizer.eos_token_ids))


def forced(tools: int, salt: int = 0) -> Constraint:
    """The constraint of a request that forces a call of one of so many tools."""
    declared = [
        {"type": "function", "function": {"name": f"tool_{salt}_{n}", "parameters": PERSON}} for n in range(tools)
    ]
    policy = call_policy(declared, "required")
    assert policy is not None
    compiled = compile_constraint(policy=policy, calls=json_calls(policy))
    assert compiled is not None
    return compiled.constraint


def ordinary() -> list[dict[str, Any]]:
    checker = Checker(vocabulary())
    checker.start()
    rows = []
    for tools in (1, 20):
        compiling, first, again = [], [], []
        for salt in range(20):
            begin = time.perf_counter()
            constraint = forced(tools, salt)
            compiling.append(time.perf_counter() - begin)
            for times in (first, again):
                begin = time.perf_counter()
                checker.check(constraint)
                times.append(time.perf_counter() - begin)
        row = {"compile": compiling, "first trial": first, "again": again}
        rows.append({"tools": tools} | {name: statistics.median(times) * 1e6 for name, times in row.items()})
    checker.close()
    return rows


def alone(name: str) -> None:
    """In a process of its own: print seconds to build, seconds per mask, megabytes."""
    tokenizer = vocabulary().build()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    matcher = LLMatcher(tokenizer, f"start: %json {json.dumps(HOSTILE[name])}\n", log_level=0)
    built = time.perf_counter()
    choice, masks = random.Random(0), []
    for _ in range(20):
        begin_mask = time.perf_counter()
        allowed = np.flatnonzero(np.frombuffer(matcher.compute_logit_bias(), dtype=np.uint8))
        masks.append(time.perf_counter() - begin_mask)
        if not len(allowed) or matcher.is_stopped():
            break
        matcher.consume_token(int(choice.choice(allowed)))
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"build": built - begin, "mask": statistics.mean(masks), "memory": memory}))


def hostile() -> list[dict[str, Any]]:
    rows = []
    for name in HOSTILE:
        try:
            command = [sys.executable, __file__, "--alone", name]
            child = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
            rows.append({"schema": name, **json.loads(child.stdout)})
        except subprocess.TimeoutExpired:
            rows.append({"schema": name, "build": None, "mask": None, "memory": None})
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--alone", metavar="NAME", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.alone:
        return alone(given.alone)
    results = {"ordinary": ordinary(), "hostile": hostile()}
    if given.json:
        return print(json.dumps(results, indent=2))
    console = Console()
    table = Table("tools", "compile, µs", "first trial, µs", "again, µs", title="Forced calls", box=None)
    for row in results["ordinary"]:
        table.add_row(str(row["tools"]), *(f"{row[name]:.0f}" for name in ("compile", "first trial", "again")))
    console.print(table)
    table = Table("schema", "build, s", "mask, s", "memory, MB", title="llguidance alone", box=None)
    for row in results["hostile"]:
        figures = (row["build"], row["mask"], row["memory"])
        table.add_row(row["schema"], *(f"{n:.2f}" if n is not None else f"not done in {SECONDS}" for n in figures))
    console.print(table)


if __name__ == "__main__":
    main()
