"""One request whole, and where one of its artifacts came from."""

from __future__ import annotations

import json
from typing import Any

import rich_click as click
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from portico.commands.trace.words import LANES, clock, few_ids, label, milliseconds, state
from portico.terminal import Terminal, echo

__all__ = ["print_origin", "print_trace", "summary"]

STAGES = ("read", "validate", "template", "tokenize", "constrain", "check", "admit")
SHOWN = 200  # characters or tokens of one artifact's content


def print_trace(found: dict[str, Any], console: Terminal) -> None:
    """The request, and a row for each of its artifacts."""
    table = Table(
        Column("#", justify="right"),
        Column("+ms", justify="right", no_wrap=True),
        Column("took ms", justify="right", no_wrap=True),
        "lane",
        Column("kind", no_wrap=True),
        "by",
        Column("what", overflow="fold", ratio=1),
        Column("made from", overflow="fold", max_width=24),
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for artifact in found["artifacts"]:
        inferred = artifact["by"] == "inference"
        choice = "" if artifact["choice"] in (None, 0) else f"[choice {artifact['choice']}] "
        table.add_row(
            str(artifact["id"]),
            milliseconds(artifact["at"]),
            milliseconds(artifact["took"]),
            Text(artifact["lane"], style=LANES[artifact["lane"]]),
            artifact["kind"],
            Text(artifact["by"], style="bold yellow" if inferred else "dim"),
            Text(choice).append_text(label(artifact)),
            Text(few_ids(artifact["of"]), style="dim"),
            style="bold red" if artifact["kind"] == "error" else None,
        )
    console.print(summary(found["trace"]))
    console.print(table)
    if found["trace"].get("error") and len(found["artifacts"]) > 20:  # the head has scrolled away
        console.print(_fault(found["trace"]))


def summary(head: dict[str, Any]) -> Group:
    """A request in a few lines: what it was, how it ended, where the time to its first token went."""
    first = Text(f"{head['id']}  {head['method']} {head['path']}  {head.get('model') or ''}  ", style="bold")
    first.append_text(state(head))
    lines = [first]
    facts = [f"request {head['request_id']}", f"at {clock(head['began'])}"]
    if head.get("seconds") is not None:
        facts.append(f"{milliseconds(head['seconds'])} ms")
    if head.get("prompt_tokens") is not None:
        facts.append(f"{head['prompt_tokens']} prompt tokens")
    if head.get("completion_tokens") is not None:
        facts.append(f"{head['completion_tokens']} completion tokens")
    if head.get("finish"):
        facts.append(f"finish {head['finish']}")
    if head.get("redacted"):
        facts.append("redacted")
    lines.append(Text("  " + " · ".join(facts)))
    stages = head.get("stages") or {}
    spent = [f"{name} {milliseconds(stages[name])}" for name in STAGES if stages.get(name, 0.0) > 0.0]
    if head.get("first_token") is not None:
        waited = max(0.0, head["first_token"] - sum(stages.values()))
        parts = [*spent, f"engine {milliseconds(waited)}"] if stages else []
        lines.append(
            Text(f"  first token after {milliseconds(head['first_token'])} ms: {', '.join(parts)}".rstrip(": "))
        )
    elif spent:
        lines.append(Text(f"  spent, in ms: {', '.join(spent)}"))
    if head.get("dropped"):
        lines.append(Text(f"  {head['dropped']} artifacts were not recorded: the trace is full", style="yellow"))
    if head.get("error"):
        lines.append(_fault(head))
    return Group(*lines)


def _fault(head: dict[str, Any]) -> Text:
    fault = head["error"]
    how = "refused by" if head["state"] == "refused" else "failed in"
    param = f" (param: {fault['param']})" if fault.get("param") else ""
    return Text(
        f"  ✗ {how} {fault['layer']}: {fault['status']} {fault['code']}{param}\n    {fault['message']}",
        style="bold red",
    )


def print_origin(found: dict[str, Any], wanted: int, console: Terminal, as_json: bool) -> None:
    """One artifact and all that it was made from, the last made first."""
    artifacts = {artifact["id"]: artifact for artifact in found["artifacts"]}
    if wanted not in artifacts:
        raise click.UsageError(f"--artifact {wanted}: this trace has artifacts 0 to {len(artifacts) - 1}")
    chain = [artifacts[id] for id in _origins(artifacts, wanted)]
    if as_json:
        echo(json.dumps(chain, ensure_ascii=False, indent=2))
        return
    table = Table(
        Column("#", justify="right"),
        "lane",
        Column("kind", no_wrap=True),
        Column("what", overflow="fold", ratio=1),
        Column("made from", overflow="fold", max_width=24),
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for artifact in chain:
        table.add_row(
            str(artifact["id"]),
            Text(artifact["lane"], style=LANES[artifact["lane"]]),
            artifact["kind"],
            _content(artifact),
            Text(few_ids(artifact["of"]), style="dim"),
        )
    console.print(table)


def _origins(artifacts: dict[int, dict[str, Any]], wanted: int) -> list[int]:
    """The artifact and its ancestors, the last made first."""
    found = {wanted}
    waiting = [wanted]
    while waiting:
        for parent in artifacts[waiting.pop()]["of"]:
            if parent in artifacts and parent not in found:
                found.add(parent)
                waiting.append(parent)
    return sorted(found, reverse=True)


def _content(artifact: dict[str, Any]) -> Text:
    """What the artifact holds, as far as it fits."""
    data = artifact["data"]
    if "ids" in data:
        pieces = data.get("pieces") or [""] * len(data["ids"])
        text = Text()
        for token, piece in list(zip(data["ids"], pieces, strict=False))[:SHOWN]:
            text.append(json.dumps(piece, ensure_ascii=False), style="green").append(f" {token}  ", style="dim")
        return text.append("…") if len(data["ids"]) > SHOWN else text
    for name in ("bytes", "base64", "text", "body", "json_fragment", "lark"):
        if name in data:
            shown = data[name] if len(data[name]) <= SHOWN else data[name][: SHOWN - 1] + "…"
            text = Text(json.dumps(shown, ensure_ascii=False))
            return text.append(f"  {data['reason']}", style="italic") if artifact["kind"] == "held" else text
    return label(artifact)
