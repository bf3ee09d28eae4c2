"""An engine core as vLLM's front ends see one, that plays a replay script: no model, no weights, no vLLM.

    python benchmarks/peers/vllm_core.py --front-end tcp://127.0.0.1:PORT --script FILE [--rate 50]

It joins a front end that waits for its engines (``--data-parallel-size-local 0``): HELLO, the addresses in return,
READY. Then requests come in over one ZeroMQ socket, and a message per step goes out over another, both in msgpack and
laid out as ``vllm.v1.engine`` lays them out (0.33). A step has the next token of every answer that is running, as
vLLM's scheduler gives it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

import uvloop
import zmq.asyncio
from msgspec import msgpack

from portico.engines.replay import ReplayEngine, Script
from portico.events import EngineOutput, EngineRequest, SamplingParams

IDENTITY = (0).to_bytes(2, "little")  # the first rank's
ADD, ABORT, UTILITY = b"\x00", b"\x01", b"\x03"
FINISHED = {"stop": 0, "length": 1, "abort": 2, "error": 3}
REQUEST_ID, PROMPT_IDS, SAMPLING = 0, 1, 3  # places in a request
UTILITIES = {"get_supported_tasks": ["generate"]}
CONTEXT, BLOCK = 1 << 16, 16
READY = {
    "max_model_len": CONTEXT,
    "num_gpu_blocks": CONTEXT,
    "block_size": BLOCK,
    "dp_stats_address": None,
    "dtype": "float32",
    "vllm_version": "0.33.0",
    "world_size": 1,
    "data_parallel_size": 1,
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "decode_context_parallel_size": 1,
    "data_parallel_rank": 0,
    "max_num_seqs": 4096,
    "max_num_batched_tokens": CONTEXT,
    "instance_id": "replay",
    "supports_lora": False,
    "max_loras": 0,
}


async def join(front_end: str) -> tuple[zmq.asyncio.Socket, zmq.asyncio.Socket]:
    """Greet the front end: where its requests come from, and where outputs go."""
    context = zmq.asyncio.Context.instance()

    def connected(kind: int, address: str) -> zmq.asyncio.Socket:
        made = context.socket(kind)
        made.identity = IDENTITY
        made.connect(address)
        return made

    greeting = {"local": False, "headless": True}
    handshake = connected(zmq.DEALER, front_end)
    await handshake.send(msgpack.encode({"status": "HELLO", **greeting}))
    addresses = msgpack.decode(await handshake.recv())["addresses"]
    requests, outputs = connected(zmq.DEALER, addresses["inputs"][0]), connected(zmq.PUSH, addresses["outputs"][0])
    await requests.send(msgpack.encode(READY))
    await handshake.send(msgpack.encode({"status": "READY", **greeting}))
    return requests, outputs


def asked(fields: list[Any]) -> EngineRequest:
    """The request, as far as it matters to what is played."""
    sampling = SamplingParams(max_tokens=fields[SAMPLING].get("max_tokens") or CONTEXT)
    return EngineRequest(fields[REQUEST_ID], fields[PROMPT_IDS], sampling)


def told(output: EngineOutput) -> list[Any]:
    """One request's part of a step; what is left out behind the last field has its default."""
    fields: list[Any] = [output.request_id, list(output.token_ids)]
    if output.finish_reason is not None:
        fields += [None, None, None, FINISHED[output.finish_reason]]
    return fields


async def listen(requests: zmq.asyncio.Socket, outputs: zmq.asyncio.Socket, engine: ReplayEngine) -> None:
    """Take what the front end sends."""
    while True:
        kind, *frames = await requests.recv_multipart()
        said = msgpack.decode(frames[0])
        if kind == ADD:
            await engine.submit(asked(said))
        elif kind == ABORT:
            for request_id in said:
                engine.abort(request_id)
        elif kind == UTILITY:  # what it asks besides; of most it wants to know no more than that it was done
            _client, call, name, _arguments = said
            await outputs.send(msgpack.encode([0, [], None, 0.0, [call, None, [None, UTILITIES.get(name)]]]))


async def tell(outputs: zmq.asyncio.Socket, engine: ReplayEngine) -> None:
    """Send each step as one message."""
    async for step in engine.steps():
        done = [output.request_id for output in step if output.finish_reason is not None]
        now = asyncio.get_running_loop().time()
        await outputs.send(msgpack.encode([0, [told(output) for output in step], None, now, None, done or None]))


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--front-end", required=True, metavar="ADDRESS", help="where it waits for its engines")
    options.add_argument("--script", type=Path, required=True, help="as --engine replay:FILE takes it")
    options.add_argument("--rate", type=float, default=0.0, help="steps a second; 0 is no limit")
    given = options.parse_args()
    scripts = [Script(json.loads(line)["token_ids"]) for line in given.script.read_text().splitlines()]
    engine = ReplayEngine(scripts, interval=1 / given.rate if given.rate else 0.0)
    requests, outputs = await join(given.front_end)
    async with asyncio.TaskGroup() as both:  # if one fails, the core is gone, and the front end says so
        both.create_task(listen(requests, outputs, engine))
        both.create_task(tell(outputs, engine))


if __name__ == "__main__":
    uvloop.run(main())
