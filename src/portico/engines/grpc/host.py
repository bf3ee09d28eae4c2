"""One host: a channel that reconnects by itself, and whether it can be given work.

Whether it can is asked every ``CHECK_SECONDS``. A host that does not answer, says that it is not healthy, or has come
back with another model gets no new requests. When nothing at all has come from it for ``SILENCE_SECONDS``, the other
end is gone without a word: its connections are dropped, which ends the requests on them.
"""

from __future__ import annotations

import asyncio
import io
import logging
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from google.protobuf.message import DecodeError, Message

from portico.engines import EmbeddingBatch, EngineInfo
from portico.engines.grpc.http2 import Channel, RpcError
from portico.engines.grpc.messages import error_of
from portico.errors import EngineError, NotSupportedError, PorticoError
from portico.events import EngineOutput, EngineRequest, Media
from portico.protos import smg_common_pb2 as common

__all__ = ["CHECK_DEADLINE", "CHECK_SECONDS", "SILENCE_SECONDS", "Host", "parsed", "rpc_error"]

log = logging.getLogger("portico")

CHECK_SECONDS: Final = 1.0
CHECK_DEADLINE: Final = 5.0  # seconds that a host gets to say that it is well
SILENCE_SECONDS: Final = 10.0
TOKENIZER_DEADLINE: Final = 60.0
MOST_TOKENIZER_BYTES: Final = 256 << 20

Answer = TypeVar("Answer", bound=Message)


class Host(ABC):
    """``address`` is ``host:port``. ``key`` goes with every call; ``secure`` speaks TLS, trusting the usual roots;
    ``after_read`` is the channel's."""

    service: ClassVar[str]  # the full name of what it serves
    embeds_together = 1  # inputs in one question

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        secure: bool = False,
        after_read: Callable[[], None] = lambda: None,
    ) -> None:
        self.address = address
        fields = [("authorization", f"Bearer {key}")] if key else []
        self._channel = Channel(address, fields=fields, secure=secure, after_read=after_read)
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
    async def _check(self) -> str:
        """What is wrong; empty if nothing is. Raises ``RpcError`` where it does not answer."""

    async def _ask(self, name: str, request: Message, answer: type[Answer], seconds: float | None) -> Answer:
        """The answer to a call that has one message. Raises ``RpcError``."""
        found = await self._channel.ask(f"/{self.service}/{name}", request.SerializeToString(), seconds=seconds)
        if len(found) != 1:
            raise RpcError("INTERNAL", "The answer is not one message.")
        return parsed(answer, found[0])

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

    async def _check_for_ever(self, on_change: Callable[[], None]) -> None:
        while True:
            was, before = self.healthy, self.trouble
            self._look.clear()
            try:
                self.trouble = await self._check()
            except RpcError as error:
                self.trouble = f"it does not answer ({error.code}: {error.details[:200]})"
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
        method, request = f"/{self.service}/GetTokenizer", common.GetTokenizerRequest().SerializeToString()
        try:
            found = await self._channel.ask(method, request, seconds=TOKENIZER_DEADLINE, most=MOST_TOKENIZER_BYTES)
            archive = b"".join(parsed(common.GetTokenizerChunk, chunk).data for chunk in found)
            files = zipfile.ZipFile(io.BytesIO(archive))
            for name in files.namelist():  # plain names only: the archive is another machine's word
                if name == Path(name).name and files.getinfo(name).file_size <= MOST_TOKENIZER_BYTES:
                    (directory / name).write_bytes(files.read(name))
        except (RpcError, zipfile.BadZipFile) as error:
            reason = error.details if isinstance(error, RpcError) else str(error)
            raise EngineError(f"{self.address} gives no tokenizer ({reason}): name one with --tokenizer DIR.") from None


def _identity(info: EngineInfo) -> tuple[str, int, int]:
    return info.model, info.vocab_size, info.context_length


def parsed(kind: type[Answer], data: bytes) -> Answer:
    """The message of that kind. Raises ``RpcError`` for bytes that are none."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise RpcError("INTERNAL", "The answer is none of this protocol.") from None


def rpc_error(error: RpcError) -> PorticoError:
    """The error that a call's end means to the client of this request."""
    return error_of(error.code, error.details, error.trailers.get("portico-param"))
