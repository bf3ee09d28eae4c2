"""Speaking to MCP servers (streamable HTTP, by the protocol's own SDK), as far as the operator allows.

A request says whom this server speaks to, so all of it is guarded: hosts are listed by the operator, the connection
goes to an address that was checked (``portico.media.hosts``), nothing of the environment is used, redirects stay
where they are, and time and bytes are bounded. A listed name that no public DNS has, or an address, may be an inner
one: who lists it means it.

Every list and every call is a session of its own. What goes wrong is told in our words, except for what a server says
of its own tool.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from portico.media.hosts import Hosts
from portico.protocols.responses.mcp import McpServer
from portico.server.http.browsers import is_private, without_port

__all__ = ["McpClient", "McpFailure", "Outcome"]

log = logging.getLogger("portico")

SECONDS = 60.0  # for a list or a call
MOST_BYTES = 4 << 20  # of what a server sends for one of them
MOST_OUTPUT = 1 << 20  # characters of a result
MOST_TOOLS = 512  # of one server
LONGEST_REASON = 500  # characters

Tool = dict[str, Any]


class McpFailure(Exception):
    """What cannot be had from a server, in words for the client. ``status`` is that of HTTP, where there was one."""

    def __init__(self, reason: str, status: int = 502) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class Outcome(NamedTuple):
    """What came of a call: its ``output``, or an ``error`` as an item has it."""

    output: str | None
    error: dict[str, Any] | None


class McpClient:
    """Speaks to the hosts that are ``listed``."""

    def __init__(self, listed: Collection[str]) -> None:
        inner = [host for host in listed if is_private(without_port(host))]
        self._hosts = Hosts([_plain(host) for host in listed])
        self._inner = Hosts([_plain(host) for host in inner], public=lambda address: True)

    def allows(self, server: McpServer) -> bool:
        """Whether the operator lists the server's host."""
        try:
            url = httpx2.URL(server.url)
        except (httpx2.InvalidURL, UnicodeError):
            return False
        return url.scheme in ("http", "https") and not url.userinfo and self._hosts.lists(url.host, url.port)

    async def tools(self, server: McpServer) -> list[Tool]:
        """The server's tools. Raises ``McpFailure``."""
        tools: list[Tool] = []
        async with self._session(server) as session:
            cursor: str | None = None
            while len(tools) < MOST_TOOLS:
                found = await session.list_tools(cursor=cursor)
                for tool in found.tools:
                    told = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
                    tools.append(
                        {
                            "name": tool.name,
                            "description": tool.description,
                            "input_schema": told["inputSchema"],
                            "annotations": told.get("annotations"),
                        }
                    )
                cursor = found.next_cursor
                if not cursor:
                    break
        return tools[:MOST_TOOLS]

    async def call(self, server: McpServer, name: str, arguments: str) -> Outcome:
        """What a call of the tool ``name`` comes to. Never raises."""
        try:
            given = json.loads(arguments or "{}")
        except ValueError:
            given = None
        if not isinstance(given, dict):
            return Outcome(None, _protocol_error("The arguments are not a JSON object."))
        try:
            async with self._session(server) as session:
                result = await session.call_tool(name, given)
        except McpFailure as failure:
            return Outcome(None, {"type": "http_error", "code": failure.status, "message": failure.reason})
        text = "\n".join(_text(block) for block in result.content)
        if not text and result.structured_content is not None:
            text = json.dumps(result.structured_content, ensure_ascii=False)
        if len(text) > MOST_OUTPUT:
            return Outcome(None, _protocol_error(f"The result has more than {MOST_OUTPUT} characters."))
        if result.is_error:
            return Outcome(None, {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]})
        return Outcome(text, None)

    @asynccontextmanager
    async def _session(self, server: McpServer) -> AsyncIterator[Client]:
        transport = _Guarded(self._hosts, self._inner)
        headers = {"accept-encoding": "identity", **server.headers}
        http = httpx2.AsyncClient(transport=transport, headers=headers, timeout=SECONDS, trust_env=False)
        try:
            with anyio.fail_after(SECONDS):
                async with http, Client(streamable_http_client(server.url, http_client=http)) as session:
                    yield session
        except Exception as error:
            raise _failure(error, transport) from None


class _Guarded(httpx2.AsyncBaseTransport):
    """Connects to addresses that were checked, and counts what comes. ``failure`` is the last thing that went wrong."""

    def __init__(self, hosts: Hosts, inner: Hosts) -> None:
        self._hosts = hosts
        self._inner = inner
        self._http = httpx2.AsyncHTTPTransport(retries=0, trust_env=False)
        self._left = MOST_BYTES
        self.failure: McpFailure | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        if not self._hosts.lists(url.host, url.port):
            raise self._failed("it redirects to a host that this server may not speak to")
        hosts = self._inner if self._inner.lists(url.host, url.port) else self._hosts
        try:
            address = await hosts.address(url.host, url.port or (443 if url.scheme == "https" else 80))
        except (OSError, UnicodeError):
            raise self._failed("its host is not known") from None
        if address is None:
            raise self._failed("its host has no public address")
        response = await self._http.handle_async_request(
            httpx2.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": url.host},
            )
        )
        if response.status_code >= 400:
            self._failed(f"it answered with status {response.status_code}", response.status_code)
        if "content-encoding" in response.headers:
            await response.aclose()
            raise self._failed("it sent its answer compressed")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Counted(response.stream, self)
        return response

    def count(self, size: int) -> None:
        """So many bytes have come. Raises when it is too much."""
        self._left -= size
        if self._left < 0:
            raise self._failed(f"it sent more than {MOST_BYTES:,} bytes")

    def _failed(self, reason: str, status: int = 502) -> httpx2.TransportError:
        self.failure = McpFailure(f"The MCP server cannot be used: {reason}.", status)
        return httpx2.TransportError(reason)

    async def aclose(self) -> None:
        await self._http.aclose()


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, transport: _Guarded) -> None:
        self._stream = stream
        self._transport = transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self._transport.count(len(piece))
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


def _plain(host: str) -> str:
    """A host without the brackets that an IPv6 address has in front of a port."""
    return host.replace("[", "").replace("]", "")


def _failure(error: BaseException, transport: _Guarded) -> McpFailure:
    """What to say of it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, McpFailure):
        return error
    if isinstance(error, TimeoutError):
        return McpFailure(f"The MCP server did not answer within {SECONDS:g} seconds.", 504)
    if transport.failure is not None:
        return transport.failure
    if isinstance(error, MCPError):
        return McpFailure(f"The MCP server says: {str(error)[:LONGEST_REASON]}")
    log.warning("an MCP server could not be used: %s", type(error).__name__)
    return McpFailure("The MCP server cannot be reached, or does not speak MCP over streamable HTTP.")


def _protocol_error(message: str) -> dict[str, Any]:
    return {"type": "mcp_protocol_error", "code": -32602, "message": message}  # JSON-RPC's invalid parameters


def _text(block: Any) -> str:
    """One part of a result as a model reads it."""
    if block.type == "text":
        return str(block.text)
    inside = getattr(block, "resource", None)
    text = getattr(inside, "text", None)
    return str(text) if text is not None else f"[{block.type}, which is not shown]"
