"""The replay engine: plays given token ids back, at a chosen pace. It infers nothing, and is named for what it is.

For tests, demos and benchmarks: the whole line runs as it would over a real engine, with known output. Scripts are
played in turn, one per request; a request's sampling rules that do not need a model (``max_tokens``, stop tokens)
still hold. Every token had probability one, so its logprob is 0. An answer that is taken up (``generated``) goes on in
the script that begins as it does.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Sequence

from msgspec import Struct

from portico.engines import EmbeddingBatch, EngineInfo
from portico.engines.resuming import EVERYTHING
from portico.errors import ContextLengthError, EngineDeadError
from portico.events import EngineOutput, EngineRequest, FinishReason, TokenLogprob

__all__ = ["ReplayEngine", "Script"]


class Script(Struct, frozen=True):
    """What one request gets: token ids, then how it ends.

    ``finish_reason`` other than ``stop`` and ``length`` plays an engine's failure; ``stop_token`` is the token that a
    real engine would have ended on.
    """

    token_ids: Sequence[int]
    finish_reason: FinishReason = "stop"
    stop_token: int | None = None
    error: str | None = None


class _Playing(Struct):
    request: EngineRequest
    script: Script
    position: int = 0


class ReplayEngine:
    """Plays ``scripts`` in turn, or what ``choose(request)`` returns.

    ``tokens_per_step`` tokens go to every running request in each step; steps come ``interval`` seconds apart
    (0: as fast as they are taken). Whoever comes between two has a first step at once: what a request waits for its
    first token does not depend on who else is there.
    """

    def __init__(
        self,
        scripts: Sequence[Script] = (),
        *,
        choose: Callable[[EngineRequest], Script] | None = None,
        tokens_per_step: int = 1,
        interval: float = 0.0,
        info: EngineInfo | None = None,
    ) -> None:
        if not scripts and choose is None:
            raise ValueError("ReplayEngine needs scripts or a function that chooses one")
        self.info = info or EngineInfo(
            model="replay",
            context_length=1 << 20,
            vocab_size=1 << 20,
            capabilities=frozenset({"generate", "logprobs", "embed"}),
            embedding_size=16,
            resumes=EVERYTHING,
        )
        self.healthy = True
        self._scripts = list(scripts)
        self._choose = choose or self._next_script
        self._served = 0
        self._tokens_per_step = tokens_per_step
        self._interval = interval
        self._playing: dict[str, _Playing] = {}
        self._new: dict[str, _Playing] = {}  # those of them who have had no step
        self._wake = asyncio.Event()
        self._closed = False

    def _next_script(self, request: EngineRequest) -> Script:
        begun = list(request.generated)
        for script in self._scripts if begun else ():
            if list(script.token_ids[: len(begun)]) == begun:
                return script
        script = self._scripts[self._served % len(self._scripts)]
        self._served += 1
        return script

    async def start(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """End what is playing with finish reason ``abort``; ``steps`` ends after that."""
        self._closed = True
        self._wake.set()

    async def submit(self, request: EngineRequest) -> None:
        """Start playing the next script to this request."""
        if self._closed:
            raise EngineDeadError("The replay engine is closed.")
        if len(request.token_ids) >= self.info.context_length:
            raise ContextLengthError(
                f"The prompt has {len(request.token_ids)} tokens; this model takes {self.info.context_length}."
            )
        playing = _Playing(request, self._choose(request), len(request.generated))
        self._playing[request.request_id] = self._new[request.request_id] = playing
        self._wake.set()

    def abort(self, request_id: str) -> None:
        """Stop playing to this request; unknown ids are ignored."""
        self._playing.pop(request_id, None)
        self._new.pop(request_id, None)

    async def steps(self) -> AsyncIterator[list[EngineOutput]]:
        """One list per step, with the next tokens of every running request."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._closed:
            self._wake.clear()
            if not self._playing:
                await self._wake.wait()
                due = loop.time()
                continue
            if loop.time() >= due:
                yield self._step(self._playing)
                due += self._interval
            elif self._new:
                yield self._step(self._new)
            await self._pause(due - loop.time())
        yield [EngineOutput(request_id, (), finish_reason="abort") for request_id in self._playing]

    async def _pause(self, seconds: float) -> None:
        """Let others have their turn; for so long, unless a request has come meanwhile."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        timer.cancel()

    def _step(self, who: dict[str, _Playing]) -> list[EngineOutput]:
        outputs = [self._advance(request_id, playing) for request_id, playing in who.items()]
        self._new = {}
        for output in outputs:
            if output.finish_reason is not None:
                del self._playing[output.request_id]
        return outputs

    def _advance(self, request_id: str, playing: _Playing) -> EngineOutput:
        script, sampling = playing.script, playing.request.sampling
        room = sampling.max_tokens - playing.position
        ids = script.token_ids[playing.position : playing.position + min(self._tokens_per_step, room)]
        playing.position += len(ids)
        output = EngineOutput(request_id, ids)
        if playing.position == len(ids):  # its first output; of an answer that is taken up there is none
            output.cached_tokens = 0
        stop = next((i for i, token in enumerate(ids) if token in sampling.stop_token_ids), None)
        if stop is not None:
            output.token_ids, output.stop_token, output.finish_reason = ids[:stop], ids[stop], "stop"
        elif playing.position >= len(script.token_ids):
            output.finish_reason, output.error = script.finish_reason, script.error
            output.stop_token = script.stop_token if script.finish_reason == "stop" else None
        elif playing.position >= sampling.max_tokens:
            output.finish_reason = "length"
        if sampling.logprobs is not None:
            top = tuple((one, 0.0) for one in sampling.logprob_ids)
            output.logprobs = [
                TokenLogprob(t, 0.0, top or ((t, 0.0),) * bool(sampling.logprobs)) for t in output.token_ids
            ]
        return output

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """Unit vectors that depend on nothing but the token ids: equal inputs, equal vectors."""
        import numpy as np  # ten megabytes: only where there are vectors

        size = self.info.embedding_size or 16
        vectors = np.empty((len(token_id_lists), size), dtype=np.float32)
        for row, ids in enumerate(token_id_lists):
            seed = zlib.crc32(np.asarray(ids, dtype=np.int64).tobytes())
            vector = np.random.default_rng(seed).standard_normal(size)
            vectors[row] = vector / np.linalg.norm(vector)
        return EmbeddingBatch(vectors, [len(ids) for ids in token_id_lists])
