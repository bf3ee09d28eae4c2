"""``portico chat``: talk to a model in the terminal, streaming, with the speed shown.

Without ``--url`` the whole line runs in this process, over the embedded engine and without HTTP; with it, the command
is an ordinary client of a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from portico.commands.chat.talk import Talk, picture_from, tools_from
from portico.commands.chat.talkers import Messages, Talker, local, remote
from portico.commands.options import model_argument, settings_from, settings_options
from portico.commands.progress import progress_bar
from portico.config import Settings
from portico.terminal import Terminal, waiting

__all__ = ["command"]

OPTIONS = ("chat_template", "mmproj", "context_length", "threads", "tool_parser", "reasoning_parser")


@click.command("chat")
@model_argument()
@click.argument("prompt", nargs=-1)
@click.option("--system", help="System message.")
@click.option("--temperature", type=float, default=0.7, show_default=True, help="0 is greedy.")
@click.option("--top-p", type=float, help="Of the likeliest tokens so many as are this likely together.")
@click.option("--max-tokens", type=int, default=1024, show_default=True, help="Longest answer in tokens.")
@click.option("--seed", type=int, help="Makes answers repeatable.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End the answer before this text.")
@click.option("--tools", type=click.Path(exists=True, path_type=Path), help="JSON file with a list of tools to offer.")
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With a question: picture(s) that it is about.",
)
@click.option("--schema", type=click.Path(exists=True, path_type=Path), help="JSON schema that the answer keeps.")
@click.option("--json", "as_json", is_flag=True, help="With a question: print the answer as JSON.")
@click.option("--url", help="Talk to a running server at this base URL instead, such as http://127.0.0.1:8000/v1.")
@click.option("--key", envvar="PORTICO_API_KEY", help="API key for --url.")
@settings_options(OPTIONS)
def command(
    model: str | None,
    prompt: tuple[str, ...],
    system: str | None,
    as_json: bool,
    url: str | None,
    key: str | None,
    config: Path | None,
    tools: Path | None,
    images: Sequence[Path],
    schema: Path | None,
    temperature: float,
    top_p: float | None,
    max_tokens: int,
    seed: int | None,
    stop: Sequence[str],
    **given: Any,
) -> None:
    """Talk to MODEL (smollm2 if none is named). With PROMPT, or text on standard input: one answer, then the end.

    A first argument of several words is a question, not a model.

    Examples:

      portico chat

      portico chat "What is a portico?"

      portico chat smollm2 --url http://127.0.0.1:8000/v1
    """
    if model and (any(map(str.isspace, model)) or model.endswith("?")) and not Path(model).exists():
        prompt, model = (model, *prompt), None
    settings = settings_from(config, {"model": model, **given})
    fields: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "seed": seed}
    fields = {name: value for name, value in fields.items() if value is not None}
    if stop:
        fields["stop"] = list(stop)
    try:
        if tools is not None:
            fields["tools"] = tools_from(tools)
        if schema is not None:
            kept = {"name": "answer", "schema": json.loads(schema.read_text(encoding="utf-8")), "strict": True}
            fields["response_format"] = {"type": "json_schema", "json_schema": kept}
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{tools if 'tools' not in fields and tools else schema}: {error}") from None
    messages: Messages = [{"role": "system", "content": system}] if system else []
    once = " ".join(prompt)
    if not once and not sys.stdin.isatty():
        once = sys.stdin.read().strip()
        if not once:
            raise click.UsageError("standard input holds no prompt")
    if (as_json or images) and not once:
        raise click.UsageError(f"{'--json' if as_json else '--image'} is for one answer: give a question")
    try:
        pictures = [picture_from(image) for image in images]
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    asyncio.run(_talk(settings, url, key, messages, once, pictures, fields, as_json))


async def _talk(
    settings: Settings,
    url: str | None,
    key: str | None,
    messages: Messages,
    once: str,
    pictures: list[dict[str, Any]],
    fields: dict[str, Any],
    as_json: bool,
) -> None:
    async with contextlib.AsyncExitStack() as stack:

        async def use(model: str | None) -> Talker:
            """Another talker; the one before is let go once this one is there."""
            talker = remote(url, key, model) if url else local(await _here(settings, model))
            if url:
                found = await stack.enter_async_context(talker)
            else:
                with waiting(f"Loading {model or settings.model}"):
                    found = await stack.enter_async_context(talker)
            return found

        named = settings.model if "model" in settings.model_fields_set or not url else None
        talk = Talk(await use(named), use, messages, fields)
        if once:
            await talk.once(once, pictures, as_json=as_json)
        else:
            from portico.commands.chat.editor import read_lines

            Terminal(stderr=True).print("[dim]/help lists the commands, Ctrl-C stops an answer, Ctrl-D ends.[/dim]")
            async for line in read_lines(talk.commands):
                await talk.line(line)
                if talk.over:
                    break


async def _here(settings: Settings, model: str | None) -> Settings:
    """The settings for a model, which is fetched where it is not here."""
    from portico import models

    wanted = settings.model_copy(update={"model": model or settings.model})
    with progress_bar(wanted.model) as progress:
        await asyncio.to_thread(models.resolve, wanted.model, progress)
    return wanted
