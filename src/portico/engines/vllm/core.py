"""The ``Engine`` over ``EngineCoreClient``, the client that vLLM's own server has to its engine core.

vLLM checks requests (``InputProcessor``), schedules and computes; tokenizing, decoding and parsing are ours. Tensor,
pipeline and data parallelism, several nodes and Ray are vLLM's own options: ``arguments`` are those of ``vllm serve``.

It lives in the child (``child``), and is not brought back to life there: a core that dies takes its process with it.
Loading blocks the event loop, on which nothing else is waiting yet.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import count
from typing import Any, Final

from portico.engines import Described, EmbeddingBatch, EngineInfo
from portico.engines.resuming import AS_PROMPT, as_prompt
from portico.engines.vllm.messages import engine_output, media_prompt, sampling_arguments
from portico.engines.vllm.names import find
from portico.errors import BadRequestError, EngineDeadError, EngineError, NotSupportedError
from portico.events import EngineOutput, EngineRequest, Media

__all__ = ["VllmCore"]

log = logging.getLogger("portico")

OBJECT: Final = re.compile(r"<[^<>]* at 0x[0-9A-Fa-f]+>")  # as Python shows one; it helps nobody


class VllmCore(Described):
    """``model`` is a directory in Hugging Face's layout, or a name on its hub. ``loras`` maps names to directories."""

    def __init__(self, model: str, arguments: Sequence[str] = (), *, name: str, loras: Mapping[str, str] | None = None):
        self._model = model
        self._name = name
        self._arguments = [*(["--enable-lora"] if loras is not None else []), *arguments]
        self._takes_adapters = loras is not None
        self._adapters = dict(loras or {})
        self._adapted = count(1)  # vLLM's numbers of adapters
        self._loras: dict[str, Any] = {}  # the same as vLLM's requests for them
        self._core: Any = None
        self._inputs: Any = None
        self._names: Any = None
        self._tasks: tuple[Any, ...] = ()
        self._running: dict[str, tuple[EngineRequest, bool]] = {}  # by the core's id; with whether it was taken up
        self._numbers_by_id: dict[str, str] = {}
        self._numbers = count(1)
        self._ends: frozenset[int] = frozenset()
        self._usage: dict[int, float] = {}  # of each core's KV cache
        self._closed = False
        self._aborting: set[asyncio.Task[None]] = set()

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """False once the core has died; of several, any."""
        if self._core is None or self._closed:
            return False
        resources = self._core.resources  # vLLM ends the other cores, which takes seconds, before it calls itself dead
        return not resources.engine_dead and getattr(resources.engine_manager, "failed_proc_name", None) is None

    async def start(self) -> None:
        """Load the model, which takes vLLM a minute or more. Raises ``EngineError`` with what vLLM says."""
        names = self._names = find()
        parser = names.arguments.add_cli_args(names.parser(exit_on_error=False))
        try:
            options = parser.parse_args(["--model", self._model, *self._arguments])
            config = names.arguments.from_cli_args(options).create_engine_config(usage_context=names.served)
            self._core = names.client.make_async_mp_client(config, names.executor.get_class(config), log_stats=True)
            self._inputs = names.inputs(config)
            self._tasks = await self._core.get_supported_tasks_async()
        except (Exception, SystemExit) as error:
            raise EngineError(f"vLLM cannot serve this: {error}") from error
        await self._load_adapters()
        self._describe(config)

    async def _load_adapters(self) -> None:
        """Load every adapter once, so that one which does not fit is told now and not to a client."""
        for name, path in self._adapters.items():
            await self._load_adapter(name, path)

    async def _load_adapter(self, name: str, path: str) -> None:
        adapter = self._names.adapter(name, next(self._adapted), path)
        try:
            await self._core.add_lora_async(adapter)
        except Exception as error:
            raise EngineError(f"vLLM cannot load the adapter '{name}': {error}") from error
        self._loras[name] = adapter

    async def adapt(self, name: str, path: str | None) -> None:
        """Load or unload an adapter while requests run, in place of one of that name; those that use it have what
        they need. Raises ``BadRequestError``."""
        was = self._loras.get(name)
        if path is None:
            self._loras.pop(name, None)
        else:
            try:
                await self._load_adapter(name, path)
            except EngineError as error:
                raise BadRequestError(error.message, param="lora_path") from None
        if was is not None:
            await self._core.remove_lora_async(was.lora_int_id)

    def _describe(self, config: Any) -> None:
        model = config.model_config
        generation = self._inputs.generation_config_fields or {}
        ends = {self._inputs.renderer.get_eos_token_id()}
        extra = generation.get("eos_token_id")
        ends |= set(extra if isinstance(extra, list) else [extra])
        self._ends = frozenset(end for end in ends if end is not None)
        capabilities = {"generate", "logprobs", "prompt_logprobs", "structural_tags", "priority", "cache_salt"}
        if self._takes_adapters:
            capabilities.add("lora")
        if hasattr(self._names.sampling, "logprob_token_ids"):  # in later versions
            capabilities.add("logprob_ids")
        capabilities |= self._senses()
        reasoning = getattr(config, "reasoning_config", None)
        if reasoning is not None and reasoning.enabled:
            capabilities.add("thinking_budget")
        self._info = EngineInfo(
            model=self._name,
            context_length=model.max_model_len,
            vocab_size=model.get_vocab_size(),
            capabilities=frozenset(capabilities),
            eos_token_ids=self._ends,
            resumes=AS_PROMPT,
            max_logprobs=model.max_logprobs if model.max_logprobs >= 0 else model.get_vocab_size(),
            adapters=tuple(self._loras),
            metadata={
                "engine": "vllm",
                "dtype": str(model.dtype),
                "data_parallel_size": config.parallel_config.data_parallel_size,
            },
        )

    def _senses(self) -> set[str]:
        """The kinds of media that the model takes and vLLM's options allow."""
        processor = getattr(self._inputs.renderer, "mm_processor", None)
        if processor is None or not hasattr(self._inputs.renderer, "process_for_engine_async"):
            return set()
        allowed = getattr(processor.info, "allowed_mm_limits", None) or processor.info.get_supported_mm_limits()
        return {kind for kind in ("image", "audio") if allowed.get(kind, 0) != 0}  # None: as many as one likes

    @property
    def cache_usage(self) -> float | None:
        """The share of the KV cache that running requests held after the last step; of several cores, on average."""
        return sum(self._usage.values()) / len(self._usage) if self._usage else None

    async def close(self) -> None:
        """End the core's processes. Idempotent."""
        if not self._closed:
            self._closed = True
            if self._core is not None:
                await asyncio.get_running_loop().run_in_executor(None, self._core.shutdown)

    # -- requests -----------------------------------------------------------------------------------------------------

    async def submit(self, request: EngineRequest) -> None:
        """Hand the request to the core, which vLLM checks first."""
        if not self.healthy:
            raise EngineDeadError("The engine is not available.", retry_after=5)
        if request.request_id in self._numbers_by_id:
            raise BadRequestError("A request with this id is already running.", param="request_id")
        number = f"portico-{next(self._numbers)}"
        request, taken_up = as_prompt(request), bool(request.generated)
        arguments = sampling_arguments(request)
        structured = arguments.pop("structured_outputs", None)
        prompt: dict[str, Any] = {"type": "token", "prompt_token_ids": list(request.token_ids)}
        if request.media is not None:
            prompt = await self._processed(request.media, keep=True)
            if len(prompt["prompt_token_ids"]) != len(request.token_ids):
                raise BadRequestError("The prompt is not as long as its media make it.", param="prompt")
        if request.cache_salt is not None:
            prompt["cache_salt"] = request.cache_salt
        try:
            if structured is not None:
                arguments["structured_outputs"] = self._names.structured(**structured)
            core_request = self._inputs.process_inputs(
                number,
                prompt,
                self._names.sampling(**arguments),
                self._tasks,
                lora_request=self._lora(request.lora),
                trace_headers=request.trace_headers,
                priority=request.priority,
                data_parallel_rank=request.data_parallel_rank,
            )
        except self._names.refusals as error:
            raise _refused(error) from None
        core_request.reasoning_ended = True if structured is not None else None  # our grammar holds the thought too
        core_request.external_req_id = number
        self._running[number], self._numbers_by_id[request.request_id] = (request, taken_up), number
        try:
            await self._core.add_request_async(core_request)
        except Exception as error:
            self._forget(number)
            raise EngineDeadError("The engine is not available.", retry_after=5) from error

    async def expand(self, media: Media) -> list[int]:
        """The prompt with vLLM's placeholders in it. Raises ``BadRequestError`` with vLLM's words."""
        return list((await self._processed(media, keep=False))["prompt_token_ids"])

    async def _processed(self, media: Media, *, keep: bool) -> dict[str, Any]:
        """What vLLM makes of a prompt with media. What its cache is to ``keep`` must be submitted next: the core keeps
        the same in the same order."""
        try:
            found: dict[str, Any] = await self._inputs.renderer.process_for_engine_async(
                media_prompt(media), time.time(), skip_mm_cache=not keep
            )
        except (*self._names.refusals, RuntimeError) as error:  # which says that placeholders do not fit
            raise _refused(error) from None
        return found

    def abort(self, request_id: str) -> None:
        """Stop a request; unknown ids are ignored. No output for it follows."""
        number = self._numbers_by_id.get(request_id)
        if number is not None:
            self._forget(number)
            task = asyncio.ensure_future(self._core.abort_requests_async([number]))
            self._aborting.add(task)
            task.add_done_callback(self._aborting.discard)

    async def steps(self) -> AsyncIterator[list[EngineOutput]]:
        """One list per step of the core; ends when it dies or is closed. One consumer."""
        while self.healthy:
            try:
                told = await self._core.get_output_async()
            except Exception as error:  # of a kind that vLLM chooses; the core is dead either way
                log.error("vLLM's engine core: %s", error)
                return
            if told.scheduler_stats is not None:
                self._usage[told.engine_index] = told.scheduler_stats.kv_cache_usage
            step = [found for output in told.outputs if (found := self._ours(output)) is not None]
            if step:
                yield step

    async def embed(self, token_id_lists: Sequence[Sequence[int]]) -> EmbeddingBatch:
        """Not offered: this engine generates."""
        raise NotSupportedError("This model generates; it does not embed.", param="model")

    async def give_sign(self) -> None:
        """Ask the cores something that they answer between two steps."""
        await self._core.get_supported_tasks_async()

    async def flush_cache(self) -> bool:
        """Forget cached prefixes; vLLM refuses while requests use them."""
        return bool(await self._core.reset_prefix_cache_async())

    def _ours(self, output: Any) -> EngineOutput | None:
        entry = self._running.get(output.request_id)
        if entry is None:
            return None
        request, taken_up = entry
        ends = (
            request.sampling.stop_token_ids
            if request.sampling.ignore_eos
            else (self._ends | request.sampling.stop_token_ids)
        )
        found = engine_output(output, request.request_id, request, ends)
        if taken_up:
            found.cached_tokens = None
        if found.finish_reason is not None:
            self._forget(output.request_id)
        return found

    def _forget(self, number: str) -> None:
        entry = self._running.pop(number, None)
        if entry is not None:
            del self._numbers_by_id[entry[0].request_id]

    def _lora(self, name: str | None) -> Any:
        if name is None:
            return None
        if name not in self._loras:
            raise BadRequestError(f"There is no adapter '{name[:100]}' here.", param="model")
        return self._loras[name]


def _refused(error: Exception) -> BadRequestError:
    said: BaseException = error
    while said.__cause__ is not None and OBJECT.search(str(said)):  # a model's own processor says why, deeper down
        said = said.__cause__
    message = str(said.args[0] if said.args else said)  # vLLM's own text has more, such as the value
    return BadRequestError(message, param=getattr(error, "parameter", None))
