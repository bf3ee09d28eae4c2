"""What the embedded engine costs, without a server: ``python benchmarks/engine_llamacpp.py [MODEL] [--json]``.

With ``--beside``, speed and memory beside llama.cpp's own server (``beside_llamacpp``).

Speeds are wall-clock, and per second of CPU of the engine's process (where the system tells), which another job on the
machine disturbs less. Prompts are random tokens, so nothing is cached; decoding ignores the end token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

from beside_llamacpp import beside, resident_bytes

from portico import models
from portico.engines.llamacpp import LlamaCppEngine
from portico.engines.llamacpp.generating import Generator
from portico.engines.llamacpp.libllama import Library
from portico.engines.llamacpp.model import Model
from portico.engines.shared import wire
from portico.events import EngineOutput, EngineRequest, SamplingParams

RANDOM = random.Random(0)


def prompt(length: int) -> list[int]:
    return [RANDOM.randrange(1000, 30000) for _ in range(length)]


def cpu_seconds(pid: int | None) -> float:
    """CPU time of a process; 0 where /proc is missing."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(engine: LlamaCppEngine, streams: int, prompt_tokens: int, new_tokens: int) -> dict[str, Any]:
    """Run ``streams`` requests at once: rates of the prompts up to the last first token, and of decoding after it."""
    waiting = {f"{streams}-{RANDOM.random()}": False for _ in range(streams)}
    started, cpu = time.perf_counter(), cpu_seconds(engine.pid)
    for request_id in waiting:
        sampling = SamplingParams(max_tokens=new_tokens, temperature=0.0, ignore_eos=True)
        await engine.submit(EngineRequest(request_id, prompt(prompt_tokens), sampling))
    first, first_cpu = 0.0, 0.0
    decoded, steps, own = 0, 0, 0.0
    async for outputs in engine.steps():
        if first:
            decoded += sum(len(output.token_ids) for output in outputs)
            steps += 1
        for output in outputs:
            waiting[output.request_id] = True
            if output.finish_reason is not None:
                del waiting[output.request_id]
        if not first and all(waiting.values()):
            first, first_cpu, own = time.perf_counter(), cpu_seconds(engine.pid), time.process_time()
        if not waiting:
            break
    wall, used = time.perf_counter() - first, cpu_seconds(engine.pid) - first_cpu
    return {
        "prefill_tok_s": round(streams * prompt_tokens / (first - started), 1),
        "prefill_tok_per_cpu_s": round(streams * prompt_tokens / max(first_cpu - cpu, 1e-9), 1) if first_cpu else None,
        "decode_tok_s": round(decoded / wall, 1) if decoded else None,
        "decode_tok_per_cpu_s": round(decoded / used, 1) if decoded and used else None,
        "parent_cpu_us_per_step": round((time.process_time() - own) / steps * 1e6, 1) if steps else None,
    }


def step_overhead(path: Path) -> dict[str, float]:
    """Microseconds of one decode step of eight sequences spent outside of ``llama_decode``; medians.

    Runs the engine in this process: libllama's sampling and everything in Python, but not the socket.
    """
    generator = Generator(
        Model(Library(), str(path)),
        context_length=1024,
        max_sequences=8,
        threads=1,
        batch_tokens=512,
        cache_tokens=None,
    )
    context, decoding = generator._context, [0.0]
    decode = context.decode

    def timed(batch: Any) -> None:
        at = time.perf_counter()
        decode(batch)
        decoding[0] = time.perf_counter() - at

    context.decode = timed  # type: ignore[method-assign]
    result = {}
    for name, rules in (
        ("greedy", {"temperature": 0.0}),
        ("top_p", {"temperature": 0.8, "top_p": 0.95}),
        ("logprobs_5", {"temperature": 0.0, "logprobs": 5}),
    ):
        for number in range(8):
            sampling = SamplingParams(max_tokens=24, ignore_eos=True, **rules)  # type: ignore[arg-type]
            generator.submit(EngineRequest(f"{name}{number}", prompt(8), sampling), None)
        samples = []
        while not generator.idle:
            at = time.perf_counter()
            outputs = generator.step()
            if len(outputs) == 8:
                samples.append(time.perf_counter() - at - decoding[0])
        result[name] = round(statistics.median(samples) * 1e6, 1)
    return result


def hand_over() -> float:
    """Microseconds in the parent for one step of eight outputs, from the frame's bytes to the list; no event loop."""
    frame = wire.encode(wire.Step([EngineOutput(str(n), (1000 + n,)) for n in range(8)]))
    reader, rounds = wire.FrameReader(), 20000
    at = time.process_time()
    for _ in range(rounds):
        for message in reader.feed(frame):
            wire.from_hub.decode(message)
    return round((time.process_time() - at) / rounds * 1e6, 2)


async def run(path: Path, threads: int | None) -> dict[str, Any]:
    engine = LlamaCppEngine(path, model_id=path.stem, threads=threads)
    started = time.perf_counter()
    await engine.start()
    result: dict[str, Any] = {"load_s": round(time.perf_counter() - started, 2)}
    await measure(engine, 1, 8, 4)  # warm up
    result["prefill_1024"] = await measure(engine, 1, 1024, 1)
    result["one_stream"] = await measure(engine, 1, 16, 128)
    result["eight_streams"] = await measure(engine, 8, 16, 128)
    result["resident_mb"] = round(resident_bytes(engine.pid) / 1e6)
    await engine.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2", help="a pulled model's name, or a path")
    parser.add_argument("--threads", type=int, help="engine threads; default: one per available core")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--beside", action="store_true", help="compare with llama.cpp's own server")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the comparison")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer in the comparison")
    parser.add_argument("--busy", type=int, default=0, help="busy loops beside the comparison")
    parser.add_argument(
        "--with",
        action="append",
        default=[],
        dest="others",
        metavar="NAME=VALUE,…",
        help="compare with these variables",
    )
    arguments = parser.parse_args()
    path = models.resolve(arguments.model).path
    if arguments.beside:
        others = [dict(pair.split("=", 1) for pair in other.split(",")) for other in arguments.others]
        given = (arguments.threads or 2, arguments.rounds, arguments.tokens, arguments.busy, others)
        result = asyncio.run(beside(path, *given))
    else:
        result = asyncio.run(run(path, arguments.threads))
        result["step_overhead_us"] = step_overhead(path)
        result["hand_over_us_per_step"] = hand_over()
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:24} {value}")


if __name__ == "__main__":
    main()
