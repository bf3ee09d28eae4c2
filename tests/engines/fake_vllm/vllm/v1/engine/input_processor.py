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


IMAGE = 900  # a placeholder


class Renderer:
    """Of a model called ``seeing``, an image takes a token for each 100 pixels."""

    def __init__(self, sees: bool) -> None:
        info = SimpleNamespace(get_supported_mm_limits=lambda: {"image": None, "video": 1})
        self.mm_processor = SimpleNamespace(info=info) if sees else None

    def get_eos_token_id(self) -> int:
        return 7

    async def process_for_engine_async(
        self, prompt: dict[str, Any], arrival_time: float, *, skip_mm_cache: bool = False
    ) -> dict[str, Any]:
        images = list(zip(prompt["multi_modal_data"]["image"], prompt["multi_modal_uuids"]["image"], strict=True))
        ids: list[int] = []
        seen: list[str] = []
        for token in prompt["prompt_token_ids"]:
            if token != IMAGE:
                ids.append(token)
                continue
            if len(seen) == len(images):
                raise RuntimeError("more placeholders than images")
            image, uuid = images[len(seen)]
            width, height = image.size
            if width == 1:
                cause = ValueError("mean must have 1 elements")
                raise ValueError(f"Failed to apply partial on data={{'images': [{image!r}]}}") from cause
            ids += [IMAGE] * (width * height // 100)
            seen.append(f"{uuid} {image.getpixel((0, 0))}")
        if len(seen) < len(images):
            raise VLLMValidationError("At most 1 image(s) may be provided in one prompt.")
        kept = {"kept": not skip_mm_cache}
        return {"type": "multimodal", "prompt_token_ids": ids, "mm_hashes": {"image": seen}, **kept}


class InputProcessor:
    def __init__(self, config: Any) -> None:
        self.renderer = Renderer(config.model_config.is_multimodal_model)
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
