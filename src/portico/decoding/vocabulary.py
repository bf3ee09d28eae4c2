"""What decoding needs to know about a tokenizer, and how a stream sees it.

``Vocabulary`` is satisfied by the tokenizers of ``portico.prompting``; nothing is imported from there. A ``View`` is
that vocabulary under one choice of which special tokens show: a list of bytes per token id, made once per tokenizer and
choice and shared by all streams, so that starting a stream costs next to nothing.
"""

from __future__ import annotations

import codecs
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakKeyDictionary

__all__ = ["TokenTable", "View", "Vocabulary", "view"]


class TokenTable(Protocol):
    """Token id -> the bytes it adds to a text.

    ``openings`` has the ids that give other bytes at the beginning of a text; it applies up to and including the first
    token with any bytes in ``pieces``, or with ``opening_repeats`` until some byte was given. Bytes that are not UTF-8
    become one U+FFFD each with ``each_byte``, else one per longest broken sequence. With ``special_breaks`` a special
    token that does not show still ends an incomplete character; without, the bytes around it join.
    """

    @property
    def pieces(self) -> Sequence[bytes]: ...
    @property
    def openings(self) -> Mapping[int, bytes]: ...
    @property
    def opening_repeats(self) -> bool: ...
    @property
    def each_byte(self) -> bool: ...
    @property
    def special_breaks(self) -> bool: ...


class Vocabulary(Protocol):
    """A tokenizer, seen from decoding. ``table`` is None where its decoder is more than concatenation."""

    @property
    def table(self) -> TokenTable | None: ...
    @property
    def special_ids(self) -> frozenset[int]: ...
    def token_to_id(self, token: str, /) -> int | None: ...
    def token_bytes(self, token_id: int, /) -> bytes: ...
    def decode(self, ids: Sequence[int], /, *, skip_special_tokens: bool) -> str: ...


@dataclass(frozen=True, slots=True)
class View:
    """A vocabulary with ``hidden`` ids that stand for no text. ``pieces`` is None where there is no table.

    ``errors`` is the codec error handler that turns bytes that are not UTF-8 into U+FFFD as the tokenizer does.
    """

    hidden: frozenset[int]
    pieces: list[bytes] | None = None
    openings: Mapping[int, bytes] = field(default_factory=dict)
    opening_repeats: bool = False
    errors: str = "replace"


_MAX_VIEWS = 32  # per tokenizer; each is a list of pointers, 8 bytes a token
_views: WeakKeyDictionary[Vocabulary, dict[tuple[bool, frozenset[str | int]], View]] = WeakKeyDictionary()
_lock = threading.Lock()


def view(vocabulary: Vocabulary, skip_special_tokens: bool, visible: Collection[str | int]) -> View:
    """The shared view of ``vocabulary``; ``visible`` are special tokens (text or id) that show although skipped."""
    key = (skip_special_tokens, frozenset(visible))
    known = _views.get(vocabulary)
    if known is not None and (found := known.get(key)) is not None:
        return found
    made = _make(vocabulary, *key)
    with _lock:
        known = _views.setdefault(vocabulary, {})
        if len(known) >= _MAX_VIEWS:
            known.pop(next(iter(known)))
        return known.setdefault(key, made)


def _make(vocabulary: Vocabulary, skip_special_tokens: bool, visible: frozenset[str | int]) -> View:
    hidden: frozenset[int] = frozenset()
    if skip_special_tokens:
        shown = {vocabulary.token_to_id(token) if isinstance(token, str) else token for token in visible}
        hidden = vocabulary.special_ids - shown
    table = vocabulary.table
    if table is None:
        return View(hidden)
    own_errors = table.each_byte or table.special_breaks
    # In a view with its own error handler the byte 0xFF means "break"; the byte itself, never part of UTF-8, becomes
    # 0xFE, which is no better.
    pieces = [piece.replace(_BREAK, b"\xfe") for piece in table.pieces] if own_errors else list(table.pieces)
    for token_id in hidden:
        if token_id < len(pieces):
            pieces[token_id] = _BREAK if table.special_breaks else b""
    openings = {i: opening for i, opening in table.openings.items() if i not in hidden}
    errors = "replace" if not own_errors else _EACH_BYTE if table.each_byte else _LONGEST
    return View(hidden, pieces, openings, table.opening_repeats, errors)


_BREAK = b"\xff"  # ends an incomplete character and shows nothing
_EACH_BYTE, _LONGEST = "portico.each_byte", "portico.longest"


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    if error.object[error.start] == 0xFF:
        return "", error.end
    return "\ufffd" * (error.end - error.start), error.end


def _replace_longest(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "" if error.object[error.start] == 0xFF else "\ufffd", error.end


codecs.register_error(_EACH_BYTE, _replace_each_byte)
codecs.register_error(_LONGEST, _replace_longest)
