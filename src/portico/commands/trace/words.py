"""How the parts of a trace are called in the terminal: states, times, counts, ids."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from rich.text import Text

__all__ = ["FEW", "LANES", "STATES", "clock", "few_ids", "label", "milliseconds", "state", "token_counts"]

STATES = {"open": "cyan", "ok": "green", "refused": "yellow", "failed": "bold red", "gone": "magenta"}
LANES = {"request": "blue", "prompt": "cyan", "tokens": "bold yellow", "text": "green", "events": "magenta", "wire": ""}
FEW = 4  # tokens of a step


def label(artifact: dict[str, Any]) -> Text:
    if artifact["kind"] == "held":
        return Text("held: ", style="yellow").append(artifact["label"], style="italic")
    if artifact["kind"] == "error":
        return Text(f"{artifact['label']}: {artifact['data'].get('message', '')}", style="bold red")
    label = Text(artifact["label"])
    if artifact["kind"] == "step":
        data = artifact["data"]
        ids, pieces = data.get("ids", ()), data.get("pieces", ())
        for token, piece in list(zip(ids, pieces, strict=False))[:FEW]:
            label.append("  " + json.dumps(piece, ensure_ascii=False), style="green").append(f" {token}", style="dim")
        if len(ids) > FEW:
            label.append("  …", style="dim")
    return label


def state(head: dict[str, Any]) -> Text:
    """How the request stands, coloured."""
    status = f" {head['status']}" if head.get("status") else ""
    return Text(head["state"] + status, style=STATES[head["state"]])


def token_counts(head: dict[str, Any]) -> str:
    if head.get("prompt_tokens") is None:
        return ""
    return f"{head['prompt_tokens']}+{head.get('completion_tokens') or 0}"


def clock(unix: float) -> str:
    """A moment of Unix time as people here read it."""
    return time.strftime("%H:%M:%S", time.localtime(unix))


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds; nothing where there are none."""
    return "" if seconds is None else f"{seconds * 1000:.1f}" if seconds < 10 else f"{seconds * 1000:.0f}"


def few_ids(ids: Sequence[int]) -> str:
    """``1-4 7``: ids in order, runs in short."""
    runs: list[list[int]] = []
    for id in sorted(ids):
        if runs and id == runs[-1][1] + 1:
            runs[-1][1] = id
        else:
            runs.append([id, id])
    return " ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
