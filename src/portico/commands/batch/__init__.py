"""``portico batch``: many requests in one file, in this process or on a server."""

from __future__ import annotations

import rich_click as click

from portico.commands.batch.asking import cancel, fetch, status, submit
from portico.commands.batch.running import run

__all__ = ["command"]


@click.group("batch")
def command() -> None:
    """Run many requests at once, from a file of OpenAI's batch lines.

    A line is {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {...}}.

    Examples:

      portico batch run requests.jsonl

      portico batch submit requests.jsonl --url http://127.0.0.1:8000

      portico batch fetch batch_0123 --follow --out results.jsonl
    """


for one in (run, submit, status, fetch, cancel):
    command.add_command(one)
