"""``portico serve``: a model behind OpenAI's API."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import rich_click as click

from portico.commands.options import model_argument, reread, setting_groups, settings_from, settings_options
from portico.commands.progress import fetched
from portico.config import Settings

__all__ = ["command"]

click.rich_click.OPTION_GROUPS["*serve"] = [
    {"name": title, "options": [f"--{name.replace('_', '-')}" for name in names]} for title, names in setting_groups()
]
OPTIONS = [name for name in Settings.model_fields if name not in ("model", "models")]


@click.command("serve")
@model_argument()
@settings_options(OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="As --log-format json: what it says at start is JSON too.")
def command(model: str | None, config: Path | None, as_json: bool, **given: Any) -> None:
    """Serve MODEL (smollm2 if none is named; it is fetched if absent).

    MODEL is a name from 'portico models', a GGUF file, hf:org/repo/file.gguf, hf:org/repo:Q4_K_M, or hf:org/repo for
    the quantisation that fits into memory.

    Examples:

      portico serve

      portico serve smollm2 --embedding-model minilm --port 9000

      PORTICO_API_KEY=secret portico serve ./model.gguf --host 0.0.0.0
    """
    from portico.server.process.lifecycle import serve

    given["model"] = model
    if as_json:
        given["log_format"] = "json"
    settings = settings_from(config, given)
    fetched(settings)
    serve(settings, partial(reread, config, given))
