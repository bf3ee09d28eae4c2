"""One host: a channel that reconnects by itself, and whether it can be given work.

Whether it can is asked every ``CHECK_SECONDS``. A host that does not answer, says that it is not healthy, or has come
back with another model gets no new requests. When nothing at all has come from it for ``SILENCE_SECONDS``, the other
end is gone without a word: the channel is closed, which ends the requests on it, and opened anew.
"""

from __future__ import annotations

import asyncio
import io
import logging
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from portico.engines import EmbeddingBatch, EngineInfo
from portico.engines.grpc.messages import error_of
from portico.errors import EngineError, NotSupportedError, PorticoError
from portico.events import EngineOutput, EngineRequest, Media
from portico.protos import smg_common_pb2 as common

__all__ = ["CHECK_DEADLINE", "CHECK_SECONDS", "SILENCE_SECONDS", "Host", "rpc_error"]

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


class Host(ABC):
    """``address`` is ``host:port``. ``key`` goes with every call; ``secure`` speaks TLS, trusting the usual roots."""

    embeds_together = 1  # inputs in one question

    def __init__(self, address: str, *, key: str | None = None, secure: bool = False) -> None:
        self.address = address
        self.metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._secure = secure
        self._open()
        self.info: EngineInfo | None = None  # when it has once been healthy
        self.more_ends: frozenset[int] = frozenset()  # tokens that end an answer, beside those that it tells
        self.in_flight = 0
        self.healthy = False
        self.trouble = "it has not answered yet"
        self.leaving = False  # it answers, and says that it takes no requests
        self.deliver: Callable[[list[EngineOutput]], None] = lambda outputs: None
        self._checking: asyncio.Task[None] | None = None
        self._look = asyncio.Event()  # it may have turned: look now

    @property
    def cache_usage(self) -> float | None:
        """The share of its KV cache that running requests hold, where it says."""
        return None

    # -- what it is asked ---------------------------------------------------------------------------------------------

    @abstractmethod
    async def submit(self, request: EngineRequest) -> None:
        """Hand the request over; returns when it is accepted. Raises what it is refused for, or ``EngineDeadError``
        where the host is gone."""

    @abstractmethod
    def abort(self, request_id: str) -> None:
        """Stop a request; unknown ids are ignored."""

    @abstractmethod
    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """Embed so many inputs as go together. Raises as ``submit`` does."""

    async def expand(self, media: Media) -> list[int]:
        """The prompt as it will be computed. Raises as ``submit`` does."""
        raise NotSupportedError("This engine's protocol has no media.")

    @abstractmethod
    async def flush_cache(self) -> bool:
        """Whether it has forgotten its prefixes."""

    @abstractmethod
    def _new_stub(self) -> Any:
        """The calls of its service, on the channel."""

    @abstractmethod
    async def _check(self) -> str:
        """What is wrong; empty if nothing is. Raises ``AioRpcError`` where it does not answer."""

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self, deliver: Callable[[list[EngineOutput]], None], on_change: Callable[[], None]) -> None:
        """Keep ``healthy`` up to date from now on; ``on_change`` is called when it turns, ``deliver`` gets what it
        gives."""
        self.deliver = deliver
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

    def _open(self) -> None:
        self._channel = (
            grpc.aio.secure_channel(self.address, grpc.ssl_channel_credentials(), _OPTIONS)
            if self._secure
            else grpc.aio.insecure_channel(self.address, _OPTIONS)
        )
        self.stub: Any = self._new_stub()

    async def _open_anew(self) -> None:
        await self._channel.close()
        self._open()

    async def _check_for_ever(self, on_change: Callable[[], None]) -> None:
        while True:
            was, before = self.healthy, self.trouble
            self._look.clear()
            try:
                self.trouble = await self._check()
            except grpc.aio.AioRpcError as error:
                self.trouble = f"it does not answer ({error.code().name}: {(error.details() or '')[:200]})"
            self.healthy = not self.trouble
            if self.healthy != was or (not self.healthy and self.trouble != before):
                log.log(
                    logging.INFO if self.healthy else logging.WARNING,
                    "engine %s: %s",
                    self.address,
                    self.trouble or "ready",
                )
                on_change()
            timer = asyncio.get_running_loop().call_later(CHECK_SECONDS, self._look.set)
            await self._look.wait()
            timer.cancel()

    def _meet(self, info: EngineInfo) -> str:
        """What is wrong with what it says of itself: a host that comes back must have the model that it had."""
        if self.info is not None and _identity(info) != _identity(self.info):
            return f"it now has another model ({info.model})"
        self.info = info
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


def _identity(info: EngineInfo) -> tuple[str, int, int]:
    return info.model, info.vocab_size, info.context_length


def rpc_error(error: grpc.aio.AioRpcError) -> PorticoError:
    """The error that a call's end means to the client of this request."""
    trailing = dict(error.trailing_metadata() or ())
    param = trailing.get("portico-param")
    return error_of(error.code().name, error.details() or "", param if isinstance(param, str) else None)
