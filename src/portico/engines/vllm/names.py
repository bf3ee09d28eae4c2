"""What Portico uses of vLLM, looked up in one place: its interface is not a stable one.

The versions named below were read name by name and have what is asked for here. What another one lacks is told when it
is loaded, by name, and not to the first client.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any, Final

from portico.errors import EngineError
from portico.extras import installing

__all__ = ["KNOWN", "Names", "find"]

KNOWN: Final = ("0.22.1", "0.32.0", "0.33.0")

_CLIENT: Final = (
    *("make_async_mp_client", "shutdown", "get_supported_tasks_async", "add_lora_async", "remove_lora_async"),
    *("add_request_async", "abort_requests_async", "get_output_async", "reset_prefix_cache_async"),
)
_PROCESSING: Final = ("lora_request", "trace_headers", "priority", "data_parallel_rank")


@dataclass(frozen=True)
class Names:
    """Classes of vLLM by what they are for. ``refusals`` are the errors that say what is wrong with a request."""

    arguments: Any
    parser: Any
    served: Any  # the usage context in which vLLM's defaults are those of 'vllm serve'
    client: Any
    inputs: Any
    executor: Any
    sampling: Any
    structured: Any
    adapter: Any
    refusals: tuple[type[Exception], ...]


def find() -> Names:
    """Raises ``EngineError`` when vLLM is not there, or lacks something."""
    try:
        version = getattr(import_module("vllm"), "__version__", "of an unknown version")
    except ImportError as error:
        raise EngineError(f"vLLM cannot be imported ({error}): {installing('vllm')}.") from None
    try:
        exceptions = import_module("vllm.exceptions")
        sampling = import_module("vllm.sampling_params")
        found = Names(
            arguments=import_module("vllm.engine.arg_utils").AsyncEngineArgs,
            parser=import_module("vllm.utils.argparse_utils").FlexibleArgumentParser,
            served=import_module("vllm.usage.usage_lib").UsageContext.OPENAI_API_SERVER,
            client=import_module("vllm.v1.engine.core_client").EngineCoreClient,
            inputs=import_module("vllm.v1.engine.input_processor").InputProcessor,
            executor=import_module("vllm.v1.executor").Executor,
            sampling=sampling.SamplingParams,
            structured=sampling.StructuredOutputsParams,
            adapter=import_module("vllm.lora.request").LoRARequest,
            # 0.32 has a class for what is the client's fault; before, such errors were values that are wrong
            refusals=(getattr(exceptions, "VLLMClientError", ValueError), ValueError, TypeError),
        )
    except (ImportError, AttributeError) as error:
        raise _lacking(version, str(error)) from None
    missing = [f"EngineCoreClient.{name}" for name in _CLIENT if not hasattr(found.client, name)]
    taken = signature(found.inputs.process_inputs).parameters
    missing += [f"InputProcessor.process_inputs({name}=…)" for name in _PROCESSING if name not in taken]
    if missing:
        raise _lacking(version, ", ".join(missing))
    return found


def _lacking(version: str, what: str) -> EngineError:
    return EngineError(
        f"vLLM {version} lacks what this server needs ({what}); versions {', '.join(KNOWN)} have it: "
        f"pip install 'vllm=={KNOWN[-1]}'."
    )
