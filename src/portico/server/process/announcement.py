"""What a server says when it is ready."""

from __future__ import annotations

import json
import socket
from typing import Any

from rich.markup import escape

from portico import __version__
from portico.config import Settings
from portico.server.http.browsers import with_port
from portico.server.line.offers import Offer
from portico.server.line.served import Served
from portico.terminal import Terminal, echo

__all__ = ["announce"]


def announce(settings: Settings, served: Served, listener: socket.socket, grpc_port: int | None) -> None:
    """A few lines on stdout: what, where, and something to try. Where the log is JSON, one line of that."""
    scheme = "http" if settings.tls_cert is None else "https"
    options = ""  # of curl
    if settings.uds is not None:
        base, host = f"{scheme}://localhost", settings.host
        options = f"--unix-socket {settings.uds} "
    else:
        host, port = listener.getsockname()[:2]
        base = f"{scheme}://{with_port(host, port)}"
    if settings.log_format == "json":
        told = {"portico": __version__, "url": f"{base}/v1", "models": [_facts(one) for one in served.offers.offers]}
        beside = {"uds": settings.uds, "grpc": None if grpc_port is None else with_port(host, grpc_port)}
        pages = {name: f"{base}/{name}" for name in ("inspect", "play") if settings.inspect}
        echo(json.dumps(told | {name: str(place) for name, place in beside.items() if place is not None} | pages))
        return
    console = Terminal(highlight=False, soft_wrap=True)
    console.print(f"[bold]portico {__version__}[/bold] at [bold cyan]{base}/v1[/bold cyan]")
    if settings.uds is not None:
        console.print(f"  by the socket [bold cyan]{escape(str(settings.uds))}[/bold cyan]")
    if settings.inspect:
        console.print(f"  inspector at [bold cyan]{base}/inspect[/bold cyan], playground at [cyan]{base}/play[/cyan]")
    if grpc_port is not None:
        console.print(f"  gRPC at [bold cyan]{with_port(host, grpc_port)}[/bold cyan]")
    for own, offer in zip(settings.each_model, served.offers.offers, strict=True):
        if offer.served is None:
            console.print(f"  [green]{escape(', '.join(offer.names))}[/green]  loaded when it is asked for")
            continue
        one, model = offer.served, offer.served.model
        facts = [f"{model.context_length} tokens of context"]
        if "generate" not in model.capabilities:
            facts = [f"embeddings of {model.embedding_size} numbers", *facts]
        if model.tool_parser:
            facts.append(f"tools: {model.tool_parser}")
        if model.reasoning_parser:
            facts.append(f"reasoning: {model.reasoning_parser}")
        console.print(f"  [green]{escape(', '.join(one.names))}[/green]  {escape(', '.join(facts))}")
        if model.prompter.renderer is not None and model.tool_parser is None and own.tool_parser != "none":
            lacking = "tool-call format" if model.reasoning_parser else "tool-call or reasoning format"
            console.print(f"  no {lacking} known from its chat template: --tool-parser NAME, see 'portico formats'")
    key = ' -H "Authorization: Bearer $PORTICO_API_KEY"' if settings.api_key else ""
    first = served.offers.offers[0]
    name = first.names[0]
    if first.capabilities is None or "generate" in first.capabilities:
        body = f'{{"model": "{name}", "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'
        path = "chat/completions"
    else:
        body, path = f'{{"model": "{name}", "input": "Hello!"}}', "embeddings"
    console.print("Try:")
    console.print(f"  curl -N {options}{base}/v1/{path} -H 'Content-Type: application/json'{key} \\", markup=False)
    console.print(f"    -d '{body}'", markup=False)


def _facts(offer: Offer) -> dict[str, Any]:
    """One model, for programs."""
    if offer.served is None:
        return {"names": offer.names, "loaded": False}
    model = offer.served.model
    return {
        "names": list(offer.served.names),
        "loaded": True,
        "capabilities": sorted(model.capabilities),
        "context_length": model.context_length,
        "embedding_size": model.embedding_size,
        "tool_parser": model.tool_parser,
        "reasoning_parser": model.reasoning_parser,
    }
