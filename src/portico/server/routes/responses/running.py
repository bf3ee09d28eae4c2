"""The tools of MCP servers that one response calls: listed before it, run between its generations.

A generation that ends with calls of such tools is followed by another, behind their results, in the same answer; unless
a call has to be approved first, or the client has something to do itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from portico.keys import KEY, enter
from portico.protocols.responses.ids import item_id
from portico.protocols.responses.items import Item, kind_of
from portico.protocols.responses.mcp import (
    McpServer,
    Told,
    approved_requests,
    call_item,
    list_item,
    mcp_servers,
    tools_before,
)
from portico.protocols.responses.output import ServerCall
from portico.protocols.responses.request import Asked, generation
from portico.protocols.responses.schema import InputTokensRequest, ResponsesRequest
from portico.protocols.responses.stream import Answer
from portico.server.http.exchange import Exchange
from portico.server.line.flight import Flight
from portico.server.line.model import ServedModel
from portico.server.line.served import Served
from portico.server.routes.responses.keeping import Keeping
from portico.server.routes.responses.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from portico.server.routes.responses.mcp import McpClient

__all__ = ["McpTools", "Running"]

MOST_CALLS = 64  # in one response
SILENCE = 15.0  # seconds between two signs of life while a tool runs


class McpTools:
    """What a request has of MCP servers: ``listed`` are the tools that are offered, by the labels of their servers, and
    ``made`` the items that this has made, with their events."""

    def __init__(self, client: McpClient | None, request: InputTokensRequest) -> None:
        self._client = client
        servers = mcp_servers(request.tools) if client is not None else {}
        self.servers = {label: one for label, one in servers.items() if client is not None and client.allows(one)}
        self.listed: dict[str, list[dict[str, Any]]] = {}
        self.made: list[tuple[Item, Told]] = []

    @property
    def items(self) -> list[Item]:
        """Those of ``made``."""
        return [item for item, _ in self.made]

    async def prepare(self, items: Sequence[Item]) -> None:
        """List what ``items`` do not list, and run the calls that were approved in them."""
        for label, server in self.servers.items():
            found = tools_before(items, label)
            if found is None:
                found = await self._list(label, server)
            self.listed[label] = [tool for tool in found if server.allows(tool)]
        for request in approved_requests(items)[:MOST_CALLS]:
            label, name, arguments = request["server_label"], request["name"], request["arguments"]
            if self.tool(label, name) is not None:
                item, told = call_item(label, name, arguments, request["id"])
                done, end = await self.run(item)
                self.made.append((done, [*told, *end]))

    def tool(self, label: str | None, name: str) -> dict[str, Any] | None:
        """The tool that is offered under these names."""
        return next((tool for tool in self.listed.get(label or "", ()) if tool["name"] == name), None)

    async def run(self, item: Item) -> tuple[Item, Told]:
        """The item of a call when it has run, and its last event."""
        assert self._client is not None  # there is no tool without one
        outcome = await self._client.call(self.servers[item["server_label"]], item["name"], item["arguments"])
        return over(item, outcome.output, outcome.error)

    async def _list(self, label: str, server: McpServer) -> list[dict[str, Any]]:
        from portico.server.routes.responses.mcp import McpFailure

        assert self._client is not None
        found: list[dict[str, Any]] = []
        error: str | None = None
        try:
            found = await self._client.tools(server)
        except McpFailure as failure:
            error = failure.reason
        self.made.append(list_item(label, found, error))
        return found


def over(item: Item, output: str | None, error: dict[str, Any] | None) -> tuple[Item, Told]:
    """The item of a call that is over, and its last event."""
    status = "completed" if error is None else "failed"
    return {**item, "status": status, "output": output, "error": error}, [(f"response.mcp_call.{status}", {})]


class Running:
    """Runs the tools that ``answer`` calls, and takes it up with another generation. ``asked`` is what it answers;
    ``exchange`` counts that, also when it is over."""

    def __init__(
        self,
        served: Served,
        prompts: Prompts,
        by: ServedModel,
        request: ResponsesRequest,
        asked: Asked,
        answer: Answer,
        tools: McpTools,
        exchange: Exchange,
    ) -> None:
        self._served = served
        self._prompts = prompts
        self._by = by
        self._request = request
        self._asked = asked
        self._answer = answer
        self._tools = tools
        self._exchange = exchange
        self._key = KEY.get()
        most = min(request.max_tool_calls or MOST_CALLS, MOST_CALLS)
        self._left = most - sum(item["type"] == "mcp_call" for item in tools.items)
        self._seen = 0  # items of generations before the last
        self._rounds = 0

    async def go_on(self, keeping: Keeping) -> bool:
        """Run what was called; whether the answer goes on."""
        enter(self._key)  # this task is not the request's
        output = self._answer.output
        output.close()
        calls, output.server_calls = output.server_calls, []
        waits = any(_is_the_clients(item) for item in output.items[self._seen :])
        async with _alive(keeping):
            for call in calls:
                waits = not await self._run(call, keeping) or waits
        self._seen = len(output.items)
        if waits:
            return False
        await self._generate(keeping)
        return True

    async def _run(self, call: ServerCall, keeping: Keeping) -> bool:
        """Run one call; whether it could be without asking anybody."""
        output, tools = self._answer.output, self._tools
        label, name, arguments = call.called.namespace or "", call.called.name, "".join(call.arguments)
        tool = tools.tool(label, name)
        if tool is not None and tools.servers[label].wants_approval(tool):
            kind = "mcp_approval_request"
            wish = {"id": item_id(kind), "type": kind, "server_label": label, "name": name, "arguments": arguments}
            output.whole(wish)
            return False
        item, told = call_item(label, name, arguments)
        output.begin(item, *told)
        keeping.tell()
        if self._left > 0:
            done, end = await tools.run(item)
        else:
            why = "No more tools may be called for this response; answer without."
            done, end = over(item, None, {"type": "mcp_protocol_error", "code": -32000, "message": why})
        self._left -= 1
        output.end(done, *end)
        keeping.tell()
        return True

    async def _generate(self, keeping: Keeping) -> None:
        """Begin the next generation. What ``tool_choice`` promised was kept by the first."""
        request, model = self._request, self._by.model
        known = {item.get("id") for item in self._asked.items}
        items = [*self._asked.items, *(item for item in self._answer.output.items if item["id"] not in known)]
        choice = request.tool_choice
        if self._left <= 0:
            choice = "none"
        elif isinstance(choice, dict) and choice.get("type") == "allowed_tools":
            choice = {**choice, "mode": "auto"}
        elif choice != "none":
            choice = "auto"
        changed: dict[str, Any] = {"tool_choice": choice}
        if request.max_output_tokens is not None:
            spent = self._answer.usage["output_tokens"]
            changed["max_output_tokens"] = max(1, request.max_output_tokens - spent)
        request = request.model_copy(update=changed)
        asked, prompt = await self._prompts.next(request, items, model, self._tools.listed)
        self._rounds += 1
        id = f"{self._answer.response['id']}.{self._rounds}"
        with asked.places.told():
            made = generation(request, asked, prompt, model, id)
        self._answer.take_up(made)
        trace = self._exchange.trace
        flight = Flight([made], keeping, self._served.request_timeout, [trace.watch] if trace is not None else [])
        self._exchange.goes_on(prompt, model, made, flight)
        await self._by.check(flight.generations)
        keeping.stop = partial(self._by.line.abort, flight)
        await self._by.line.admit(flight)
        if trace is not None:
            trace.admitted()


def _is_the_clients(item: Mapping[str, Any]) -> bool:
    kind = kind_of(item)
    return kind.endswith("_call") and kind != "mcp_call"


@asynccontextmanager
async def _alive(keeping: Keeping) -> AsyncIterator[None]:
    """Signs of life while something takes its time."""

    async def tell() -> None:
        while True:
            await asyncio.sleep(SILENCE)
            keeping.keep_alive()

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
