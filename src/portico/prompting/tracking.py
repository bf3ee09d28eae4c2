"""The sandbox once more, for conversations that spell control tokens: what a client said stays known as such.

The conversation is rendered as in ``environment``, but its texts are ``Said``, and what Jinja and its filters would
make of them without remembering (text out of lists, ``~``, ``join``, ``tojson``, formats) is made here with memory. The
text that comes out is the same; that it is, a test holds over every template and conversation of the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from types import BuiltinMethodType
from typing import Any

from jinja2.runtime import Context
from markupsafe import Markup, escape

from portico.prompting import limits
from portico.prompting.environment import ChatEnvironment, from_json
from portico.prompting.said import Said, concat, dumps, holds_said, plain, said, text_of

__all__ = ["TRACKING"]


class TrackingEnvironment(ChatEnvironment):
    """``ChatEnvironment`` in which ``Said`` texts keep what they know."""

    def __init__(self) -> None:
        super().__init__()
        self.finalize = text_of  # of everything that is printed
        self.filters = {name: _remembering(function) for name, function in self.filters.items()}
        self.filters.update({"tojson": _tojson, "string": text_of, "safe": _safe, "~": _concat})
        self.filters.update(from_json=_from_json, fromjson=_from_json, join=_remembering(self.filters["join"]))

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        made = [*pieces]
        limits.bounded(sum(map(len, made)))
        return concat(made)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        # Jinja's own spelling of the parameters, as in ``ChatEnvironment``
        owner = getattr(__obj, "__self__", None)
        if type(__obj) is not BuiltinMethodType or not isinstance(owner, str):
            return super().call(__context, __obj, *args, **kwargs)
        if type(owner) is str and holds_said([*args, *kwargs.values()]):  # the template's text, the client's arguments
            owner = Said(owner, bytes(len(owner)))
            return __self.call(__context, getattr(owner, __obj.__name__), *args, **kwargs)
        return _remembered(super().call(__context, __obj, *args, **kwargs), owner)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        made = super().call_binop(context, operator, left, right)
        return _remembered(made, [left, right])


class SaidMarkup(Said):
    """``x | safe``: what is added to it is escaped unless it is safe too, as Jinja does."""

    def __add__(self, other: str) -> SaidMarkup:
        return _marked_up(concat([self, _escaped(other)]))

    def __radd__(self, other: str) -> SaidMarkup:
        return _marked_up(concat([_escaped(other), self]))


def _escaped(text: str) -> str:
    if isinstance(text, SaidMarkup | Markup):
        return text
    return Said(escape(plain(text))) if isinstance(text, Said) else str(escape(text))


def _safe(value: Any) -> str:
    text = text_of(value)
    return _marked_up(text) if isinstance(text, Said) else Markup(text)


def _marked_up(text: str) -> SaidMarkup:
    return SaidMarkup(text, text.by_client if isinstance(text, Said) else None)


def _remembered(made: Any, *sources: Any) -> Any:
    """A text that was made of ``sources`` and knows nothing: all of it is the client's if something in them is."""
    if not isinstance(made, str) or isinstance(made, Said) or not holds_said([*sources]):
        return made
    return SaidMarkup(str(made)) if isinstance(made, Markup) else Said(made)


def _remembering(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose texts remember."""

    @wraps(function)  # with Jinja's mark for filters that want its context
    def remembering(*args: Any, **kwargs: Any) -> Any:
        return _remembered(function(*args, **kwargs), *args, *kwargs.values())

    return remembering


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    limits.tick()
    return dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _from_json(text: str) -> Any:
    found = from_json(text)
    return said(found) if isinstance(text, Said) else found


def _concat(values: list[Any]) -> str:
    return TrackingEnvironment.concat([text_of(value) for value in values])


TRACKING = TrackingEnvironment()
