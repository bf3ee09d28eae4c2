"""One answer in a terminal while it comes: the thought apart, the text as Markdown block by block, calls and figures.

A block of Markdown is drawn anew while it grows and stays as it is once the next has begun, so that a long answer costs
no more per token than a short one. Into a pipe goes the text as the model wrote it, and nothing else.
"""

from __future__ import annotations

import time
from typing import Any

from markdown_it import MarkdownIt
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from portico.events import CallArguments, CallStart, Content, Event, Finish, Reasoning
from portico.terminal import Terminal

__all__ = ["Shown"]

_PARSER = MarkdownIt().enable(["table", "strikethrough"])
MOST = 4000  # characters of a block that is drawn anew; a longer one is kept in parts


class Shown:
    """An answer: ``feed`` its events, ``close`` it; then ``message`` is what was said, as a message of the talk."""

    def __init__(self, *, raw: bool, quiet: bool = False) -> None:
        self._told = Terminal(stderr=True)
        self._out = Terminal(highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._drawn = self._out.is_terminal and not raw and not quiet
        self._live: Live | None = None
        self._open = ""  # the block that grows
        self._said: list[str] = []
        self._thought: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._started = time.perf_counter()
        self._first: float | None = None
        self.reason = "stop"

    def feed(self, event: Event) -> None:
        """Show what has come."""
        if self._first is None:
            self._first = time.perf_counter()
        if isinstance(event, Content):
            self._said.append(event.text)
            if not self._quiet:
                self._content(event.text)
        elif isinstance(event, Reasoning):
            self._reasoning(event.text)
        elif isinstance(event, CallStart):
            self._keep()
            self._calls.append({"id": event.id, "name": event.name, "arguments": ""})
            if not self._quiet:
                self._out.print(f"\n[{event.name}] ", end="", style="cyan", markup=False)
        elif isinstance(event, CallArguments):
            self._calls[-1]["arguments"] += event.json_fragment
            if not self._quiet:
                self._out.out(event.json_fragment, end="", style="cyan", highlight=False)
        elif isinstance(event, Finish):
            self.reason = event.reason

    def close(self, tokens: int | None) -> None:
        """The answer is over; its figures are told on standard error."""
        self._keep()
        now = time.perf_counter()
        if not self._quiet:
            if not self._drawn or self._calls:
                self._out.print()
            self._out.file.flush()  # before the figures, where both go to one place
        waited, running = (self._first or now) - self._started, now - (self._first or now)
        count = "" if tokens is None else f"{tokens} tokens, "
        speed = f"{(tokens - 1) / running:.1f} tokens/s, " if tokens and tokens > 1 and running > 0 else ""
        self._told.print(Text(f"{count}{speed}first after {waited:.2f} s, {self.reason}", style="dim"))

    @property
    def message(self) -> dict[str, Any]:
        """What was said, for the next request."""
        calls = [{"id": call["id"], "type": "function", "function": _function(call)} for call in self._calls]
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._said)}
        return {**message, "tool_calls": calls} if calls else message

    def as_json(self, tokens: int | None) -> dict[str, Any]:
        """All of it, for programs."""
        calls = [_function(call) | {"id": call["id"]} for call in self._calls]
        return {
            "reasoning": "".join(self._thought) or None,
            "content": "".join(self._said),
            "tool_calls": calls,
            "finish_reason": self.reason,
            "completion_tokens": tokens,
        }

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _reasoning(self, text: str) -> None:
        if not self._thought and not self._quiet:
            self._told.print(Text("thinking", style="dim bold"))
        self._thought.append(text)
        if not self._quiet:
            self._told.print(Text(text, style="dim italic"), end="", soft_wrap=True)

    def _content(self, text: str) -> None:
        if self._thought and len(self._said) == 1:
            self._told.print("\n")  # the answer stands apart from the thought
        if not self._drawn:
            self._out.out(text, end="", highlight=False)
            self._out.file.flush()
            return
        self._open += text
        done = _finished(self._open)
        if done:
            self._draw(self._open[:done])
            self._keep(self._open[done:])
        if self._live is None:
            self._live = Live(console=self._out, auto_refresh=True, refresh_per_second=8, transient=True)
            self._live.start()
        self._live.update(_last(self._open, self._out.height - 2))

    def _keep(self, rest: str = "") -> None:
        """The open block stays as it is; ``rest`` is what the next begins with."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            if not rest and self._open.strip():
                self._out.print(Markdown(self._open))
        self._open = rest

    def _draw(self, finished: str) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._out.print(Markdown(finished))
        self._out.print()


def _function(call: dict[str, Any]) -> dict[str, str]:
    return {"name": call["name"], "arguments": call["arguments"]}


def _finished(text: str) -> int:
    """How many characters are blocks that nothing can change any more: all but the last."""
    if "\n" not in text:
        return 0
    tops = [token.map[0] for token in _PARSER.parse(text) if token.level == 0 and token.map and token.nesting >= 0]
    lines = text.splitlines(keepends=True)
    if len(tops) > 1:
        return sum(map(len, lines[: tops[-1]]))
    fenced = text.lstrip().startswith(("```", "~~~"))
    return 0 if fenced or len(text) < MOST else sum(map(len, lines[:-1]))


def _last(text: str, height: int) -> Text | Markdown:
    """The growing block, or its end where it is higher than the screen."""
    lines = text.splitlines()
    return Text("\n".join(lines[-height:])) if len(lines) > height else Markdown(text)
