"""Long texts are tokenized in parts, between which the work can be abandoned, and the ids are those of the whole.

A library encodes a text in one call that nobody can interrupt; megabytes take seconds. So a long text is cut where
tokenizers cut words: before the space between two words, behind a line end, before a digit or a mark. Whether this
tokenizer's tokens end there, whatever stands around, is tried out: what surrounds the cut must give the same ids in one
piece and in two. A tokenizer that puts a space before every text gets the second piece without its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from portico.errors import BadRequestError
from portico.threads import checkpoint

__all__ = ["in_parts"]

PART = 65_536  # characters; some 20 ms
LONGEST = 8 * PART  # without a place to cut: a second of work, or with some patterns more
AROUND = 128  # characters on either side of a cut that are looked at
TRIES = 64

PLACES = (
    re.compile(r"(?<=[^\W\d_])(?= [^\W\d_])"),  # one| two
    re.compile(r"(?<=\S\n)(?=[^\W_])"),
    re.compile(r"(?<=[^\W\d_])(?=[\d.,;:!?(){}\"'<>=/\-\u3001\u3002\uff0c\uff01\uff1f])"),
    re.compile(r"(?<=[\d.,;:!?(){}\"'<>=/\-])(?=[A-Za-z])"),
)


def in_parts(text: str, encode: Callable[[str], list[int]]) -> list[int]:
    """``encode(text)``, in parts where it is long.

    Raises ``AbandonedError`` where nobody waits for it any more, and ``BadRequestError`` for a long text in which there
    is no place to cut.
    """
    ids: list[int] = []
    at = 0
    while len(text) - at > PART + AROUND:
        checkpoint()
        cut, following = _cut(text, at, encode)
        ids += encode(text[at:cut])
        at = following
    return [*ids, *encode(text[at:])] if ids else encode(text)


def _cut(text: str, at: int, encode: Callable[[str], list[int]]) -> tuple[int, int]:
    """Where the part that begins ``at`` ends, and where the next one begins."""
    for start in range(at + PART // 2, min(len(text), at + LONGEST), PART // 2):
        for place in _places(text, start, start + PART // 2):
            before, behind = text[place - AROUND : place], text[place : place + AROUND]
            if before.isalnum():
                continue  # one long word, whose tokens may depend on where it began
            whole, first = encode(before + behind), encode(before)
            if whole == first + encode(behind):
                return place, place
            if behind[0] == " " and whole == first + encode(behind[1:]):
                return place, place + 1
    if len(text) - at <= LONGEST:
        return len(text), len(text)
    raise BadRequestError(
        f"The text cannot be tokenized: {LONGEST:,} characters in a row have no word or line end among them."
    )


def _places(text: str, start: int, end: int) -> Iterator[int]:
    for pattern in PLACES:
        for tries, found in enumerate(pattern.finditer(text, start, end)):
            if tries == TRIES:
                break
            yield found.start()
