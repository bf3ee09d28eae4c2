"""Where the client finds what an error names.

The boxes below name values in the neutral conversation (``messages[3].tool_calls[0].function.name``, ``tools[1]``),
whose lists are not the client's: system messages, tool results and turns of several messages have been taken apart and
put together, tools left out. Here such a name becomes the client's own, or, where no single place is meant, only that
of the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from portico.errors import BadRequestError

__all__ = ["Origin", "Places"]

_PLACE = re.compile(
    r"\bmessages\[(?P<message>\d+)\](?:\.(?P<list>content|tool_calls)\[(?P<item>\d+)\])?(?P<rest>(?:\.\w+|\[\d+\])*)"
    r"|\btools\[(?P<tool>\d+)\](?P<shape>\.function|\.custom)?(?P<schema>\.parameters\b)?"
    r"|\b(?P<answer>response_format)\b(?:\.json_schema\b)?"
)


class Origin(NamedTuple):
    """The paths, in the client's request, of the parts, calls and thoughts that one neutral message was made of."""

    parts: Sequence[str] = ()
    calls: Sequence[str] = ()
    thoughts: Sequence[str] = ()


class Places(NamedTuple):
    """The way back: where each message comes from (None: from its own place), and the index of each tool that is shown.

    ``root`` is the client's list of messages, ``arguments`` the key of a call's arguments there; ``flat``: a tool's
    name and schema stand beside its type, and parts of messages are those of chat completions. With ``schema``, the key
    of a tool's schema, only the former. ``answer`` is what the answer's format is called, which has
    what ``json_schema`` holds.
    """

    origins: Sequence[Origin] | None
    tools: Sequence[int]
    root: str = "messages"
    arguments: str = "input"
    flat: bool = False
    schema: str = ""
    answer: str = ""

    @contextmanager
    def told(self) -> Iterator[None]:
        """Let a ``BadRequestError`` from inside name the client's places."""
        try:
            yield
        except BadRequestError as error:
            error.message = self.words(error.message)
            error.param = error.param and self.words(error.param)
            raise

    def words(self, text: str) -> str:
        """``text`` with the client's places for ours."""
        return _PLACE.sub(self._own, text)

    def _own(self, place: re.Match[str]) -> str:
        if place["answer"]:
            return self.answer or place.group()
        if place["tool"]:
            index = int(place["tool"])
            shape = "" if self.flat or self.schema else place["shape"] or ""
            schema = f".{self.schema or 'parameters'}" if place["schema"] else ""
            return f"tools[{self.tools[index]}]{shape}{schema}" if index < len(self.tools) else "tools"
        if self.origins is None:
            return place.group()
        if int(place["message"]) >= len(self.origins):
            return self.root
        origin = self.origins[int(place["message"])]
        if place["list"]:
            calls, item = place["list"] == "tool_calls", int(place["item"])
            paths = origin.calls if calls else origin.parts
            if item < len(paths):
                rest = {".function.name": ".name", ".function.arguments": f".{self.arguments}"}
                behind = place["rest"] if self.flat else ""
                return paths[item] + (rest.get(place["rest"], "") if calls else behind)
        if place["rest"] == ".reasoning" and origin.thoughts:
            return ", ".join(origin.thoughts)
        messages = {path.partition(".content")[0] for path in (*origin.parts, *origin.calls) or origin.thoughts}
        return messages.pop() if len(messages) == 1 else self.root
