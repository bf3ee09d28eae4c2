"""``portico usage``: how much every key has used, of which model, on which day."""

from __future__ import annotations

import json
import time
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import rich_click as click
from rich.table import Table

from portico.commands.options import settings_from, settings_options
from portico.commands.upkeep import upkeep_of
from portico.keys import seconds
from portico.keys.usage import BY, DAY
from portico.terminal import Terminal, echo

__all__ = ["command"]

TITLES = {"requests": "requests", "prompt_tokens": "prompt", "cached_tokens": "cached", "completion_tokens": "answer"}


@click.command("usage")
@click.option("--by", "by", type=click.Choice(BY), multiple=True, help="What to sum by; repeatable. [default: key]")
@click.option("--last", default="30d", show_default=True, help="How far back, in whole days: 1d, 4w.")
@settings_options(["store"])
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(by: tuple[str, ...], last: str, config: Path | None, store: str | None, as_json: bool) -> None:
    """Show how many requests and tokens were used. Running servers write it down every few seconds.

    It is in the store that 'portico serve' uses. Requests without a key have no name; days are those of UTC.

    Examples:

      portico usage --last 7d

      portico usage --by day --by model --json
    """
    from portico.store.usage import summed  # what speaks to a database takes its time to import

    wanted = list(dict.fromkeys(by)) or ["key"]
    days = max(1, int(seconds(last, "last") // DAY))
    work = partial(summed, by=wanted, since=int(time.time()) // DAY - days + 1)
    rows = [_shown(row) for row in upkeep_of(settings_from(config, {"store": store})).do(work)]
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in wanted:
        table.add_column(name, overflow="fold")
    for title in TITLES.values():
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*(row[name] or "(none)" for name in wanted), *(f"{row[name]:,}" for name in TITLES))
    Terminal(highlight=False).print(table)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    if "day" in row:
        row["day"] = (date(1970, 1, 1) + timedelta(days=row["day"])).isoformat()
    return row
