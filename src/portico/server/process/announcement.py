"""What a server says when it is ready."""

from __future__ import annotations

import socket

from rich.markup import escape

from portico import __version__
from portico.config import Settings
from portico.server.http.browsers import with_port
from portico.server.line.served import Served
from portico.terminal import Terminal

__all__ = ["announce"]


def announce(settings: Settings, served: Served, listener: socket.socket, grpc_port: int | None) -> None:
    """A few lines on stdout: what, where, and something to try."""
    scheme = "http" if settings.tls_cert is None else "https"
    options = ""  # of curl
    if settings.uds is not None:
        base, host = f"{scheme}://localhost", settings.host
        options = f"--unix-socket {settings.uds} "
    else:
        host, port = listener.getsockname()[:2]
        base = f"{scheme}://{with_port(host, port)}"
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
