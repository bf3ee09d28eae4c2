"""One settings object: command-line flags, ``PORTICO_*`` variables, a TOML file, in this order of precedence.

Each setting is declared once, here; the command line, the environment and the documentation are made from it.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import TomlConfigSettingsSource as TomlSource

from portico.errors import BadRequestError

__all__ = ["Settings", "load_settings"]

SecretList = Annotated[list[SecretStr], NoDecode]
PathList = Annotated[list[Path], NoDecode]
CommaList = Annotated[list[str], NoDecode]  # "a,b" in the environment; a list in TOML; repeatable as a flag


class Settings(BaseSettings):
    """Everything an operator can choose."""

    model_config = SettingsConfigDict(
        env_prefix="PORTICO_", extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )

    # What is served
    model: str = Field("smollm2", description="Model: a name from 'portico models', a GGUF file, or hf:org/repo/file.")
    served_model_name: CommaList = Field(
        [], description="Name(s) clients call the model by, '*' for any; the first is shown."
    )
    embedding_model: str | None = Field(None, description="A second model for /v1/embeddings.")
    engine: str = Field("llamacpp", description="llamacpp, vllm, grpc://HOST:PORT[,…], or replay:FILE.")
    engine_args: str = Field("", description="Options of 'vllm serve' for --engine vllm, as one text.")
    placement: Literal["prefix", "load"] = Field(
        "prefix",
        description="Which of several engines gets a request: the one that has its prefix cached, unless it has much "
        "more to do than the others; or the one with the fewest requests.",
    )
    engine_api_key: SecretStr | None = Field(None, description="Key that a grpc:// engine asks for.")
    lora: CommaList = Field([], description="LoRA adapter(s) for --engine vllm, as NAME=DIR; NAME is a model.")
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

    parser_plugin: PathList = Field([], description="Python file(s) that define further formats.")

    engine_silence: float = Field(
        30.0, gt=0, description="Seconds after which an engine that neither says nor does anything is started again."
    )

    # The embedded engine
    context_length: int | None = Field(None, ge=16, description="Context in tokens; the model's own if absent.")
    max_sequences: int = Field(8, ge=1, le=256, description="Sequences that are computed together.")
    threads: int | None = Field(None, ge=1, description="CPU threads of the engine; all cores if absent.")

    # The replay engine
    replay_rate: float = Field(0.0, ge=0, description="Steps per second; 0: as fast as possible.")
    replay_tokens_per_step: int = Field(1, ge=1, description="Tokens that each request gets per step.")

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

    # Limits
    max_in_flight: int | None = Field(
        None, ge=1, description="Requests in flight, running and queued together, else 503; 256, or 16384 over GPUs."
    )
    max_per_key: int | None = Field(None, ge=1, description="Requests in flight with one API key; else 429.")
    share_prefix_cache: bool = Field(
        False, description="Let requests of different API keys share cached prefixes: faster, but timing tells of them."
    )
    max_header: int = Field(64 << 10, ge=1024, description="Largest request line and headers together, in bytes.")
    max_body: int = Field(32 << 20, ge=1024, description="Largest request body in bytes.")
    max_file: int = Field(512 << 20, ge=1, description="Largest file that is uploaded, in bytes.")
    max_files_per_key: int = Field(
        4 << 30, ge=1, description="Bytes that the files of one API key have together; what is more is refused (413)."
    )
    max_choices: int = Field(64, ge=1, description="Largest 'n'.")
    max_logprobs: int = Field(20, ge=0, description="Most alternatives per token in logprobs.")
    max_stop: int = Field(16, ge=1, description="Most stop strings in one request.")
    max_tools: int = Field(512, ge=0, description="Most tools in one request.")
    max_schema_depth: int = Field(64, ge=1, description="Deepest JSON Schema of a tool or a response format.")
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
    reasoning_content: bool = Field(False, description="Send reasoning as 'reasoning_content' too, beside 'reasoning'.")
    thinking_by_default: bool = Field(
        False, description="Send thinking blocks to clients of /v1/messages that have not set 'thinking', too."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much is logged.")
    log_format: Literal["text", "json"] = Field("text", description="How the log is written: json is an object a line.")

    @property
    def in_flight(self) -> int:
        """``max_in_flight``, or what suits the engine: vLLM queues by itself, and computes a thousand at once."""
        return self.max_in_flight or (256 if self._embedded else 16384)

    @property
    def batch_lines(self) -> int:
        """``batch_concurrency``, or what suits the engine."""
        return self.batch_concurrency or (self.max_sequences if self._embedded else 256)

    @property
    def _embedded(self) -> bool:
        return self.engine == "llamacpp" or self.engine.startswith("replay:")

    @field_validator(
        "served_model_name",
        "lora",
        "trusted_proxies",
        "cors_origins",
        "mcp_allow",
        "api_key",
        "parser_plugin",
        mode="before",
    )
    @classmethod
    def _apart(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        for one in value if isinstance(value, list | tuple) else ():
            if isinstance(one, str) and not one.strip():
                raise ValueError("one of its values is empty; leave it out, or give it a value")
            if isinstance(one, str) and "," in one:
                raise ValueError("a value holds a comma; repeat the option for each of several values")
        return value

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
    except ValidationError:
        raise
    except ValueError as error:  # what the readers of TOML raise
        raise BadRequestError(f"{config_file} is not valid TOML: {error}. Mend it, or leave --config out.") from None
    finally:
        _config_file = None


def _refuse_misspelt(names: Iterable[str]) -> None:
    """A variable that is nearly a setting's would be passed over in silence. Others may have our prefix: let them."""
    known = [name.upper() for name in Settings.model_fields]
    for name in names:
        prefix, _, setting = name.upper().partition("_")
        if prefix == "PORTICO" and setting not in known:
            near = difflib.get_close_matches(setting, known, n=1, cutoff=0.75)
            if near:
                raise BadRequestError(f"There is no setting for the variable {name}; did you mean PORTICO_{near[0]}?")
