"""``portico batch submit``, ``status``, ``fetch`` and ``cancel``: batches on a server that runs."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import rich_click as click
from rich.table import Table

from portico.commands.batch.telling import Batch, following, tell, verdict
from portico.commands.batch.writing import first_url, written
from portico.commands.remote import Remote, server_options
from portico.errors import PorticoError
from portico.protocols.batches.record import ENDED
from portico.terminal import Terminal, echo

__all__ = ["cancel", "fetch", "status", "submit"]

LOOK: Final = 1.0  # seconds between two looks at a batch that runs

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
FOLLOW = click.option("--follow", is_flag=True, help="Wait for its end, and show how it goes.")


@click.command("submit")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--endpoint", help="Where the lines go; the first line's url if absent.")
@click.option("--follow", is_flag=True, help="Wait for the end of the batch, and show how it goes.")
@server_options
@AS_JSON
def submit(file: Path, endpoint: str | None, follow: bool, url: str, api_key: str | None, as_json: bool) -> None:
    """Upload FILE to a server and have its lines run there. Prints the batch's id.

    Examples:

      portico batch submit requests.jsonl

      portico batch submit requests.jsonl --url https://models.example --follow
    """
    with Remote(url, api_key) as server:
        with file.open("rb") as content:
            form = {"data": {"purpose": "batch"}, "files": {"file": (file.name, content)}}
            uploaded = server.get("/v1/files", "POST", **form)
        asked = {"input_file_id": uploaded["id"], "endpoint": endpoint or first_url(file), "completion_window": "24h"}
        batch: Batch = server.get("/v1/batches", "POST", json=asked)
        if follow:
            batch = _followed(server, batch["id"])
            tell(batch, as_json)
            sys.exit(verdict(batch))
        echo(json.dumps(batch, ensure_ascii=False) if as_json else batch["id"])


@click.command("status")
@click.argument("id", required=False)
@FOLLOW
@server_options
@AS_JSON
def status(id: str | None, follow: bool, url: str, api_key: str | None, as_json: bool) -> None:
    """Say how the batch ID goes; without ID, list the last ones.

    With --follow the exit status is 0 if every line was answered well, 3 if not, 2 if the file was refused.

    Examples:

      portico batch status

      portico batch status batch_0123 --follow
    """
    with Remote(url, api_key) as server:
        if id is None:
            found = server.get("/v1/batches")
            echo(json.dumps(found, ensure_ascii=False)) if as_json else _print_list(found["data"])
            return
        batch = _followed(server, id) if follow else server.get(f"/v1/batches/{id}")
        tell(batch, as_json)
        if follow:
            sys.exit(verdict(batch))


@click.command("fetch")
@click.argument("id")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write; ID.jsonl if absent.")
@FOLLOW
@server_options
@AS_JSON
def fetch(id: str, out: Path | None, follow: bool, url: str, api_key: str | None, as_json: bool) -> None:
    """Write the results of the batch ID to a file: a line for each of its lines, those that failed last.

    The exit status is 0 if every line was answered well, 3 if not, 2 if the file was refused.

    Examples:

      portico batch fetch batch_0123

      portico batch fetch batch_0123 --follow --out results.jsonl
    """
    out = out or Path(f"{id}.jsonl")
    with Remote(url, api_key) as server:
        batch = _followed(server, id) if follow else server.get(f"/v1/batches/{id}")
        if batch["status"] not in ENDED:
            raise PorticoError(f"The batch is {batch['status']}: it has not ended. --follow waits for it.")
        files = [batch[name] for name in ("output_file_id", "error_file_id") if batch.get(name)]
        if files:
            with written(out) as file:
                for one in files:
                    with server.stream(f"/v1/files/{one}/content") as answer:
                        for piece in answer.iter_bytes():
                            file.write(piece)
        tell(batch, as_json, str(out) if files else None)
        sys.exit(verdict(batch))


@click.command("cancel")
@click.argument("id")
@server_options
@AS_JSON
def cancel(id: str, url: str, api_key: str | None, as_json: bool) -> None:
    """Stop the batch ID. What was answered until then can be fetched.

    Examples:

      portico batch cancel batch_0123
    """
    with Remote(url, api_key) as server:
        tell(server.get(f"/v1/batches/{id}/cancel", "POST"), as_json)


def _followed(server: Remote, id: str) -> Batch:
    """The batch when it has ended."""
    with following(id) as show:
        while True:
            batch = server.get(f"/v1/batches/{id}")
            show(batch)
            if batch["status"] in ENDED:
                return batch
            time.sleep(LOOK)


def _print_list(batches: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("batch", "made at", "status", "lines", "done", "failed", "endpoint"):
        table.add_column(title, justify="right" if title in ("lines", "done", "failed") else "left", no_wrap=True)
    for one in batches:
        counts = one["request_counts"]
        numbers = (counts["total"], counts["completed"], counts["failed"])
        made = f"{datetime.fromtimestamp(one['created_at']):%Y-%m-%d %H:%M:%S}"
        table.add_row(one["id"], made, one["status"], *map(str, numbers), one["endpoint"])
    Terminal(highlight=False).print(table)
