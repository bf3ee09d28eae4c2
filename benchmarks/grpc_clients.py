"""What a message costs the client of a gRPC stream, by the way it is read.

    python benchmarks/grpc_clients.py [STREAMS] [TOKENS] [TOKENS_PER_SECOND]

The server is that of ``messages_between``. Printed is the client's processor time per token, system calls included:

    frames      the client of ``portico.engines.grpc.http2``, which ``GrpcEngine`` has, messages parsed
    parsed      grpc.aio, one task per stream, messages parsed
    raw         the same, messages left as bytes
    iterated    the same, by ``async for``
    uvloop      raw, on uvloop, where ``frames`` is too
    threads     the blocking client, one thread per stream
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import uvloop

from portico.engines.grpc.http2 import Call, Channel, RpcError
from portico.protos import vllm_engine_pb2 as pb

SERVER = Path(__file__).resolve().parent / "messages_between.py"
CALL = "/vllm.grpc.engine.VllmEngine/Generate"


def main() -> None:
    """Run each kind against a server of its own."""
    streams, tokens, rate = (int(given) for given in (sys.argv[1:] + ["64", "200", "50"][len(sys.argv) - 1 :])[:3])
    kinds: dict[str, Callable[[int, bytes], int]] = {
        "frames": lambda port, ask: uvloop.run(_frames(port, ask, streams)),
        "parsed": lambda port, ask: asyncio.run(_tasks(port, ask, streams, pb.GenerateResponse.FromString)),
        "raw": lambda port, ask: asyncio.run(_tasks(port, ask, streams)),
        "iterated": lambda port, ask: asyncio.run(_tasks(port, ask, streams, iterate=True)),
        "uvloop": lambda port, ask: uvloop.run(_tasks(port, ask, streams)),
        "threads": lambda port, ask: _threads(port, ask, streams),
    }
    for name, run in kinds.items():
        server = subprocess.Popen(
            [sys.executable, SERVER, "--serve", "grpc", str(tokens), str(rate), "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        port = int(server.stdout.readline())
        started = time.process_time()
        messages = run(port, _request(tokens))
        spent = time.process_time() - started
        server.kill()
        server.wait()
        print(f"{name:8} {spent / streams / tokens * 1e6:6.1f} us per token, {messages} messages")


def _request(tokens: int) -> bytes:
    request = pb.GenerateRequest(stream=True)
    request.tokenized.input_ids.extend([97, 97])
    request.sampling_params.max_tokens = tokens
    return request.SerializeToString()


async def _frames(port: int, request: bytes, streams: int) -> int:
    messages, over, done = 0, 0, asyncio.Event()

    class Counting(Call):
        def message(self, data: bytes) -> None:
            nonlocal messages
            pb.GenerateResponse.FromString(data)
            messages += 1

        def over(self, error: RpcError | None) -> None:
            nonlocal over
            assert error is None, error
            over += 1
            if over == streams:
                done.set()

    channel = Channel(f"127.0.0.1:{port}")
    for _ in range(streams):
        await channel.begin(Counting(), CALL, request)
    await done.wait()
    await channel.close()
    return messages


async def _tasks(
    port: int, request: bytes, streams: int, parse: Callable[[bytes], Any] | None = None, iterate: bool = False
) -> int:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        generate: Any = channel.unary_stream(CALL, response_deserializer=parse)

        async def one() -> int:
            call, messages = generate(request), 0
            if iterate:
                async for _ in call:
                    messages += 1
            else:
                while await call.read() is not grpc.aio.EOF:
                    messages += 1
            return messages

        return sum(await asyncio.gather(*(one() for _ in range(streams))))


def _threads(port: int, request: bytes, streams: int) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        generate: Any = channel.unary_stream(CALL)
        counts = [0] * streams

        def one(number: int) -> None:
            for _ in generate(request):
                counts[number] += 1

        threads = [threading.Thread(target=one, args=(number,)) for number in range(streams)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts)


if __name__ == "__main__":
    main()
