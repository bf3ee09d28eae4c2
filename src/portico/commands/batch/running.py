"""``portico batch run``: a file of requests, with a model that is loaded for it."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import rich_click as click
from filelock import FileLock, Timeout

from portico.commands.batch.telling import Batch, following, tell, verdict
from portico.commands.batch.writing import first_url, written
from portico.commands.options import settings_from, settings_options
from portico.commands.progress import fetched
from portico.config import Settings
from portico.errors import PorticoError
from portico.terminal import echo

__all__ = ["run"]

OPTIONS = (
    "model",
    "embedding_model",
    "engine",
    "engine_args",
    "engine_api_key",
    "served_model_name",
    "lora",
    "tokenizer",
    "chat_template",
    "template_kwargs",
    "tool_parser",
    "reasoning_parser",
    "context_length",
    "max_sequences",
    "threads",
    "batch_concurrency",
)


@click.command("run")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write; FILE.results.jsonl if absent."
)
@click.option("--endpoint", help="Where the lines go; the first line's url if absent.")
@click.option("--overwrite", is_flag=True, help="Write also over a file that is there.")
@settings_options(OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run(
    file: Path,
    out: Path | None,
    endpoint: str | None,
    overwrite: bool,
    config: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Run the lines of FILE without a server, and write a line of results for each, in their order.

    The model is loaded for it, and answers to whatever name the lines call it unless --served-model-name says
    otherwise. What is done is kept in OUT.run: stopped or killed, the same command goes on where it was.

    The exit status is 0 if every line was answered well, 3 if not, 2 if the file was refused.

    Examples:

      portico batch run requests.jsonl

      portico batch run requests.jsonl --model ./model.gguf --out results.jsonl

      portico batch run texts.jsonl --model minilm --json
    """
    settings = settings_from(config, given)
    if not settings.served_model_name:
        settings = settings.model_copy(update={"served_model_name": ["*"]})
    out = out or file.with_name(f"{file.name.removesuffix('.jsonl')}.results.jsonl")
    if out.exists() and not overwrite:
        raise click.UsageError(f"{out} is there already: --overwrite writes over it, --out names another.")
    endpoint = endpoint or first_url(file)
    directory = out.with_name(f"{out.name}.run")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"{directory} cannot be made: {error.strerror}.") from None
    fetched(settings)
    try:
        with FileLock(directory / "lock", timeout=0):
            batch = asyncio.run(_run(settings, file, out, endpoint, directory))
    except Timeout:
        raise PorticoError(f"Another 'portico batch run' is at work on {out}.") from None
    except KeyboardInterrupt:
        echo(f"Stopped. The same command goes on where it was; what is done is in {directory}.", err=True)
        sys.exit(130)
    shutil.rmtree(directory, ignore_errors=True)
    tell(batch, as_json, str(out) if batch["status"] != "failed" else None)
    sys.exit(verdict(batch))


async def _run(settings: Settings, file: Path, out: Path, endpoint: str, directory: Path) -> Batch:
    from portico.server.process.alone import alone  # with all of the server, which --help need not wait for

    async with alone(settings, file, endpoint, directory) as work:
        with following(file.name) as show:
            batch = await work.ended(show)
        if batch["status"] != "failed":
            with written(out) as results:
                async for line in work.results():
                    results.write(line)
    return batch
