"""``portico stop``: unload a model at a running server."""

from __future__ import annotations

import json
from urllib.parse import quote

import httpx
import rich_click as click

from portico.commands.options import model_argument
from portico.commands.remote import Remote, server_options
from portico.terminal import echo

__all__ = ["command"]


@click.command("stop")
@model_argument(required=True)
@click.option("--json", "as_json", is_flag=True, help="Print the model's card as JSON.")
@server_options
def command(model: str, as_json: bool, url: str, api_key: str | None) -> None:
    """Unload MODEL at a server, once its answers have ended. The next request for it loads it again.

    Example:

      portico stop smollm2
    """
    with Remote(url, api_key) as remote:
        path = f"/v1/models/{quote(model)}/unload"
        card = remote.get(path, "POST", timeout=httpx.Timeout(10, read=None))  # answers may take their time
    echo(json.dumps(card, indent=2) if as_json else f"{card['id']} is {card['state']}.")
