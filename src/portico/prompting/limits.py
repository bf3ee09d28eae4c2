"""What a rendering may cost, checked where Jinja can repeat or multiply.

A template is a program. It can only repeat in loops, calls and filters that map, and only multiply in a few operators,
methods and filters; each of those asks here first. The clock is read at every loop, every call and every item of an
endless iterable; sizes are checked before the text is made. Nothing else is slowed down.

This keeps a model's own template in bounds, whatever the conversation. It is no wall against a template written to
do harm: a comparison of two deeply shared lists is one uninterruptible step. Such templates run in ``isolation``.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

__all__ = [
    "GROWING_METHODS",
    "MAX_CHARACTERS",
    "MAX_SECONDS",
    "TemplateLimitError",
    "add",
    "bounded",
    "bounded_filters",
    "bounded_method",
    "concat",
    "join",
    "modulo",
    "power",
    "running",
    "text_of",
    "tick",
    "times",
    "turns",
]

MAX_SECONDS = 5.0  # per rendering
MAX_CHARACTERS = 32_000_000  # of any one text: eight times a prompt of a million tokens
MAX_ITEMS = 1_000_000  # of a list made by repetition
MAX_WIDTH = 10_000  # columns to pad to
MAX_BITS = 10_000  # of a number made by a power or product
UNCHECKED_TURNS = 10_000  # loops this short read the clock once
GROWING_METHODS = frozenset(
    {"ljust", "rjust", "center", "zfill", "expandtabs", "replace", "format", "format_map", "join"}
)

WIDTH = re.compile(r"\d{5}|[:%][^{}%]*[{*]")  # a field width of five digits, or one taken from an argument


class TemplateLimitError(Exception):
    """A rendering that took too long or grew too large."""


class _Run(threading.local):
    deadline = float("inf")  # on time.monotonic()


_run = _Run()


@contextmanager
def running(seconds: float) -> Iterator[None]:
    """Bound what this thread renders meanwhile."""
    before = _run.deadline
    _run.deadline = time.monotonic() + seconds
    try:
        yield
    finally:
        _run.deadline = before


def tick() -> None:
    """Raise when time is up."""
    if time.monotonic() > _run.deadline:
        raise TemplateLimitError("it takes too long to render")


def turns(iterable: Any) -> Any:
    """What a loop runs over: the same items, watched if there are many or nobody knows how many."""
    tick()
    try:
        if len(iterable) <= UNCHECKED_TURNS:
            return iterable
    except TypeError:
        pass
    return _watched(iter(iterable))


def _watched(iterator: Iterator[Any]) -> Iterator[Any]:
    for item in iterator:
        tick()
        yield item


def bounded(size: int, limit: int = MAX_CHARACTERS) -> None:
    """Raise when something of ``size`` may not be made."""
    if size > limit:
        raise TemplateLimitError(f"it makes a text or list of more than {limit:,} characters or items")


# -- operators --------------------------------------------------------------------------------------------------------


def add(left: Any, right: Any) -> Any:
    made = left + right  # at most the sum of two bounded operands
    if type(made) is str:
        bounded(len(made))
    elif isinstance(made, list | tuple):
        bounded(len(made), MAX_ITEMS)
    return made


def times(left: Any, right: Any) -> Any:
    for sequence, count in ((left, right), (right, left)):
        if isinstance(count, int):
            if isinstance(sequence, str):
                bounded(len(sequence) * count)
            elif isinstance(sequence, list | tuple | bytes):
                bounded(len(sequence) * count, MAX_ITEMS)
            elif isinstance(sequence, int):
                bounded(sequence.bit_length() + count.bit_length(), MAX_BITS)
    return left * right


def power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        bounded(left.bit_length() * abs(right), MAX_BITS)
    return left**right


def modulo(left: Any, right: Any) -> Any:
    if isinstance(left, str) and WIDTH.search(left):
        raise TemplateLimitError("it pads a text too widely")
    return left % right


# -- texts ------------------------------------------------------------------------------------------------------------


def concat(pieces: Iterable[str]) -> str:
    """The text of a macro, a captured block, a whole rendering."""
    made = pieces if isinstance(pieces, list) else list(pieces)
    bounded(sum(map(len, made)))
    return "".join(made)


def join(values: list[Any]) -> str:
    """The ``~`` operator."""
    return concat([text_of(value) for value in values])


def text_of(value: Any) -> str:
    """``str(value)``."""
    return value if type(value) is str else str(value)


# -- methods and filters ----------------------------------------------------------------------------------------------


def bounded_method(text: str, name: str, args: tuple[Any, ...]) -> None:
    """Check a call of ``text.name(*args)`` beforehand."""
    if name in ("ljust", "rjust", "center", "zfill", "expandtabs"):
        _narrow(text, args)
    elif name == "replace" and len(args) >= 2:
        _replaceable(text, args[0], args[1])
    elif name in ("format", "format_map") and WIDTH.search(text):
        raise TemplateLimitError("it pads a text too widely")
    elif name == "join" and args and isinstance(args[0], list | tuple):
        bounded(sum(len(item) for item in args[0] if isinstance(item, str)) + len(text) * len(args[0]))


def _narrow(text: str, numbers: Iterable[Any]) -> None:
    lines = 1
    for number in numbers:
        if isinstance(number, int) and number > MAX_WIDTH:
            raise TemplateLimitError("it pads a text too widely")
        if isinstance(number, int) and number > 1:
            lines = text.count("\n") + text.count("\t") + 1
            bounded(lines * number)


def _replaceable(text: str, old: Any, new: Any) -> None:
    if isinstance(old, str) and isinstance(new, str) and len(new) > len(old):
        bounded(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def bounded_filters(filters: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """The filters that can multiply, each asking first."""

    def guard(name: str, check: Callable[..., None], text_at: int = 0) -> Callable[..., Any]:
        original = filters[name]

        @wraps(original)
        def checked(*args: Any, **kwargs: Any) -> Any:
            tick()
            check(*args[text_at:], **kwargs)
            return original(*args, **kwargs)

        return checked

    def narrow(value: Any = "", *args: Any, **kwargs: Any) -> None:
        _narrow(text_of(value), [*args, *kwargs.values()])

    def narrow_format(value: Any = "", *args: Any, **kwargs: Any) -> None:
        if WIDTH.search(text_of(value)):
            raise TemplateLimitError("it pads a text too widely")

    def replaceable(value: Any = "", old: Any = "", new: Any = "", count: Any = None) -> None:
        _replaceable(text_of(value), old, new)

    def joinable(value: Any = (), d: Any = "", attribute: Any = None) -> None:
        if isinstance(value, list | tuple):
            bounded(sum(len(item) for item in value if isinstance(item, str)) + len(text_of(d)) * len(value))

    def shallow(value: Any = None, *args: Any, **kwargs: Any) -> None:
        indent = kwargs.get("indent", args[1] if len(args) > 1 else None)
        if (isinstance(indent, int) and indent > 32) or (isinstance(indent, str) and len(indent) > 32):
            raise TemplateLimitError("it indents JSON too deeply")

    return {
        "center": guard("center", narrow),
        "indent": guard("indent", narrow),
        "batch": guard("batch", narrow),
        "slice": guard("slice", narrow),
        "format": guard("format", narrow_format),
        "replace": guard("replace", replaceable, 1),  # Jinja passes its context first
        "join": guard("join", joinable, 1),
        "tojson": guard("tojson", shallow),
    }
