"""Many requests, one line each; and what happens as it happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from portico.commands.trace.asking import TraceServer
from portico.commands.trace.one import summary
from portico.commands.trace.words import LANES, clock, few_ids, label, milliseconds, state, token_counts
from portico.terminal import Terminal, echo

__all__ = ["follow_live", "print_list"]


def print_list(found: dict[str, Any], console: Terminal) -> None:
    """The requests that are kept, a row each."""
    traces = found["traces"]
    if not traces:
        console.print("No requests yet.", style="dim")
        return
    table = Table(
        Column("trace", no_wrap=True),
        Column("at", no_wrap=True),
        "request",
        "model",
        "state",
        Column("ms", justify="right"),
        Column("first token", justify="right"),
        Column("tokens", justify="right"),
        "finish",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for head in traces:
        fault = head.get("error")
        table.add_row(
            head["id"],
            clock(head["began"]),
            f"{head['method']} {head['path']}",
            head.get("model") or "",
            state(head),
            milliseconds(head.get("seconds")),
            milliseconds(head.get("first_token")),
            token_counts(head),
            Text(f"{fault['layer']}: {fault['code']}", style="red") if fault else head.get("finish") or "",
        )
    console.print(table)


def follow_live(server: TraceServer, id: str | None, console: Terminal, as_json: bool) -> None:
    """What happens from now on: requests, or the artifacts of the one of that id."""
    path = "/inspect/live" if id is None else f"/inspect/traces/{id}/live"
    if as_json:
        for value in server.events(path):
            echo(json.dumps(value, ensure_ascii=False))
    elif id is None:
        _follow_requests(server.events(path), console)
    else:
        _follow_artifacts(server.events(path), console)


def _follow_requests(events: Iterator[dict[str, Any]], console: Terminal) -> None:
    """One line when a request begins, one when it ends."""
    begun: set[str] = set()
    for value in events:
        head = value["trace"]
        line = Text(f"{clock(head['began'])} {head['id']} ")
        if head["state"] == "open":
            if head["id"] in begun:
                continue
            begun.add(head["id"])
            line.append(f"{head['method']} {head['path']}", style="dim")
        else:
            begun.discard(head["id"])
            line.append_text(state(head))
            line.append(f" {head['path']} {head.get('model') or ''} {milliseconds(head['seconds'])} ms")
            if head.get("first_token") is not None:
                line.append(f", first token {milliseconds(head['first_token'])} ms, {token_counts(head)} tokens")
            if fault := head.get("error"):
                line.append(f" {fault['layer']}: {fault['message']}", style="red")
        console.print(line, soft_wrap=True)


def _follow_artifacts(events: Iterator[dict[str, Any]], console: Terminal) -> None:
    """Each artifact when it is made; of what is held also the end."""
    shown: dict[int, bool] = {}
    head: dict[str, Any] = {}
    for value in events:
        head = value.get("trace") or head
        for artifact in value.get("artifacts", ()):
            over = artifact["took"] is not None
            if artifact["id"] not in shown or (artifact["kind"] == "held" and over and not shown[artifact["id"]]):
                console.print(_artifact_line(artifact), soft_wrap=True)
            shown[artifact["id"]] = over
    if head:
        console.print(summary(head))


def _artifact_line(artifact: dict[str, Any]) -> Text:
    line = Text(f"{milliseconds(artifact['at']):>9} ms  #{artifact['id']:<4}")
    line.append(f"{artifact['lane']:<8}", style=LANES[artifact["lane"]])
    line.append(f"{artifact['kind']:<14}")
    line.append(label(artifact))
    if artifact["kind"] == "held" and artifact["took"] is not None:
        line.append(f" (over after {milliseconds(artifact['took'])} ms)", style="dim")
    line.append("  ← " + few_ids(artifact["of"]), style="dim")
    return line
