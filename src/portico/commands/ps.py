"""``portico ps``: the models of a server."""

from __future__ import annotations

import json
from typing import Any

import rich_click as click
from rich.table import Table

from portico.commands.remote import Remote, server_options
from portico.terminal import Terminal, echo

__all__ = ["command"]


@click.command("ps")
@click.option("--all", "every", is_flag=True, help="Those that are not loaded, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@server_options
def command(every: bool, as_json: bool, url: str, api_key: str | None) -> None:
    """List the models that a server has loaded.

    Examples:

      portico ps

      portico ps --all --json
    """
    with Remote(url, api_key) as remote:
        listed = _models(remote.get("/v1/models")["data"])
    shown = [one for one in listed if every or one["state"] != "unloaded"]
    if as_json:
        echo(json.dumps({"models": shown}, indent=2))
    elif not shown:
        echo("No model is loaded; 'portico ps --all' lists what the server has.")
    else:
        table = Table("name", "state", "context", "can", "also called", box=None, pad_edge=False, header_style="bold")
        for one in shown:
            context = str(one["context_length"] or "?")
            others = ", ".join(one["names"][1:])
            table.add_row(one["name"], one["state"], context, ", ".join(one["capabilities"]), others)
        Terminal(highlight=False).print(table)


def _models(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each model, with all its names; an adapter is one of its own."""
    found: dict[str, dict[str, Any]] = {}
    for card in cards:
        entry = found.setdefault(
            card["root"],
            {
                "name": card["root"],
                "names": [],
                "state": card["state"],
                "context_length": card.get("max_model_len"),
                "capabilities": card["capabilities"],
                "adapter_of": card.get("parent"),
            },
        )
        entry["names"].append(card["id"])
    return list(found.values())
