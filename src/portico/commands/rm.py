"""``portico rm``: delete the files of a model that was fetched."""

from __future__ import annotations

import json

import rich_click as click
from rich.filesize import decimal

from portico import models
from portico.commands.options import model_argument
from portico.errors import PorticoError
from portico.terminal import echo

__all__ = ["command"]


@click.command("rm")
@model_argument(required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print what was deleted as JSON.")
def command(model: str, yes: bool, as_json: bool) -> None:
    """Delete the files of MODEL, which 'portico pull' or 'portico serve' has fetched; it asks first.

    MODEL is called as 'portico models' lists it. A server that has it loaded goes on.

    Example:

      portico rm hf:Qwen/Qwen3-0.6B-GGUF:Q8_0 --yes
    """
    found = models.removable(model)
    if not yes:
        click.confirm(f"Delete {found.spec} ({decimal(found.size)})?", abort=True, err=True)
    try:
        found.remove()
    except OSError as error:
        raise PorticoError(f"{found.spec} cannot be deleted: {error.strerror}.") from None
    told = {"name": found.spec, "size": found.size, "files": [str(file) for file in found.files]}
    echo(json.dumps(told, indent=2) if as_json else f"{found.spec} is deleted: {decimal(found.size)}.")
