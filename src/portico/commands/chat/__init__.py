"""``portico chat``: talk to a model in the terminal, streaming, with the speed shown.

Without ``--url`` the whole line runs in this process, over the embedded engine and without HTTP; with it, the command
is an ordinary client of a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import httpx
import orjson
import rich_click as click

from portico.commands.options import settings_from, settings_options
from portico.commands.progress import progress_bar
from portico.config import Settings
from portico.errors import EngineError, PorticoError
from portico.events import CallArguments, CallStart, Content, Event, Finish, Reasoning
from portico.terminal import Terminal

__all__ = ["command"]

OPTIONS = ("chat_template", "context_length", "threads", "tool_parser", "reasoning_parser")

Messages = list[dict[str, Any]]


class Talker(Protocol):
    """Whoever answers: messages in, events out, a ``Finish`` last; and the tokens that the last answer cost."""

    tokens: int

    def answer(self, messages: Messages, sampling: dict[str, Any]) -> AsyncIterator[Event]: ...


@click.command("chat")
@click.argument("model", required=False)
@click.argument("prompt", nargs=-1)
@click.option("--system", help="System message.")
@click.option("--temperature", type=float, default=0.7, show_default=True, help="0 is greedy.")
@click.option("--max-tokens", type=int, default=1024, show_default=True, help="Longest answer in tokens.")
@click.option("--seed", type=int, help="Makes answers repeatable.")
@click.option("--url", help="Talk to a running server at this base URL instead, such as http://127.0.0.1:8000/v1.")
@click.option("--key", envvar="PORTICO_API_KEY", help="API key for --url.")
@settings_options(OPTIONS)
def command(
    model: str | None,
    prompt: tuple[str, ...],
    system: str | None,
    temperature: float,
    max_tokens: int,
    seed: int | None,
    url: str | None,
    key: str | None,
    config: Path | None,
    **given: Any,
) -> None:
    """Talk to MODEL (smollm2 if none is named). With PROMPT, or text on standard input: one answer, then the end.

    Examples:

      portico chat

      portico chat smollm2 "What is a portico?"

      portico chat smollm2 --url http://127.0.0.1:8000/v1
    """
    settings = settings_from(config, {"model": model, **given})
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    if seed is not None:
        sampling["seed"] = seed
    messages: Messages = [{"role": "system", "content": system}] if system else []
    once = " ".join(prompt)
    if not once and not sys.stdin.isatty():
        once = sys.stdin.read().strip()
        if not once:
            raise click.UsageError("standard input holds no prompt")
    if url is None:
        with progress_bar(settings.model) as progress:
            from portico import models

            models.resolve(settings.model, progress)
    asyncio.run(_talk(settings, url, key, messages, once, sampling))


async def _talk(
    settings: Settings, url: str | None, key: str | None, messages: Messages, once: str, sampling: dict[str, Any]
) -> None:
    async with _remote(settings, url, key) if url else _local(settings) as talker:
        if once:
            await _turn(talker, [*messages, {"role": "user", "content": once}], sampling)
            return
        Terminal(stderr=True).print("[dim]Ctrl-C stops an answer, Ctrl-D ends the talk.[/dim]")
        while (line := await asyncio.to_thread(_read_line)) is not None:
            if not line.strip():
                continue
            messages.append({"role": "user", "content": line})
            answer = asyncio.ensure_future(_turn(talker, messages, sampling))
            try:
                messages.append({"role": "assistant", "content": await _interruptible(answer)})
            except PorticoError as error:
                Terminal(stderr=True).print(error.message, style="red", markup=False, highlight=False)
                messages.pop()


def _read_line() -> str | None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (gives input() its history and editing)
    try:
        return input("\n> ")
    except EOFError:
        return None


async def _interruptible(answer: asyncio.Future[str]) -> str:
    """Wait for an answer; Ctrl-C ends it where it stands and keeps what was said."""
    import signal

    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGINT, answer.cancel)
    try:
        return await answer
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)


async def _turn(talker: Talker, messages: Messages, sampling: dict[str, Any]) -> str:
    """Print one answer as it comes, then its speed; returns its text."""
    told = Terminal(stderr=True)
    out = Terminal(highlight=False, soft_wrap=True)
    said: list[str] = []
    started = time.perf_counter()
    first: float | None = None
    reason = "stop"
    try:
        async for event in talker.answer(messages, sampling):
            if first is None:
                first = time.perf_counter()
            if isinstance(event, Content):
                said.append(event.text)
                out.out(event.text, end="", highlight=False)
                out.file.flush()
            elif isinstance(event, Reasoning):
                told.print(event.text, end="", style="dim italic", markup=False, highlight=False, soft_wrap=True)
            elif isinstance(event, CallStart):
                out.print(f"\n[{event.name}] ", end="", style="cyan", markup=False)
            elif isinstance(event, CallArguments):
                out.out(event.json_fragment, end="", style="cyan", highlight=False)
            elif isinstance(event, Finish):
                reason = event.reason
    except asyncio.CancelledError:
        reason = "interrupted"
    now = time.perf_counter()
    out.print()
    out.file.flush()  # before the figures, where both go to one place
    waited, running = (first or now) - started, now - (first or now)
    speed = f"{(talker.tokens - 1) / running:.1f} tokens/s, " if talker.tokens > 1 and running > 0 else ""
    told.print(f"[dim]{talker.tokens} tokens, {speed}first after {waited:.2f} s, {reason}[/dim]", highlight=False)
    return "".join(said)


class _Local:
    """The line in this process."""

    def __init__(self, served: Any) -> None:
        self._served = served
        self.tokens = 0
        self._turns = 0

    async def answer(self, messages: Messages, sampling: dict[str, Any]) -> AsyncIterator[Event]:
        from portico.protocols.openai import chat
        from portico.protocols.openai.schema import ChatRequest
        from portico.server.line.flight import Flight
        from portico.server.line.sinks import EventSink

        request = ChatRequest(messages=messages, **sampling)
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
                    self.tokens = generation.usage.completion_tokens
                    yield event
            finally:
                self.tokens = generation.usage.completion_tokens
                served.line.abort(flight)


@contextlib.asynccontextmanager
async def _local(settings: Settings) -> AsyncIterator[Talker]:
    from pydantic import SecretStr

    from portico.server.observe.metrics import Metrics
    from portico.server.process.assemble import assemble, release

    nothing_kept = settings.model_copy(update={"store": SecretStr("none")})
    served = await assemble(nothing_kept, Metrics())
    try:
        yield _Local(served)
    finally:
        await release(served)


class _Remote:
    """A server somewhere else, over the OpenAI API."""

    def __init__(self, client: httpx.AsyncClient, model: str | None) -> None:
        self._client = client
        self._model = model
        self.tokens = 0

    async def answer(self, messages: Messages, sampling: dict[str, Any]) -> AsyncIterator[Event]:
        body = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}, **sampling}
        if self._model:
            body["model"] = self._model
        self.tokens = 0
        try:
            async with self._client.stream("POST", "chat/completions", json=body) as response:
                if response.status_code != 200:
                    raise EngineError(_message(orjson.loads(await response.aread())))
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        for event in self._events(orjson.loads(line[6:])):
                            yield event
        except httpx.HTTPError as error:
            raise EngineError(f"The server cannot be reached: {error or type(error).__name__}.") from None

    def _events(self, chunk: dict[str, Any]) -> list[Event]:
        if "error" in chunk:
            raise EngineError(_message(chunk))
        if chunk.get("usage"):
            self.tokens = chunk["usage"]["completion_tokens"]
        events: list[Event] = []
        for choice in chunk["choices"]:
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
async def _remote(settings: Settings, url: str | None, key: str | None) -> AsyncIterator[Talker]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=url or "", headers=headers, timeout=httpx.Timeout(10, read=None)) as client:
        yield _Remote(client, settings.model if "model" in settings.model_fields_set else None)
