"""Texts that know which of their characters a client wrote.

A ``Said`` is a ``str`` in every respect: it is equal to the plain text, is found in it, splits, trims and joins as it
does. Beside that it remembers, for each character, whether it came from a client; what is made of it by adding,
slicing, splitting, trimming, replacing, joining or writing JSON remembers it too. Where nobody can say (a format, a
change of case that changes the length) all of the result counts as the client's: then a control token that the template
wrote may become text, but never the other way round.

Used only for conversations that spell a control token (``structure``): everything else is rendered as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, SupportsIndex

__all__ = ["Said", "Voices", "concat", "disowned", "dumps", "holds_said", "join", "plain", "said", "text_of", "unsaid"]

MAX_DEPTH = 100


@dataclass(frozen=True)
class Voices:
    """What of a rendering's input came from a client, beside the messages: the ``variables`` of these names. ``own``
    are control tokens that a message which the model is to continue may hold all the same."""

    variables: frozenset[str]
    own: tuple[str, ...] = ()


class Said(str):
    """``by_client`` has one byte for each character, 1 where the client wrote it; by default all of them."""

    by_client: bytes

    def __new__(cls, text: str, by_client: bytes | None = None) -> Said:
        self = super().__new__(cls, text)
        self.by_client = b"\1" * len(self) if by_client is None else by_client
        return self

    def __str__(self) -> Said:  # what templates print stays what it is
        return self

    # -- parts --------------------------------------------------------------------------------------------------------

    def __getitem__(self, key: SupportsIndex | slice) -> Said:
        text = str.__getitem__(self, key)
        if isinstance(key, slice):
            return Said(text, self.by_client[key])
        return Said(text, bytes([self.by_client[key]]))

    def __iter__(self) -> Iterator[Said]:
        return (self[i] for i in range(len(self)))

    def _placed(self, parts: Iterable[str], gap: int | None = None) -> list[Said]:
        """``parts`` of this text, in order, as such; with ``gap`` characters between them, or found where they are."""
        placed, at = [], 0
        for part in parts:
            if gap is None:
                at = self.index(part, at)
            placed.append(self[at : at + len(part)])
            at += len(part) + (gap or 0)
        return placed

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[Said]:  # type: ignore[override]
        return self._placed(str.split(self, sep, maxsplit), None if sep is None else len(sep))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[Said]:  # type: ignore[override]
        return self._placed(str.rsplit(self, sep, maxsplit), None if sep is None else len(sep))

    def splitlines(self, keepends: bool = False) -> list[Said]:  # type: ignore[override]
        whole = self._placed(str.splitlines(self, True), 0)
        return whole if keepends else [line[: len(short)] for line, short in zip(whole, str.splitlines(self))]  # noqa: B905

    def partition(self, sep: str) -> tuple[Said, Said, Said]:
        first, middle, last = self._placed(str.partition(self, sep), 0)
        return first, middle, last

    def rpartition(self, sep: str) -> tuple[Said, Said, Said]:
        first, middle, last = self._placed(str.rpartition(self, sep), 0)
        return first, middle, last

    def lstrip(self, chars: str | None = None) -> Said:
        return self[len(self) - len(str.lstrip(self, chars)) :]

    def rstrip(self, chars: str | None = None) -> Said:
        return self[: len(str.rstrip(self, chars))]

    def strip(self, chars: str | None = None) -> Said:
        return self.lstrip(chars).rstrip(chars)

    def removeprefix(self, prefix: str) -> Said:
        return self[len(self) - len(str.removeprefix(self, prefix)) :]

    def removesuffix(self, suffix: str) -> Said:
        return self[: len(str.removesuffix(self, suffix))]

    # -- wholes -------------------------------------------------------------------------------------------------------

    def __add__(self, other: str) -> Said:
        return _joined((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> Said:
        return _joined((other, self))

    def __mul__(self, count: SupportsIndex) -> Said:
        return Said(str.__mul__(self, count), self.by_client * count)

    __rmul__ = __mul__

    def join(self, texts: Iterable[str]) -> Said:
        pieces: list[str] = []
        for text in texts:
            pieces += (self, text) if pieces else (text,)
        return _joined(pieces)

    def replace(self, old: str, new: str, count: SupportsIndex = -1) -> Said:
        if not old:
            return self._blurred(str.replace(self, old, new, count))
        return Said(new, _by_client(new)).join(self.split(old, count))

    # -- the same characters, changed ---------------------------------------------------------------------------------

    def _blurred(self, text: str) -> Said:
        return Said(text, self.by_client if len(text) == len(self) else None)

    def upper(self) -> Said:
        return self._blurred(str.upper(self))

    def lower(self) -> Said:
        return self._blurred(str.lower(self))

    def casefold(self) -> Said:
        return self._blurred(str.casefold(self))

    def title(self) -> Said:
        return self._blurred(str.title(self))

    def capitalize(self) -> Said:
        return self._blurred(str.capitalize(self))

    def swapcase(self) -> Said:
        return self._blurred(str.swapcase(self))

    def __mod__(self, values: Any) -> Said:
        return Said(str.__mod__(self, values))

    def __rmod__(self, template: str) -> Said:
        return Said(str.__mod__(template, plain(self)))


def _by_client(text: str) -> bytes:
    return text.by_client if isinstance(text, Said) else bytes(len(text))


def _joined(pieces: Iterable[str]) -> Said:
    pieces = [*pieces]
    return Said("".join(pieces), b"".join(map(_by_client, pieces)))


def concat(pieces: Iterable[str]) -> str:
    """The pieces as one text, which is ``Said`` if one of them is."""
    pieces = pieces if isinstance(pieces, list) else [*pieces]
    return _joined(pieces) if any(isinstance(piece, Said) for piece in pieces) else "".join(pieces)


def join(separator: str, texts: Iterable[str]) -> str:
    """``separator.join(texts)``, which is ``Said`` if one of them is."""
    texts = [*texts]
    knows = any(isinstance(text, Said) for text in texts)
    return Said(separator, bytes(len(separator))).join(texts) if knows else separator.join(texts)


def plain(text: str) -> str:
    """The same text that knows nothing."""
    return str.__str__(text)


def said(value: Any, depth: int = MAX_DEPTH) -> Any:
    """A JSON value of the client's: all texts in it are ``Said``, keys too."""
    if isinstance(value, str):
        return value if isinstance(value, Said) else Said(value)
    if not depth:
        raise RecursionError
    if isinstance(value, Mapping):
        return {said(key, depth): said(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [said(item, depth - 1) for item in value]
    return value


def unsaid(value: Any) -> Any:
    """The JSON value with plain texts."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Mapping):
        return {unsaid(key): unsaid(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [unsaid(item) for item in value]
    return value


def holds_said(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Whether a text of the client's is in ``value``."""
    if isinstance(value, str):
        return isinstance(value, Said)
    if not depth:
        return True
    if isinstance(value, Mapping):
        return any(holds_said(key) or holds_said(item, depth - 1) for key, item in value.items())
    if isinstance(value, list | tuple):
        return any(holds_said(item, depth - 1) for item in value)
    return False


def disowned(text: str, words: Iterable[str]) -> Said:
    """``text`` of a client's in which ``words`` count as if they were not the client's."""
    whole = Said(plain(text))
    for word in words:
        whole = whole.replace(word, Said(word, bytes(len(word))))
    return whole


def text_of(value: Any) -> str:
    """``str(value)``; all of it is the client's where ``value`` holds something of the client's."""
    if isinstance(value, str):
        return value if type(value) is str or isinstance(value, Said) else str(value)
    return Said(str(value)) if holds_said(value) else str(value)


def dumps(
    value: Any,
    *,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """``json.dumps``, with each text of the client's as such."""
    step = " " * indent if isinstance(indent, int) else indent
    between, colon = separators or (", " if step is None else ",", ": ")
    pieces: list[str] = []

    def scalar(one: Any) -> str:
        text = json.dumps(one, ensure_ascii=ensure_ascii)
        return Said(text) if isinstance(one, Said) else text

    def key_of(key: Any) -> str:
        return scalar(key if isinstance(key, str) else json.dumps(key))

    def write(one: Any, margin: str) -> None:
        if not isinstance(one, dict | list | tuple) or not one:
            pieces.append(scalar(one))
            return
        inner = "" if step is None else margin + step
        pieces.append(("{" if isinstance(one, dict) else "[") + inner)
        items: Iterable[Any] = one
        if isinstance(one, dict):
            items = sorted(one.items()) if sort_keys else one.items()
        for i, item in enumerate(items):
            if i:
                pieces.append(between + inner)
            if isinstance(one, dict):
                pieces.extend((key_of(item[0]), colon))
                item = item[1]
            write(item, inner)
        pieces.append(("" if step is None else margin) + ("}" if isinstance(one, dict) else "]"))

    write(value, "\n" if step is not None else "")
    return concat(pieces)
