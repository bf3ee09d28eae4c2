"""A talk in the terminal: lines are said, lines that begin with a slash are commands."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import mimetypes
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from portico.commands.chat.showing import Shown
from portico.commands.chat.talkers import Messages, Talker
from portico.errors import PorticoError
from portico.spelling import meant
from portico.terminal import Terminal

__all__ = ["Talk", "picture_from", "tools_from"]

NUMBERS = {
    **dict.fromkeys(("temperature", "top_p", "min_p"), float),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "repetition_penalty"), float),
    **dict.fromkeys(("top_k", "max_tokens", "min_tokens", "seed", "thinking_token_budget"), int),
}


class SlashCommand(NamedTuple):
    """What follows the slash, what may follow that, what it does."""

    takes: str
    says: str
    run: Callable[[str], Awaitable[None]]


class Talk:
    """What was said so far, and how the next answer is to be made. ``use(model)`` gives another talker."""

    def __init__(
        self, talker: Talker, use: Callable[[str], Awaitable[Talker]], messages: Messages, fields: dict[str, Any]
    ) -> None:
        self._talker = talker
        self._use = use
        self.messages = messages
        self.fields = fields
        self._raw = False
        self._pictures: list[dict[str, Any]] = []  # that go with the next message
        self.over = False
        self._told = Terminal(stderr=True, highlight=False)
        self.commands = {
            "help": SlashCommand("", "this list", self._help),
            "model": SlashCommand("[NAME]", "talk to another model; alone: which there are", self._model),
            "system": SlashCommand("[TEXT]", "the system message; alone: take it back", self._system),
            "set": SlashCommand("[NAME VALUE]", f"a field of the request: {', '.join(NUMBERS)}, stop", self._set),
            "tools": SlashCommand("[FILE]", "offer the tools in a JSON file; alone: none any more", self._tools),
            "image": SlashCommand("[FILE]", "a picture for the next message; alone: none any more", self._image),
            "raw": SlashCommand("", "show answers as the model writes them, or as Markdown again", self._toggle),
            "save": SlashCommand("FILE", "keep the talk", self._save),
            "load": SlashCommand("FILE", "go on with one that was kept", self._load),
            "bye": SlashCommand("", "end the talk, as Ctrl-D does", self._bye),
        }

    async def line(self, text: str) -> None:
        """One line of the reader's: said, or done."""
        if not text.strip():
            return
        if text.startswith("/") and "\n" not in text:
            name, _, rest = text[1:].partition(" ")
            await self._command(name.strip(), rest.strip())
        else:
            await self._say(text)

    async def once(self, text: str, pictures: Sequence[dict[str, Any]] = (), *, as_json: bool) -> None:
        """One question, with the pictures that it is about, and its answer. Raises what the answer raises."""
        shown = await self._answer([*self.messages, _said(text, pictures)], quiet=as_json)
        if as_json:
            Terminal(highlight=False, soft_wrap=True).out(json.dumps(shown.as_json(self._talker.tokens), indent=2))

    # -- answers -------------------------------------------------------------------------------------------------------

    async def _say(self, text: str) -> None:
        self.messages.append(_said(text, self._pictures))
        try:
            shown = await self._answer(self.messages)
            self.messages.append(shown.message)
            self._pictures = []
        except PorticoError as error:
            self._complain(error.message)
            self.messages.pop()

    async def _answer(self, messages: Messages, *, quiet: bool = False) -> Shown:
        """Show one answer; Ctrl-C ends it where it stands and keeps what was said."""
        shown = Shown(raw=self._raw, quiet=quiet)

        async def all_of_it() -> None:
            async with contextlib.aclosing(self._talker.answer(messages, self.fields)) as events:  # type: ignore[type-var]
                async for event in events:
                    shown.feed(event)

        task = asyncio.ensure_future(all_of_it())
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(signal.SIGINT, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            shown.reason = "interrupted"
        except PorticoError:
            shown.reason = "failed"
            raise
        finally:
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(signal.SIGINT)
            shown.close(self._talker.tokens)
        return shown

    # -- commands ------------------------------------------------------------------------------------------------------

    async def _command(self, name: str, rest: str) -> None:
        command = self.commands.get(name)
        if command is None:
            near = meant(name, self.commands)
            self._complain(f"There is no /{name}." + (f" Did you mean /{near}?" if near else " /help lists all."))
            return
        try:
            await command.run(rest)
        except (PorticoError, OSError, ValueError, KeyError) as error:
            self._complain(error.message if isinstance(error, PorticoError) else str(error))

    async def _help(self, rest: str) -> None:
        for name, command in self.commands.items():
            self._tell(f"/{name} {command.takes}".ljust(22) + command.says)
        self._tell("Enter sends, Alt-Enter begins a new line, what is pasted is one message.")
        self._tell("Ctrl-C clears the line or stops an answer.")

    async def _model(self, rest: str) -> None:
        if rest:
            self._talker = await self._use(rest)
            self._tell(f"Now {rest}.")
        else:
            self._tell(f"{self._talker.model}; there are: {', '.join(await self._talker.models()) or 'no others'}")

    async def _system(self, rest: str) -> None:
        self.messages[:] = [one for one in self.messages if one["role"] != "system"]
        if rest:
            self.messages.insert(0, {"role": "system", "content": rest})
        self._tell(f"System: {rest or 'none'}")

    async def _set(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        if not name:
            self._tell(json.dumps({k: v for k, v in self.fields.items() if k != "tools"}, ensure_ascii=False))
        elif name == "stop":
            self.fields["stop"] = [value.encode().decode("unicode_escape")] if value else []
        elif name not in NUMBERS:
            raise ValueError(f"There is no field {name}: {', '.join(NUMBERS)}, stop.")
        elif not value:
            self.fields.pop(name, None)
        else:
            try:
                self.fields[name] = NUMBERS[name](value)
            except ValueError:
                raise ValueError(f"{name} is a number, not {value!r}.") from None

    async def _tools(self, rest: str) -> None:
        self.fields.pop("tools", None)
        if rest:
            self.fields["tools"] = tools_from(Path(rest))
        self._tell(f"{len(self.fields.get('tools', []))} tools are offered.")

    async def _image(self, rest: str) -> None:
        self._pictures = [*self._pictures, picture_from(Path(rest))] if rest else []
        self._tell(f"Pictures for the next message: {len(self._pictures)}.")

    async def _toggle(self, rest: str) -> None:
        self._raw = not self._raw
        self._tell("Answers are shown as they are written." if self._raw else "Answers are shown as Markdown.")

    async def _save(self, rest: str) -> None:
        if not rest:
            raise ValueError("Where to? /save FILE")
        kept = {"messages": self.messages, "fields": self.fields}
        _write(rest, json.dumps(kept, ensure_ascii=False, indent=1) + "\n")
        self._tell(f"Kept in {rest}.")

    async def _load(self, rest: str) -> None:
        found = json.loads(_read(rest))
        if not isinstance(found, dict) or not isinstance(found.get("messages"), list):
            raise ValueError(f"{rest} holds no talk that /save has kept.")
        self.messages[:] = found["messages"]
        self.fields.clear()
        self.fields.update(found.get("fields") or {})
        self._tell(f"{len(self.messages)} messages.")

    async def _bye(self, rest: str) -> None:
        self.over = True

    def _tell(self, text: str) -> None:
        self._told.print(Text(text, style="dim"), soft_wrap=True)

    def _complain(self, text: str) -> None:
        self._told.print(Text(text, style="red"), soft_wrap=True)


def _said(text: str, pictures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the reader says, as a message."""
    return {"role": "user", "content": [*pictures, {"type": "text", "text": text}] if pictures else text}


def picture_from(file: Path) -> dict[str, Any]:
    """A picture as part of a message. Raises ``ValueError`` for a file whose name says that it is none, and
    ``OSError``."""
    file = file.expanduser()
    kind = mimetypes.guess_type(file.name)[0] or ""
    if not kind.startswith("image/"):
        raise ValueError(f"{file} is no picture: PNG, JPEG, WebP and the like are.")
    data = base64.b64encode(file.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}


def tools_from(file: Path) -> list[dict[str, Any]]:
    """The tools in a JSON file: a list, in OpenAI's shape or bare functions. Raises ``ValueError``."""
    found = json.loads(_read(str(file)))
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"{file} holds no JSON list of tools.")
    return [one if "function" in one else {"type": "function", "function": one} for one in found]


def _read(file: str) -> str:
    return Path(file).expanduser().read_text(encoding="utf-8")


def _write(file: str, text: str) -> None:
    Path(file).expanduser().write_text(text, encoding="utf-8")
