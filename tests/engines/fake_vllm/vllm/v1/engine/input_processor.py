from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

from vllm.exceptions import VLLMValidationError


@dataclass
class EngineCoreRequest:
    request_id: str
    prompt: dict[str, Any]
    sampling: dict[str, Any]
    lora_request: dict[str, Any] | None
    trace_headers: dict[str, str] | None
    priority: int
    data_parallel_rank: int | None
    reasoning_ended: bool | None = None
    external_req_id: str | None = None


class InputProcessor:
    renderer = SimpleNamespace(get_eos_token_id=lambda: 7)

    def __init__(self, config: Any) -> None:
        self.generation_config_fields = {"eos_token_id": [7, 8]}
        self._ranks = config.parallel_config.data_parallel_size

    def process_inputs(
        self, request_id: str, prompt: dict[str, Any], params: Any, tasks: tuple[str, ...],
        *, lora_request: Any, trace_headers: Any, priority: int, data_parallel_rank: int | None,
    ) -> EngineCoreRequest:  # fmt: skip
        assert tasks == ("generate",)
        if data_parallel_rank is not None and not 0 <= data_parallel_rank < self._ranks:
            raise VLLMValidationError(f"data_parallel_rank {data_parallel_rank} is out of range [0, {self._ranks}).")
        sampling = {name: value for name, value in params.arguments.items() if name != "structured_outputs"}
        lora = None if lora_request is None else asdict(lora_request)
        return EngineCoreRequest(request_id, prompt, sampling, lora, trace_headers, priority, data_parallel_rank)
