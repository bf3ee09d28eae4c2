"""Whoever answers in ``portico chat``: the line in this process, or a server somewhere else."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Protocol

import httpx
import orjson

from portico.config import Settings
from portico.errors import EngineError
from portico.events import CallArguments, CallStart, Content, Event, Finish, Reasoning

__all__ = ["Messages", "Talker", "local", "remote"]

Messages = list[dict[str, Any]]


class Talker(Protocol):
    """Messages in, events out, a ``Finish`` last. ``tokens`` is what the last answer cost as far as it came, None where
    nobody knows."""

    tokens: int | None

    @property
    def model(self) -> str: ...

    def answer(self, messages: Messages, fields: dict[str, Any]) -> AsyncIterator[Event]: ...

    async def models(self) -> list[str]: ...


class _Local:
    """The line in this process."""

    def __init__(self, served: Any, model: str) -> None:
        self._served = served
        self.model = model
        self.tokens: int | None = 0
        self._turns = 0

    async def answer(self, messages: Messages, fields: dict[str, Any]) -> AsyncIterator[Event]:
        from pydantic import ValidationError

        from portico.protocols.openai import chat
        from portico.protocols.openai.schema import ChatRequest
        from portico.server.line.flight import Flight
        from portico.server.line.sinks import EventSink

        try:
            request = ChatRequest(messages=messages, **fields)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            raise EngineError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}.") from None
        with contextlib.ExitStack() as held:
            served = await self._served.generating(None).get(held)
            prompt = await served.model.prompter.chat(**chat.prompt_arguments(request))
            self._turns += 1
            generation = chat.generation(request, prompt, served.model, f"chat-{self._turns}")
            sink = EventSink()
            flight = Flight([generation], sink)
            try:
                await served.line.admit(flight)
                async for event in sink:
                    yield event
            finally:
                self.tokens = generation.usage.completion_tokens
                served.line.abort(flight)

    async def models(self) -> list[str]:
        from portico import models

        return [one.spec for one in models.installed() if one.facts.kind != "embedding"]


@contextlib.asynccontextmanager
async def local(settings: Settings) -> AsyncIterator[Talker]:
    """The model of the settings, loaded here."""
    from pydantic import SecretStr

    from portico.server.observe.metrics import Metrics
    from portico.server.process.assemble import assemble, release

    served = await assemble(settings.model_copy(update={"store": SecretStr("none")}), Metrics())
    try:
        yield _Local(served, settings.model)
    finally:
        await release(served)


class _Remote:
    """A server somewhere else, over the OpenAI API."""

    def __init__(self, client: httpx.AsyncClient, model: str | None) -> None:
        self._client = client
        self._model = model
        self.tokens: int | None = None

    @property
    def model(self) -> str:
        return self._model or "the server's model"

    async def answer(self, messages: Messages, fields: dict[str, Any]) -> AsyncIterator[Event]:
        usage = {"include_usage": True, "continuous_usage_stats": True}  # so that it is known of an interrupted answer
        body = {"messages": messages, "stream": True, "stream_options": usage, **fields}
        if self._model:
            body["model"] = self._model
        self.tokens = None
        try:
            async with self._client.stream("POST", "chat/completions", json=body) as response:
                if response.status_code != 200:
                    raise EngineError(_message(orjson.loads(await response.aread())))
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        for event in self._events(orjson.loads(line[6:])):
                            yield event
        except (httpx.HTTPError, ValueError) as error:
            raise EngineError(f"The server cannot be reached: {error or type(error).__name__}.") from None

    async def models(self) -> list[str]:
        try:
            response = await self._client.get("models")
            return [str(model["id"]) for model in response.json()["data"]]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return []

    def _events(self, chunk: dict[str, Any]) -> list[Event]:
        if "error" in chunk:
            raise EngineError(_message(chunk))
        if chunk.get("usage"):
            self.tokens = chunk["usage"]["completion_tokens"]
        events: list[Event] = []
        for choice in chunk.get("choices") or ():
            delta = choice["delta"]
            if thought := delta.get("reasoning") or delta.get("reasoning_content"):
                events.append(Reasoning(thought))
            if text := delta.get("content"):
                events.append(Content(text))
            for call in delta.get("tool_calls") or ():
                if call["function"].get("name"):
                    events.append(CallStart(call["index"], call.get("id") or "", call["function"]["name"]))
                events.append(CallArguments(call["index"], call["function"].get("arguments") or ""))
            if choice.get("finish_reason"):
                events.append(Finish(choice["finish_reason"]))
        return events


def _message(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("message") if isinstance(error, dict) else error or "The server refused the request.")


@contextlib.asynccontextmanager
async def remote(url: str, key: str | None, model: str | None) -> AsyncIterator[Talker]:
    """A server's model; its first where none is named."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=httpx.Timeout(10, read=None)) as client:
        yield _Remote(client, model)
