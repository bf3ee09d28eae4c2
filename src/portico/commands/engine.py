"""``portico engine``: an engine without a front door."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import rich_click as click

from portico.commands.options import model_argument, reread, setting_groups, settings_from, settings_options
from portico.commands.progress import fetched

__all__ = ["command"]

OPTIONS = [
    *("engine", "engine_args", "lora", "tokenizer", "embedding", "engine_silence"),
    *(name for title, names in setting_groups() if title.endswith(" engine") for name in names),
    *("host", "grpc_port", "grpc_tls_cert", "grpc_tls_key", "grpc_tls_client_ca", "api_key", "insecure"),
    *("drain_timeout", "log_level", "log_format"),
]


@click.command("engine")
@model_argument()
@settings_options(OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="As --log-format json: what it says at start is JSON too.")
def command(model: str | None, config: Path | None, as_json: bool, **given: Any) -> None:
    """Run the engine of MODEL for front doors on other machines.

    They name it with --engine portico://HOST:PORT; several front doors may share it, and one may have several. It
    listens on port 50051, unless --grpc-port says otherwise.

    Examples:

      portico engine smollm2

      PORTICO_API_KEY=secret portico engine ./Qwen3-8B --engine vllm --host 0.0.0.0

      PORTICO_ENGINE_API_KEY=secret portico serve --engine portico://gpu1:50051,gpu2:50051
    """
    from portico.server.process.hosting import host

    given["model"] = model
    if as_json:
        given["log_format"] = "json"
    settings = settings_from(config, given)
    fetched(settings)
    host(settings, partial(reread, config, given))
