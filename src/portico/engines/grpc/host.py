"""One host that serves the protocol: a channel that reconnects by itself, and whether it can be given work.

Whether it can is asked every ``CHECK_SECONDS``. A host that does not answer, says that it is not healthy, or has come
back with another model gets no new requests. When nothing at all has come from it for ``SILENCE_SECONDS``, the other
end is gone without a word: the channel is closed, which ends the requests on it, and opened anew.
"""

from __future__ import annotations

import asyncio
import io
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc

from portico.engines.resuming import AS_PROMPT
from portico.errors import EngineError
from portico.protos import smg_common_pb2 as common
from portico.protos import vllm_engine_pb2 as pb
from portico.protos.vllm_engine_pb2_grpc import VllmEngineStub

__all__ = ["Host"]

log = logging.getLogger("portico")

CHECK_SECONDS: Final = 1.0
CHECK_DEADLINE: Final = 5.0  # seconds that a host gets to say that it is well
SILENCE_SECONDS: Final = 10.0
TOKENIZER_DEADLINE: Final = 60.0
MOST_TOKENIZER_BYTES: Final = 256 << 20

_OPTIONS: Final = [
    ("grpc.max_receive_message_length", 256 << 20),
    ("grpc.max_send_message_length", 256 << 20),
    ("grpc.keepalive_time_ms", 10_000),  # the least that vLLM's server allows
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.lb_policy_name", "round_robin"),  # over the addresses of one name
    ("grpc.enable_retries", 0),  # a request that was refused goes to another host, which only the engine knows
    ("grpc.use_local_subchannel_pool", 1),
]


class Host:
    """``address`` is ``host:port``. ``key`` goes with every call; ``secure`` speaks TLS, trusting the usual roots."""

    def __init__(self, address: str, *, key: str | None = None, secure: bool = False) -> None:
        self.address = address
        self.metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._secure = secure
        self._open()
        self.model: pb.GetModelInfoResponse | None = None
        self.server_type = ""
        self.resumes = AS_PROMPT
        self.in_flight = 0
        self.healthy = False
        self.trouble = "it has not answered yet"
        self.leaving = False  # it answers, and says that it takes no requests
        self.last_heard = 0.0  # in the loop's time
        self._checking: asyncio.Task[None] | None = None

    def _open(self) -> None:
        self._channel = (
            grpc.aio.secure_channel(self.address, grpc.ssl_channel_credentials(), _OPTIONS)
            if self._secure
            else grpc.aio.insecure_channel(self.address, _OPTIONS)
        )
        self.stub: Any = VllmEngineStub(self._channel)  # type: ignore[no-untyped-call]

    @property
    def is_portico(self) -> bool:
        """Whether it is Portico's own server, which says at once whether it accepts a request."""
        return self.server_type.startswith("portico")

    @property
    def takes_lark(self) -> bool:
        """Whether it takes grammars as they are. Portico's server before an engine that does not says so."""
        return self.server_type == "portico"

    @property
    def takes_generated(self) -> bool:
        """Whether it tells what exists of an answer from the prompt, as Portico's own server does."""
        return self.resumes != AS_PROMPT

    def start(self, on_change: Callable[[], None]) -> None:
        """Keep ``healthy`` up to date from now on; ``on_change`` is called when it turns."""
        self._checking = asyncio.create_task(self._check_for_ever(on_change))

    async def close(self) -> None:
        """Close the channel; calls on it end."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        await self._channel.close()

    def lost(self) -> None:
        """A call has found the connection broken: no new requests until the next check says otherwise."""
        if self.healthy:
            self.healthy, self.trouble = False, "the connection was lost"
            log.warning("engine %s: %s", self.address, self.trouble)

    async def _check_for_ever(self, on_change: Callable[[], None]) -> None:
        while True:
            was, before = self.healthy, self.trouble
            self.trouble = await self._check()
            self.healthy = not self.trouble
            if self.healthy != was or (not self.healthy and self.trouble != before):
                log.log(
                    logging.INFO if self.healthy else logging.WARNING,
                    "engine %s: %s",
                    self.address,
                    self.trouble or "ready",
                )
                on_change()
            await asyncio.sleep(CHECK_SECONDS)

    async def _check(self) -> str:
        """What is wrong; empty if nothing is."""
        try:
            health = await self.stub.HealthCheck(
                pb.HealthCheckRequest(), metadata=self.metadata, timeout=CHECK_DEADLINE
            )
            self.last_heard = asyncio.get_running_loop().time()
            self.leaving = not health.healthy
            if self.leaving:
                return f"it says that it is not healthy ({health.message or 'no reason given'})"
            if not self.healthy:
                return await self._meet()
        except grpc.aio.AioRpcError as error:
            silent = asyncio.get_running_loop().time() - self.last_heard > SILENCE_SECONDS
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and silent:
                await self._channel.close()
                self._open()
            return f"it does not answer ({error.code().name}: {(error.details() or '')[:200]})"
        return ""

    async def _meet(self) -> str:
        """Learn which model the host has; a host that comes back must have the one it had."""
        options = {"metadata": self.metadata, "timeout": CHECK_DEADLINE}
        model = await self.stub.GetModelInfo(pb.GetModelInfoRequest(), **options)
        if self.model is not None and _identity(model) != _identity(self.model):
            return f"it now has another model ({model.served_model_name or model.model_path})"
        try:
            server = await self.stub.GetServerInfo(pb.GetServerInfoRequest(), **options)
            self.server_type = server.server_type
            self.resumes = frozenset(server.portico_resumes) or AS_PROMPT
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
        self.model = model
        return ""

    async def fetch_tokenizer(self, directory: Path) -> None:
        """Write the model's tokenizer files into ``directory``. Raises ``EngineError`` where there are none."""
        archive = bytearray()
        try:
            async for chunk in self.stub.GetTokenizer(
                common.GetTokenizerRequest(), metadata=self.metadata, timeout=TOKENIZER_DEADLINE
            ):
                archive += chunk.data
                if len(archive) > MOST_TOKENIZER_BYTES:
                    raise EngineError(f"The tokenizer of {self.address} is too large.")
            files = zipfile.ZipFile(io.BytesIO(archive))
            for name in files.namelist():  # plain names only: the archive is another machine's word
                if name == Path(name).name and files.getinfo(name).file_size <= MOST_TOKENIZER_BYTES:
                    (directory / name).write_bytes(files.read(name))
        except (grpc.aio.AioRpcError, zipfile.BadZipFile) as error:
            reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
            raise EngineError(f"{self.address} gives no tokenizer ({reason}): name one with --tokenizer DIR.") from None


def _identity(model: pb.GetModelInfoResponse) -> tuple[str, int, int]:
    return model.served_model_name or model.model_path, model.vocab_size, model.max_context_length
