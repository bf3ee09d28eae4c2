"""The ``Engine`` over one or several hosts with the same model.

- A request goes to a healthy host by ``placement``: see there. A host that turns out to be gone before it has said
  anything is passed over for the next; once there is output, there is no second try: what was lost is said to be.
- What the hosts say between two ticks of the event loop is one step.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from portico.engines import Described, EmbeddingBatch
from portico.engines.grpc.calls import CallHost
from portico.engines.grpc.host import Host
from portico.engines.grpc.steps import StepHost
from portico.engines.placement import Placement
from portico.engines.resuming import needs
from portico.errors import BadRequestError, EngineDeadError, EngineError, EngineLostError, NotSupportedError
from portico.events import EngineOutput, EngineRequest, Media

__all__ = ["SCHEMES", "GrpcEngine"]

log = logging.getLogger("portico")

SCHEMES: Final[dict[str, type[Host]]] = {
    "portico": StepHost,
    "porticos": StepHost,
    "grpc": CallHost,
    "grpcs": CallHost,
}
START_SECONDS: Final = 600.0  # that a first host gets to load its model
RETURN_SECONDS: Final = 10.0  # that a request waits for a host to come back
EMBEDDINGS_AT_ONCE: Final = 32
_CONSTRAINTS: Final = frozenset({"constraints", "structural_tags"})  # each host gets those that it takes


class _Asked(NamedTuple):
    """A request, while it is at a host."""

    host: Host
    needs: frozenset[str]  # what another must be able to take up


class GrpcEngine(Described):
    """``target`` is ``portico://host:port[,host:port…]`` for what ``portico engine`` serves, ``grpc://…`` for vLLM's
    protocol; ``porticos://`` and ``grpcs://`` are the same over TLS. ``key`` is sent to the hosts."""

    def __init__(
        self,
        target: str,
        *,
        key: str | None = None,
        placement: Placement | None = None,
        start_seconds: float = START_SECONDS,
    ) -> None:
        scheme, _, addresses = target.partition("://")
        names = [one.strip() for one in addresses.split(",") if one.strip()]
        if scheme not in SCHEMES or not names:
            raise BadRequestError(
                "An engine elsewhere is named portico://HOST:PORT[,HOST:PORT…] or grpc://HOST:PORT[,…].", param="engine"
            )
        for name in names:
            if not name.rpartition(":")[2].isdecimal():
                raise BadRequestError(f"The engine at '{name}' has no port: HOST:PORT.", param="engine")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise BadRequestError("The engines' key has characters that no key has.", param="engine_api_key")
        self._hosts = [SCHEMES[scheme](name, key=key, secure=scheme.endswith("s")) for name in names]
        self._placement = placement or Placement()
        self._start_seconds = start_seconds
        self._changed = asyncio.Event()  # a host's health has turned
        self._asked: dict[str, _Asked] = {}
        self._outputs: list[EngineOutput] = []
        self._stepped = asyncio.Event()
        self._closed = False

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """Whether any host can take requests."""
        return not self._closed and any(host.healthy for host in self._hosts)

    @property
    def cache_usage(self) -> float | None:
        """The mean of the hosts that say."""
        told = [usage for host in self._hosts if (usage := host.cache_usage) is not None]
        return sum(told) / len(told) if told else None

    async def start(self) -> None:
        """Wait for a first host, as long as it may take to load a model, and learn what it has."""
        if self._info is not None:
            return
        for host in self._hosts:
            host.start(partial(self._deliver, host), partial(self._turned, host))
        first = await self._host(set(), self._start_seconds)
        known = [one for host in self._hosts if (one := host.info) is not None]
        assert first.info is not None
        for host in self._hosts:
            if host.info is not None and host.info.vocab_size != first.info.vocab_size:
                raise EngineError(f"{first.address} and {host.address} have different models.")
        capabilities = frozenset.intersection(*(info.capabilities for info in known))
        self._info = replace(
            first.info,
            capabilities=capabilities.union(*(info.capabilities & _CONSTRAINTS for info in known)),
            resumes=frozenset.intersection(*(info.resumes for info in known)),
            metadata={**first.info.metadata, "hosts": len(self._hosts)},
        )

    async def fetch_tokenizer(self, directory: Path) -> None:
        """Write the tokenizer's files of a host into ``directory``. Raises ``EngineError`` where there are none."""
        host = await self._host(set(), RETURN_SECONDS)
        await host.fetch_tokenizer(directory)
        try:  # the model's further ends, which its facts do not tell
            ends = json.loads((directory / "generation_config.json").read_bytes())["eos_token_id"]
        except (OSError, ValueError, KeyError, TypeError):
            return
        for host in self._hosts:
            host.more_ends = frozenset(ends if isinstance(ends, list) else [ends])

    async def close(self) -> None:
        """End every request, then the connections. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for request_id in list(self._asked):
            self.abort(request_id)
            self._push([EngineOutput(request_id, (), finish_reason="abort")])
        await asyncio.gather(*(host.close() for host in self._hosts))
        self._stepped.set()
        self._changed.set()

    # -- requests -----------------------------------------------------------------------------------------------------

    async def submit(self, request: EngineRequest) -> None:
        """Hand the request to a host. Raises what the host refuses it for, or ``EngineDeadError``."""
        if request.request_id in self._asked:
            raise BadRequestError("A request with this id is already running.", param="request_id")
        wanted = needs(request)
        tried: set[Host] = set()
        while True:
            host = await self._host(tried, RETURN_SECONDS, request)
            if request.generated and host.info is not None and not wanted <= host.info.resumes:
                tried.add(host)
                continue
            asked = self._asked[request.request_id] = _Asked(host, wanted)
            host.in_flight += 1
            try:
                await host.submit(request)
                return
            except EngineDeadError:
                if self._asked.get(request.request_id) is not asked:  # aborted meanwhile
                    raise
                self._forget(request.request_id, asked)
                host.lost()
                tried.add(host)
            except BaseException:
                self._forget(request.request_id, asked)
                raise

    def abort(self, request_id: str) -> None:
        """Stop the request at its host; unknown ids are ignored. No output for it follows."""
        asked = self._asked.get(request_id)
        if asked is not None:
            self._forget(request_id, asked)
            asked.host.abort(request_id)

    async def steps(self) -> AsyncIterator[list[EngineOutput]]:
        """What all hosts said since the last step. One consumer."""
        while True:
            await self._stepped.wait()
            self._stepped.clear()
            if self._outputs:
                outputs, self._outputs = self._outputs, []
                yield outputs
            elif self._closed:
                return

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """So many inputs in a question as the hosts take, some questions at a time. Raises ``EngineLostError`` where a
        host is lost with it."""
        if "embed" not in self.info.capabilities:
            raise NotSupportedError("This model generates; it does not embed.", param="model")
        gate = asyncio.Semaphore(EMBEDDINGS_AT_ONCE)
        together = self._hosts[0].embeds_together

        async def some(inputs: Sequence[Sequence[int]]) -> EmbeddingBatch:
            async with gate:
                host = await self._host(set(), RETURN_SECONDS)
                try:
                    return await host.embed(inputs)
                except EngineDeadError as error:
                    host.lost()
                    raise EngineLostError(error.message, retry_after=1) from None

        starts = range(0, len(token_id_lists), together)
        found = await asyncio.gather(*(some(token_id_lists[start : start + together]) for start in starts))
        vectors = np.concatenate([batch.vectors for batch in found])
        return EmbeddingBatch(vectors, [count for batch in found for count in batch.prompt_tokens])

    async def expand(self, media: Media) -> list[int]:
        """The prompt as a host will compute it. Raises ``EngineLostError`` where that is lost with it."""
        host = await self._host(set(), RETURN_SECONDS)
        try:
            return await host.expand(media)
        except EngineDeadError as error:
            host.lost()
            raise EngineLostError(error.message, retry_after=1) from None

    async def flush_cache(self) -> bool:
        """Ask every host to forget its prefixes; True when all have."""
        answers = await asyncio.gather(*(host.flush_cache() for host in self._hosts), return_exceptions=True)
        return all(one is True for one in answers)

    # -- hosts and what they say --------------------------------------------------------------------------------------

    def _turned(self, host: Host) -> None:
        """A host's health has turned. One that says itself that it takes no more is about to leave: what can go on at
        another is lost there now, and not when it has gone."""
        self._changed.set()
        if not host.leaving or self._info is None or not any(other.healthy for other in self._hosts):
            return
        for request_id, asked in list(self._asked.items()):
            if asked.host is host and asked.needs <= self._info.resumes:
                self.abort(request_id)
                lost = EngineOutput(request_id, (), finish_reason="lost", error="The engine is leaving.")
                self._push([lost])

    async def _host(self, tried: set[Host], patience: float, request: EngineRequest | None = None) -> Host:
        """The healthy host for this request, or with the least to do; waits up to ``patience`` seconds for one to be
        healthy."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while not self._closed:
            able = [host for host in self._hosts if host.healthy and host not in tried]
            if able and request is not None:
                chosen = self._placement.choose({host.address: host.in_flight for host in able}, request)
                return next(host for host in able if host.address == chosen)
            if able:
                return min(able, key=lambda host: host.in_flight)
            self._changed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                break
            tried = {host for host in tried if not host.healthy}  # who is back may be asked again
        trouble = "; ".join(f"{host.address}: {host.trouble or 'the connection was lost'}" for host in self._hosts)
        log.error("no engine can be reached: %s", trouble)
        if self._info is None:
            raise EngineError(f"No engine can be reached: {trouble}.")
        raise EngineDeadError("The engine is not available: none of its hosts answers.", retry_after=1)

    def _deliver(self, host: Host, outputs: list[EngineOutput]) -> None:
        at = self._asked
        wanted = [  # others were aborted
            output for output in outputs if (asked := at.get(output.request_id)) is not None and asked.host is host
        ]
        for output in wanted:
            if output.finish_reason is not None:
                self._forget(output.request_id, at[output.request_id])
        self._push(wanted)

    def _forget(self, request_id: str, asked: _Asked) -> None:
        """It is no longer there, if it still was."""
        if self._asked.get(request_id) is asked:
            del self._asked[request_id]
            asked.host.in_flight -= 1

    def _push(self, outputs: list[EngineOutput]) -> None:
        self._outputs += outputs
        self._stepped.set()
