"""Trace one streamed tool call and write what every layer made of it as Markdown: docs/anatomy.md is its output.

    python examples/anatomy.py > docs/anatomy.md

Starts a server with the inspector on a free port of this machine, asks SmolLM2 for a tool call with curl, reads the
request's trace back, and ends the server.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import httpx

SERVE = ["portico", "serve", "smollm2", "--inspect", "--tool-parser", "hermes"]
REQUEST = {
    "model": "smollm2",
    "stream": True,
    "temperature": 0,
    "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            },
        }
    ],
    "tool_choice": "required",
    "parallel_tool_calls": False,
}
INTRODUCTION = """# Anatomy of a streamed tool call

One request, from `curl` to `[DONE]`, with everything that each layer made of it on the way. This page is the output of
`python examples/anatomy.py`: a real run of SmolLM2 on the embedded engine. `portico serve --inspect` shows any request
of yours in the same way, on `/inspect` and with `portico trace`.

- A layer is a folder of `src/portico`. *Inference* is the engine's work; everything else is *translation*, and ours.
- **made of** are the artifacts that one was made from. Any byte on the wire leads back to the tokens, and they to the
  request.
- **held** is text that had come and could not be told yet, with the reason and for how long.
"""


def main() -> None:
    """Serve, ask, read the trace, write the page."""
    server = subprocess.Popen(
        [sys.executable, "-m", *SERVE, "--port", "0", "--log-level", "warning"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        base = re.split(r" at |/v1", server.stdout.readline())[1]
        body = json.dumps(REQUEST, indent=1)
        curl = ["curl", "-sN", f"{base}/v1/chat/completions", "-H", "Content-Type: application/json", "-d", body]
        ask(curl)  # the first request warms the model up: what it took is no part of the anatomy
        answer = ask(curl)
        (head, *_) = httpx.get(f"{base}/inspect/traces").json()["traces"]
        trace = httpx.get(f"{base}/inspect/traces/{head['id']}").json()
    finally:
        server.terminate()
        server.wait()
    print(page(trace["trace"], trace["artifacts"], body, answer))


def ask(curl: list[str]) -> str:
    """What the server answers."""
    return subprocess.run(curl, check=True, capture_output=True, text=True).stdout


def page(head: dict[str, Any], artifacts: list[dict[str, Any]], body: str, answer: str) -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## The request", fenced("console", " ".join(["$", *SERVE]))]
    parts.append(
        fenced(
            "console",
            "$ curl -N http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' -d '" + body + "'",
        )
    )
    parts += ["## Every artifact", summary(head)]
    rows = ["| # | at, ms | lane | layer | mark | artifact | made of |", "|--:|--:|---|---|---|---|---|"]
    rows += [row(one) for one in artifacts]
    parts += ["\n".join(rows), "## One chunk, back to the request", way_back(artifacts)]
    parts += ["## The bytes that curl got", fenced("", answer.strip())]
    return "\n\n".join(parts)


def summary(head: dict[str, Any]) -> str:
    """What the whole amounts to."""
    first, total = head["first_token"] * 1000, head["seconds"] * 1000
    tokens = f"{head['prompt_tokens']} tokens in, {head['completion_tokens']} out"
    return f"{tokens}; the first token came after {first:.0f} ms, the last byte went after {total:.0f} ms."


def row(one: dict[str, Any]) -> str:
    """One artifact as a row."""
    layer = one["source"].removeprefix("portico.")
    mark = "inference" if one["by"] == "inference" else "translation"
    made = spans(one["of"])
    return f"| {one['id']} | {one['at'] * 1000:.2f} | {one['lane']} | {layer} | {mark} | {what(one)} | {made} |"


def what(one: dict[str, Any]) -> str:
    """What an artifact is, in a table's cell."""
    data, kind = one["data"], one["kind"]
    if kind == "step":
        tokens = " ".join(f"{id} {code(piece)}" for id, piece in zip(data["ids"], data["pieces"], strict=True))
        return f"step: {tokens}" + (f", finish {code(data['finish_reason'])}" if data.get("finish_reason") else "")
    if kind == "text":
        return f"text {code(data['text'])}"
    if kind == "held":
        return f"**held** for {one['took'] * 1000:.1f} ms: {code(data['text'])} {escaped(data['reason'])}"
    if kind == "event":
        said = data.get("text") or data.get("json_fragment") or data.get("name") or data.get("reason") or ""
        return data["type"] + (f" {code(said)}" if said else "")
    if kind in ("frame", "chunk"):
        return f"{kind}, {len(data['bytes'].encode())} bytes"
    return f"{kind.replace('_', ' ')}: {escaped(one['label'])}"


def way_back(artifacts: list[dict[str, Any]]) -> str:
    """The ancestors of the chunk in which the call begins, the newest first."""
    chunk = next(one for one in artifacts if one["kind"] == "chunk" and "get_weather" in one["data"]["bytes"])
    wanted, found = {chunk["id"]}, []
    for one in reversed(artifacts[: chunk["id"] + 1]):
        if one["id"] in wanted:
            found.append(one)
            wanted.update(one["of"])
    lines = [f"- {one['id']}. {one['source'].removeprefix('portico.')}: {what(one)}" for one in found]
    return f"Where do the bytes of chunk {chunk['id']} come from?\n\n" + "\n".join(lines)


def spans(ids: list[int]) -> str:
    """Ids, runs of neighbours joined."""
    return ", ".join(map(str, ids)) if len(ids) <= 4 else f"{ids[0]}, {ids[1]}, … {ids[-1]} ({len(ids)})"


def code(text: str) -> str:
    """Text as inline code that survives a table's cell."""
    shown = text.replace("\n", "⏎").replace("|", "¦")
    shown = shown if len(shown) <= 60 else shown[:59] + "…"
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def escaped(text: str) -> str:
    """Text that means nothing to Markdown."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def fenced(language: str, text: str) -> str:
    """A block of code."""
    return f"```{language}\n{text}\n```"


main()
