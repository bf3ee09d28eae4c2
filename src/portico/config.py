"""One settings object: command-line flags, ``PORTICO_*`` variables, a TOML file, in this order of precedence.

Each setting is declared once, here; the command line, the environment and the documentation are made from it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import TomlConfigSettingsSource as TomlSource

from portico.errors import BadRequestError, meant

__all__ = ["ModelSettings", "SamplingDefaults", "Settings", "load_settings"]

SecretList = Annotated[list[SecretStr], NoDecode]
PathList = Annotated[list[Path], NoDecode]
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
        return _values(value)

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


class Settings(ModelSettings, BaseSettings):
    """Everything an operator can choose."""

    model_config = SettingsConfigDict(
        env_prefix="PORTICO_", extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )

    # Several models
    models: list[ModelSettings] = Field(
        [], description="One table for each model, with settings as above that are its own; only in the TOML file."
    )
    max_loaded: int | None = Field(
        None, ge=1, description="Models that are loaded at a time; for another, one that is not in use is unloaded."
    )
    load_queue: int = Field(
        256, ge=0, description="Requests that wait for models to be loaded, in all; what is more is refused (503)."
    )
    embedding_model: str | None = Field(None, description="A second model for /v1/embeddings.")
    parser_plugin: PathList = Field([], description="Python file(s) that define further formats.")

    # Where it listens, and for whom
    host: str = Field("127.0.0.1", description="Address to bind.")
    port: int = Field(8000, ge=0, le=65535, description="Port to bind; 0 picks a free one.")
    uds: Path | None = Field(None, description="Unix socket to serve on in place of host and port.")
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM) of the HTTP server.")
    tls_key: Path | None = Field(None, description="Private key (PEM) of the HTTP server.")
    tls_client_ca: Path | None = Field(None, description="CA (PEM) that HTTP clients' certificates must be from.")
    root_path: str = Field("", description="Path under which a proxy serves this server, such as /llm.")
    trusted_proxies: CommaList = Field(
        [],
        description="Networks (10.0.0.0/8) whose proxies tell in X-Forwarded-For and -Proto who asks and how; 'unix' "
        "for those that come by a Unix socket.",
    )
    idle_timeout: float = Field(
        120.0, gt=0, description="Seconds that a connection may wait for its next request; longer than proxies keep it."
    )
    workers: int = Field(1, ge=1, le=256, description="Front-door processes that share the port and the engine.")
    grpc_port: int | None = Field(None, ge=0, le=65535, description="Port for gRPC beside HTTP; 0 picks a free one.")
    grpc_tls_cert: Path | None = Field(None, description="Certificate chain (PEM) of the gRPC server.")
    grpc_tls_key: Path | None = Field(None, description="Private key (PEM) of the gRPC server.")
    grpc_tls_client_ca: Path | None = Field(None, description="CA (PEM) that gRPC clients' certificates must be from.")
    api_key: SecretList = Field([], description="Key(s) that clients must send.")
    keys_file: Path | None = Field(
        None, description="File of keys with names, hashes and limits: TOML with [[keys]], or JSON Lines."
    )
    signing_key: SecretStr | None = Field(
        None, description="Secret that signs thinking; give it to let signatures outlive the process."
    )
    insecure: bool = Field(False, description="Allow binding beyond loopback without an API key.")
    cors_origins: CommaList = Field([], description="Origins that browsers may call from; none by default.")
    mcp_allow: CommaList = Field(
        [],
        description="MCP servers that requests may name and this server speaks to: HOST, HOST:PORT, *.HOST.",
    )
    media_hosts: CommaList = Field(
        [],
        description="Hosts that images and sounds may be fetched from: HOST, HOST:PORT, *.HOST. None by default; data: "
        "URLs and uploaded files always work.",
    )

    # Limits
    max_per_key: int | None = Field(None, ge=1, description="Requests in flight with one API key; else 429.")
    max_header: int = Field(64 << 10, ge=1024, description="Largest request line and headers together, in bytes.")
    max_body: int = Field(32 << 20, ge=1024, description="Largest request body in bytes.")
    max_file: int = Field(512 << 20, ge=1, description="Largest file that is uploaded, in bytes.")
    max_files_per_key: int = Field(
        4 << 30, ge=1, description="Bytes that the files of one API key have together; what is more is refused (413)."
    )
    batch_concurrency: int | None = Field(
        None,
        ge=1,
        description="Lines of batches that run together, less other requests; --max-sequences, or 256 over GPUs.",
    )
    request_timeout: float | None = Field(600.0, gt=0, description="Seconds after which a request is ended.")
    client_timeout: float = Field(
        60.0, gt=0, description="Seconds for a request to arrive, and for its answer to make progress."
    )
    drain_timeout: float = Field(30.0, ge=0, description="Seconds that requests in flight get to finish at shutdown.")
    no_resume: bool = Field(False, description="End answers with an error when their engine dies; do not resume them.")
    resume_grace: float = Field(
        0.0, ge=0, description="Seconds that a stream with 'X-Portico-Resume: 1' goes on when nobody reads; 0: none."
    )
    keep_alive: float = Field(15.0, ge=0, description="Seconds between comments on silent streams; 0: none.")

    # What is recorded
    inspect: bool = Field(False, description="Record requests and show them on /inspect, with a playground on /play.")
    inspect_keep: int = Field(200, ge=1, le=10_000, description="Requests that the inspector keeps.")
    inspect_log: Path | None = Field(
        None, description="Directory that the inspector's requests are kept in, too: as many, and at most 1 GiB."
    )
    inspect_redact: bool = Field(False, description="Record sizes in place of texts, tokens and bodies.")
    trace_header: bool = Field(False, description="Record requests that ask for it with 'X-Portico-Trace: 1'.")

    metrics_per_key: bool = Field(False, description="Count requests and tokens of every API key on /metrics, by name.")
    audit_log: Path | None = Field(
        None, description="File that gets a line of JSON for each key made or revoked, reload, batch and refusal."
    )
    otlp_endpoint: str | None = Field(None, description="OpenTelemetry collector (OTLP over HTTP) that gets spans.")

    # What is kept
    store: SecretStr | None = Field(
        None,
        description="Where responses, conversations, files and batches are kept: a file, postgresql://…, or none; a "
        "file in the user's data directory if absent.",
    )
    store_max_age: float = Field(30.0, gt=0, description="Days after which what is kept is deleted.")
    store_max_responses: int | None = Field(
        None, ge=1, description="Responses that are kept; the oldest are deleted first."
    )
    store_max_bytes: int = Field(10 << 30, ge=1 << 20, description="Bytes that are kept in all; the oldest go first.")
    usage_max_age: float = Field(
        400.0, ge=1, description="Days for which is kept what each API key has used on each day."
    )

    # What is told
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much is logged.")
    log_format: Literal["text", "json"] = Field("text", description="How the log is written: json is an object a line.")

    @property
    def batch_lines(self) -> int:
        """``batch_concurrency``, or what suits the engine."""
        return self.batch_concurrency or (self.max_sequences if self.embedded else 256)

    @property
    def each_model(self) -> list[Settings]:
        """The settings of each model that is served, as if it were the only one."""
        alone = self.model_copy(update={"models": [], "embedding_model": None})
        each = [alone.model_copy(update=_given(one)) for one in self.models] or [alone]
        if self.embedding_model is not None:
            own = ModelSettings.model_validate({"model": self.embedding_model, "embedding": True})
            each.append(alone.model_copy(update={name: getattr(own, name) for name in _OF_ONE}))
        return each

    @field_validator(
        *("trusted_proxies", "cors_origins", "mcp_allow", "media_hosts", "api_key", "parser_plugin"), mode="before"
    )
    @classmethod
    def _several(cls, value: Any) -> Any:
        return _values(value)

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        for number, one in enumerate(self.models, 1):
            if "model" not in one.model_fields_set and not one.elsewhere:
                raise ValueError(f"entry {number} of [[models]] names no 'model'")
        for one in self.each_model:
            if one.elsewhere and not one.served_model_name and (self.models or one.load == "demand"):
                raise ValueError(
                    f"the model at {one.engine} needs a 'served_model_name': before its engine has been asked, nobody "
                    "knows what it is called"
                )
        alone = [name for name in ("model", "served_model_name") if name in self.model_fields_set]
        if self.models and alone:
            raise ValueError(f"'{alone[0]}' and [[models]] exclude each other: name every model in a [[models]] table")
        moving = self.max_loaded is not None or any(one.load == "demand" or one.idle_unload for one in self.each_model)
        if self.workers > 1 and moving:
            raise ValueError(
                "with --workers every model is loaded at start and stays loaded, because the workers share its engine; "
                "leave out --max-loaded, --load demand and --idle-unload, or --workers"
            )
        return self

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for one in value:
            if one != "unix":
                try:
                    ip_network(one)
                except ValueError as error:
                    raise ValueError(f"'{one}' is no network such as 10.0.0.0/8, nor 'unix' ({error})") from None
        return value

    @field_validator("root_path")
    @classmethod
    def _path(cls, value: str) -> str:
        path = value.rstrip("/")
        if path and not re.fullmatch(r"(/[\w.~-]+)+", path, re.ASCII):
            raise ValueError("a path such as /llm is wanted: a slash, and letters, digits, '.', '_', '~' or '-'")
        if path.partition("/v1")[0] == "" and path:
            raise ValueError("the server's own paths begin with /v1; a proxy's path must not")
        return path

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if _config_file is not None:
            sources += (TomlSource(settings_cls, _config_file),)
        return sources


# What the server's own settings say of its main model alone.
_OF_ONE = (
    *("model", "embedding", "served_model_name", "engine", "engine_args", "engine_api_key", "lora", "lora_dir"),
    *("tokenizer", "chat_template", "tool_parser", "reasoning_parser", "sampling", "context_length", "mmproj"),
)


def _given(one: ModelSettings) -> dict[str, Any]:
    """What an entry says itself."""
    return {name: getattr(one, name) for name in one.model_fields_set}


def _values(value: Any) -> Any:
    """Several values: a list, or a text with commas between them. Raises ``ValueError`` where one of them is none."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    for one in value if isinstance(value, list | tuple) else ():
        if isinstance(one, str) and not one.strip():
            raise ValueError("one of its values is empty; leave it out, or give it a value")
        if isinstance(one, str) and "," in one:
            raise ValueError("a value holds a comma; repeat the option for each of several values")
    return value


_config_file: Path | None = None


def load_settings(flags: dict[str, Any], config_file: Path | None = None) -> Settings:
    """The settings in force; ``flags`` holds only what was given. Raises ``pydantic.ValidationError``, or
    ``BadRequestError`` for a file that is not there or no TOML, and for a variable whose name is misspelt."""
    global _config_file
    _refuse_misspelt(os.environ)
    if config_file is not None and not os.access(config_file, os.R_OK):
        raise BadRequestError(f"{config_file} cannot be read. Make it readable, or leave --config out.")
    _config_file = config_file
    try:
        return Settings(**flags)
    except ValidationError as error:
        _refuse_unknown(error, config_file)
        raise
    except ValueError as error:  # what the readers of TOML raise
        raise BadRequestError(f"{config_file} is not valid TOML: {error}. Mend it, or leave --config out.") from None
    finally:
        _config_file = None


def _refuse_unknown(error: ValidationError, config_file: Path | None) -> None:
    """Raise for what the file sets and nothing here knows; other faults are told by whoever called."""
    for problem in error.errors(include_url=False):
        if problem["type"] == "extra_forbidden":
            *inside, name = map(str, problem["loc"])
            known = [*ModelSettings.model_fields, *SamplingDefaults.model_fields] if inside else Settings.model_fields
            near = meant(name, known)
            hint = f"did you mean {near}?" if near else "leave it out."
            whole = ".".join([*inside, name])
            raise BadRequestError(f"There is no setting '{whole}', which {config_file} sets; {hint}") from None


def _refuse_misspelt(names: Iterable[str]) -> None:
    """A variable that is nearly a setting's would be passed over in silence. Others may have our prefix: let them."""
    known = [name.upper() for name in Settings.model_fields]
    for name in names:
        prefix, _, setting = name.upper().partition("_")
        if prefix == "PORTICO" and setting not in known:
            near = meant(setting, known, nearness=0.75)
            if near:
                raise BadRequestError(f"There is no setting for the variable {name}; did you mean PORTICO_{near}?")
