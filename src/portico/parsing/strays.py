"""What stands among the framing of calls and is no part of it: text between an opener and its call, markers with
nothing in them, brackets too many.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable

from portico.parsing.json_text import Done
from portico.parsing.machine import Machine
from portico.parsing.tape import Look, comes, markers, sequence, space
from portico.parsing.wire import plain, unslashed

__all__ = ["SHORTEST", "litter", "noise", "nothing"]

SHORTEST = 4  # characters of an opener that says by itself that a call begins
_LONGEST_OPENER = 64
_SIGNS = ' \t\r\n=>"'
_MARKER = re.compile(r"(?:[<\[\]][^\s<>\[\]]*>?)+")  # another family's, as far as one can tell
_LITTER = "}],"
_LONGEST_LITTER = 6


def noise(
    m: Machine, framed: str, room: int, begin: frozenset[str], openers: tuple[str, ...], closers: tuple[str, ...]
) -> Generator[None, None, int]:
    """Go past text that stands between an opener, the framing so far, and one of ``begin``; how many characters more
    there may be of it, 0 if none comes. It is content, once the call has proved to be one."""
    tape = m.tape
    room -= len("".join(tape.kept or ())) - len(framed)
    wanted = markers(*begin, *closers, *m.final.spellings)
    while begin and room > 0:
        if (yield from sequence(tape, (m.final, markers(*begin)))):
            yield from comes(tape, m.final)
        window = tape.text[tape.at : tape.at + room + _LONGEST_OPENER]
        whole = tape.ended or len(window) == room + _LONGEST_OPENER
        found = wanted.search(window, 0, whole)
        if found is not None and not found[0] and found[2] in m.tools:  # that name begins no call: it was tried
            found = wanted.search(window, 1, whole)
        if found is None and not whole and len(window) <= room:
            yield
            continue
        if found is not None and not found[2]:
            yield
            continue
        if found is None or found[0] > room or found[2] not in begin:
            break
        start = tape.at + found[0]
        room -= start - tape.at
        tape.take(start)
        aside = without("".join(tape.kept or ())[len(framed) :], (*openers, *closers, *m.final.spellings))
        m.aside = "" if not aside.strip(_SIGNS) or _MARKER.fullmatch(aside.strip()) else aside
        return max(room, 1)
    return 0


def without(text: str, own: Iterable[str]) -> str:
    """A text without these markers."""
    for marker in sorted({*own, *map(unslashed, own)}, key=len, reverse=True):
        text = text.replace(plain(marker), "")
    return text


def nothing(m: Machine, text: str, openers: tuple[str, ...], closers: tuple[str, ...]) -> Done:
    """Whether this is markup with nothing in it, behind calls or in front of more markup."""
    if without(text, (*openers, *closers)).strip(_SIGNS):
        return False
    look = Look(m.tape)
    behind = yield from look.space()
    if m.calls and (not behind or (behind == "<" and m.voice.framed) or (yield from look.marker(m.final))):
        return True
    begins = (opener for opener in openers if len(opener) > SHORTEST)
    return bool((yield from look.marker(markers(*m.structure.spellings, *begins))))


def litter(m: Machine, closer: str, behind: Iterable[str]) -> Generator[None, None, None]:
    """Brackets too many behind a call, in front of the closer of its list or of one of ``behind``."""
    look = Look(m.tape)
    count = 0
    while (char := (yield from look.space())) and char in _LITTER and char != closer and count < _LONGEST_LITTER:
        look.skip()
        count += 1
    if not count or not char:
        return
    if (yield from look.marker(markers(closer, *behind))):
        m.recovered("brackets too many")
        for _ in range(count):
            yield from space(m.tape)
            m.tape.take(m.tape.at + 1)
