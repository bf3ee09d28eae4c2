"""The settings of a server, those of its models among them."""

from __future__ import annotations

import re
from contextvars import ContextVar
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import TomlConfigSettingsSource as TomlSource

from portico.config.model import CommaList, ModelSettings, several

__all__ = ["FILE", "Settings"]

SecretList = Annotated[list[SecretStr], NoDecode]
PathList = Annotated[list[Path], NoDecode]

FILE: Final[ContextVar[Path | None]] = ContextVar("file", default=None)  # that settings are read from, too


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
        return several(value)

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
        if (file := FILE.get()) is not None:
            sources += (TomlSource(settings_cls, file),)
        return sources


# What the server's own settings say of its main model alone.
_OF_ONE = (
    *("model", "embedding", "served_model_name", "engine", "engine_args", "engine_api_key", "lora", "lora_dir"),
    *("tokenizer", "chat_template", "tool_parser", "reasoning_parser", "sampling", "context_length", "mmproj"),
)


def _given(one: ModelSettings) -> dict[str, Any]:
    """What an entry says itself."""
    return {name: getattr(one, name) for name in one.model_fields_set}
