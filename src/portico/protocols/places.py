"""Where the client finds what an error names.

The boxes below name values in the neutral conversation (``messages[3].tool_calls[0].function.name``, ``tools[1]``),
whose lists are not the client's: tools that nobody here runs are not among them, and in APIs of another shape system
messages, tool results and turns of several messages have been taken apart and put together. Here such a name becomes
the client's own, or, where no single place is meant, only ``messages``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from portico.errors import BadRequestError

__all__ = ["Origin", "in_the_clients_places", "in_the_clients_words"]

_PLACE = re.compile(
    r"\bmessages\[(?P<message>\d+)\](?:\.(?P<list>content|tool_calls)\[(?P<item>\d+)\])?(?P<rest>(?:\.\w+|\[\d+\])*)"
    r"|\btools\[(?P<tool>\d+)\]"
)
_OF_A_CALL = {".function.name": ".name", ".function.arguments": ".input"}


class Origin(NamedTuple):
    """The paths, in the client's request, of the blocks that one neutral message was made of."""

    parts: Sequence[str] = ()
    calls: Sequence[str] = ()


@contextmanager
def in_the_clients_places(origins: Sequence[Origin] | None, tools: Sequence[int]) -> Iterator[None]:
    """Let a ``BadRequestError`` from inside name the client's places. ``origins``: those of the messages, None where
    they are the client's own list; ``tools``: the index of each tool shown."""
    try:
        yield
    except BadRequestError as error:
        error.message = in_the_clients_words(error.message, origins, tools)
        error.param = error.param and in_the_clients_words(error.param, origins, tools)
        raise


def in_the_clients_words(text: str, origins: Sequence[Origin] | None, tools: Sequence[int]) -> str:
    """``text`` with the client's places for ours."""
    return _PLACE.sub(lambda place: _own(place, origins, tools), text)


def _own(place: re.Match[str], origins: Sequence[Origin] | None, tools: Sequence[int]) -> str:
    if place["tool"]:
        index = int(place["tool"])
        return f"tools[{tools[index]}]" if index < len(tools) else "tools"
    if origins is None:
        return place.group()
    if int(place["message"]) >= len(origins):
        return "messages"
    origin = origins[int(place["message"])]
    if place["list"]:
        paths, item = origin.calls if place["list"] == "tool_calls" else origin.parts, int(place["item"])
        if item < len(paths):
            return paths[item] + _OF_A_CALL.get(place["rest"], "")
    messages = {path.partition(".content")[0] for path in (*origin.parts, *origin.calls)}
    return messages.pop() if len(messages) == 1 else "messages"
