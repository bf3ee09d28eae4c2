"""The settings of one model: what it is, what computes it, and what one request may ask of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

__all__ = ["CommaList", "ModelSettings", "SamplingDefaults", "several"]

CommaList = Annotated[list[str], NoDecode]  # "a,b" in the environment; a list in TOML; repeatable as a flag


class SamplingDefaults(BaseModel):
    """What a request's sampling is where it says nothing of it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    temperature: Annotated[float | None, Field(ge=0)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    top_k: Annotated[int | None, Field(ge=0)] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    repetition_penalty: Annotated[float | None, Field(gt=0)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None


class ModelSettings(BaseModel):
    """What can be chosen for each model: at the server for all of them, and in ``[[models]]`` for one."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    # What is served
    model: str = Field(
        "smollm2", description="Model: a name from 'portico models', a GGUF file, or hf:org/repo[:Q4_K_M]."
    )
    served_model_name: CommaList = Field(
        [], description="Name(s) clients call the model by, '*' for any; the first is shown."
    )
    engine: str = Field(
        "llamacpp", description="llamacpp, vllm, portico://HOST:PORT[,…], grpc://HOST:PORT[,…], or replay:FILE."
    )
    engine_args: str = Field("", description="Options of 'vllm serve' for --engine vllm, as one text.")
    placement: Literal["prefix", "load"] = Field(
        "prefix",
        description="Which of several engines gets a request: the one that has its prefix cached, unless it has much "
        "more to do than the others; or the one with the fewest requests.",
    )
    engine_api_key: SecretStr | None = Field(None, description="Key that an engine elsewhere asks for.")
    lora: CommaList = Field(
        [], description="LoRA adapter(s), as NAME=PATH; NAME is a model. A GGUF file, or for vllm a directory."
    )
    lora_dir: Path | None = Field(
        None, description="Directory whose adapters clients may load and unload while the server runs."
    )
    tokenizer: str | None = Field(None, description="Tokenizer file or directory; the model's own if absent.")
    chat_template: Path | None = Field(None, description="Jinja chat template to use instead of the model's own.")
    template_kwargs: dict[str, Any] = Field({}, description="Template variables for every chat, as a JSON object.")
    show_schema: bool = Field(
        False, description="Tell models the schema of a JSON answer also where their template has no place for it."
    )
    trust_request_templates: bool = Field(False, description="Take chat templates from requests (run in a sandbox).")
    control_tokens_in_messages: bool = Field(
        False,
        description="Let control tokens that messages spell be control tokens: whoever writes a message, a document or "
        "a tool's result can then end its turn and speak as the system or the model. Without, they are text.",
    )
    tool_parser: str | None = Field(None, description="Tool-call format; found from the template if absent.")
    reasoning_parser: str | None = Field(None, description="Reasoning format; found from the template if absent.")

    embedding: bool = Field(False, description="Make embeddings with it, whatever its file says that it is for.")
    sampling: SamplingDefaults = Field(
        SamplingDefaults(),
        description="Sampling of requests that say nothing of it, as a JSON object: temperature, top_p, top_k, min_p, "
        "repetition_penalty, frequency_penalty, presence_penalty, max_tokens.",
    )
    load: Literal["start", "demand"] = Field(
        "start", description="When it is loaded: at start, or when it is asked for."
    )
    idle_unload: float = Field(
        0.0, ge=0, description="Seconds without a request after which it is unloaded; the next one loads it. 0: never."
    )
    engine_silence: float = Field(
        30.0, gt=0, description="Seconds after which an engine that neither says nor does anything is started again."
    )

    # The embedded engine
    context_length: int | None = Field(None, ge=16, description="Context in tokens; the model's own if absent.")
    mmproj: Path | None = Field(None, description="GGUF file of what the model sees or hears with, beside --model.")
    max_sequences: int = Field(8, ge=1, le=256, description="Sequences that are computed together.")
    threads: int | None = Field(None, ge=1, description="CPU threads of the engine; all cores if absent.")
    batch_size: int = Field(512, ge=1, le=16384, description="Tokens of prompts that are computed together.")
    cache_tokens: int | None = Field(
        None, ge=16, description="Tokens that the KV cache holds; the context, or 512 for each sequence, if absent."
    )
    cache_type: Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "iq4_nl", "q4_1", "q4_0"] = Field(
        "f16", description="How the KV cache is stored: q8_0 takes half of the memory of f16, q4_0 a quarter."
    )
    flash_attention: Literal["auto", "on", "off"] = Field(
        "auto", description="Flash attention; a quantised cache needs it."
    )
    gpu_layers: int | None = Field(
        None, ge=-1, description="Layers that are computed on a GPU, -1 for all; as many as fit if absent."
    )
    main_gpu: int = Field(0, ge=0, description="Which of several GPUs.")
    rope_scaling: Literal["none", "linear", "yarn"] | None = Field(
        None, description="How a context longer than the model was trained for is reached; the model's own if absent."
    )
    rope_scale: float = Field(1.0, ge=1, description="By how much the context is stretched.")
    rope_freq_base: float | None = Field(
        None, gt=0, description="Base of RoPE's frequencies; the model's own if absent."
    )

    # The replay engine
    replay_rate: float = Field(0.0, ge=0, description="Steps per second; 0: as fast as possible.")
    replay_tokens_per_step: int = Field(1, ge=1, description="Tokens that each request gets per step.")

    # What one request may ask of it, and how it is answered
    max_in_flight: int | None = Field(
        None, ge=1, description="Requests in flight, running and queued together, else 503; 256, or 16384 over GPUs."
    )
    share_prefix_cache: bool = Field(
        False, description="Let requests of different API keys share cached prefixes: faster, but timing tells of them."
    )
    max_choices: int = Field(64, ge=1, description="Largest 'n'.")
    max_logprobs: int = Field(20, ge=0, description="Most alternatives per token in logprobs.")
    max_stop: int = Field(16, ge=1, description="Most stop strings in one request.")
    max_tools: int = Field(512, ge=0, description="Most tools in one request.")
    max_media: int = Field(16, ge=1, le=1024, description="Most images and sounds in one request.")
    max_pixels: int = Field(50_000_000, ge=1, description="Most pixels of an image, before it is scaled down.")
    max_seconds: int = Field(600, ge=1, le=36_000, description="Longest sound in seconds.")
    max_schema_depth: int = Field(64, ge=1, description="Deepest JSON Schema of a tool or a response format.")
    reasoning_content: bool = Field(False, description="Send reasoning as 'reasoning_content' too, beside 'reasoning'.")
    thinking_by_default: bool = Field(
        False, description="Send thinking blocks to clients of /v1/messages that have not set 'thinking', too."
    )

    @field_validator("served_model_name", "lora", mode="before")
    @classmethod
    def _apart(cls, value: Any) -> Any:
        return several(value)

    @property
    def elsewhere(self) -> bool:
        """Whether it is in other processes, reached over gRPC."""
        return self.engine.startswith(("portico://", "porticos://", "grpc://", "grpcs://"))

    @property
    def of_model(self) -> dict[str, Any]:
        """What is chosen for the model: equal for two that are served alike."""
        return {name: getattr(self, name) for name in ModelSettings.model_fields}

    @property
    def in_flight(self) -> int:
        """``max_in_flight``, or what suits the engine: vLLM queues by itself, and computes a thousand at once."""
        return self.max_in_flight or (256 if self.embedded else 16384)

    @property
    def embedded(self) -> bool:
        """Whether it is computed on this machine's processors, or only played back."""
        return self.engine == "llamacpp" or self.engine.startswith("replay:")


def several(value: Any) -> Any:
    """Several values: a list, or a text with commas between them. Raises ``ValueError`` where one of them is none."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    for one in value if isinstance(value, list | tuple) else ():
        if isinstance(one, str) and not one.strip():
            raise ValueError("one of its values is empty; leave it out, or give it a value")
        if isinstance(one, str) and "," in one:
            raise ValueError("a value holds a comma; repeat the option for each of several values")
    return value
