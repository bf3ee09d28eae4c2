"""The line editor of ``portico chat``: history, completion of commands, several lines as one message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from platformdirs import user_state_path
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from portico.terminal import echo

__all__ = ["read_lines"]


async def read_lines(commands: Iterable[str]) -> AsyncIterator[str]:
    """What the reader enters, until Ctrl-D. Ctrl-C clears the line; on an empty one it says how to end."""
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    session: PromptSession[str] = PromptSession(
        history=_history(), key_bindings=keys, completer=_Commands(commands), complete_while_typing=False
    )
    while True:
        try:
            yield await session.prompt_async("\n> ", prompt_continuation="  ")
        except KeyboardInterrupt:
            if not session.default_buffer.text:
                echo("Ctrl-D or /bye ends the talk.", err=True)
        except EOFError:
            return


class _Commands(Completer):
    """The commands behind a slash."""

    def __init__(self, commands: Iterable[str]) -> None:
        self._commands = sorted(commands)

    def get_completions(self, document: Document, complete_event: object) -> Iterable[Completion]:
        text = document.text_before_cursor
        if text.startswith("/") and " " not in text:
            for name in self._commands:
                if name.startswith(text[1:]):
                    yield Completion(f"/{name}", start_position=-len(text))


def _history() -> History:
    """Lines of former talks, where they can be kept; for the reader's eyes alone."""
    file: Path = user_state_path("portico") / "chat_history"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
    except OSError as error:
        echo(f"No history is kept: {error}", err=True)
        return InMemoryHistory()
    return FileHistory(str(file))
