"""A real MCP server in this process, by the protocol's own SDK."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ToolAnnotations

from support.wait import SAFETY, until

__all__ = ["McpUp", "mcp_server"]


@dataclass
class McpUp:
    """A server that is up. ``calls`` are those of its tools, ``headers`` those of every request."""

    url: str
    host: str
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def mcp_server() -> Iterator[McpUp]:
    """Serve a few tools on a free port of 127.0.0.1."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    up = McpUp(f"http://{host}/mcp", host)
    server = MCPServer("tests")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def weather(city: str) -> str:
        """The weather of a city."""
        up.calls.append(("weather", city))
        return f"cold in {city} [[plain]]"

    @server.tool()
    def fails() -> str:
        """Never works."""
        up.calls.append(("fails",))
        raise ValueError("out of order")

    @server.tool()
    def echo(text: str) -> str:
        """What it is given."""
        up.calls.append(("echo", text))
        return text

    @server.tool()
    def long(length: int) -> str:
        """Many letters."""
        up.calls.append(("long", length))
        return "x" * length

    @server.tool()
    async def sleeps(ctx: Context) -> str:
        """Never comes back."""
        up.calls.append(("sleeps",))
        await asyncio.sleep(SAFETY)
        return "late"

    inner = server.streamable_http_app()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            up.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await inner(scope, receive, send)

    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    serving = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(serving.serve([listener])))
    thread.start()
    until(lambda: serving.started)
    try:
        yield up
    finally:
        serving.should_exit = True
        thread.join(SAFETY)
        listener.close()
