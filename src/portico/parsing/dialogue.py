"""The reader of all families that write reasoning, content and calls into one text, told apart by markers.

Two regions, reasoning and content, each with the set of markers that mean something in it. At a marker the region
changes, calls are read, or the marker turns out to be text.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from portico.parsing.calls import Calls
from portico.parsing.either import Either
from portico.parsing.family import Reasoning
from portico.parsing.json_text import Done
from portico.parsing.machine import Machine, OutputReader
from portico.parsing.tape import comes, markers, sequence, space, until
from portico.parsing.wire import almost
from portico.parsing.wire import plain as plain_marker

__all__ = ["dialogue", "plain"]

_QUOTES = frozenset("`'\"“”‘’«»")
_OBJECTS = 8  # objects inside a text that are looked over, so that a text of nothing else takes no longer


def plain(m: Machine) -> Generator[None, None, None]:
    """Nothing means anything: all text is content, at once."""
    tape = m.tape
    while True:
        if tape.at < len(tape.text):
            m.exactly(tape.take(len(tape.text)))
        if tape.ended:
            return
        yield


def dialogue(
    reasoning: Reasoning | None,
    calls: Calls | Either | None,
    ends: tuple[str, ...],
    others: Mapping[str, Calls | Either],
) -> OutputReader:
    """A reader for this reasoning and these calls; either may be None. ``others``: the openers of other families, whose
    calls of declared tools are read too."""
    if reasoning is None and calls is None and not ends:
        return plain
    think = reasoning if reasoning is not None and not reasoning.shown else None
    opens = frozenset(think.openers) if think else frozenset()
    closes = frozenset(think.closers) if think else frozenset()
    wraps = {a for pair in think.wrappers for a in pair if a} if think else set()
    unwraps = {b: a for a, b in think.wrappers if b} if think else {}
    called = frozenset((*calls.openers, *calls.inner)) if calls else frozenset()
    after_calls = frozenset(calls.closers) - called if calls else frozenset()
    objects = frozenset(calls.objects) - called if calls else frozenset()
    end = markers(*ends)
    openings = {end: [o[len(end) :] for o in called if o.startswith(end)] for end in ends}
    own = {plain_marker(marker) for marker in (*called, *after_calls, *opens, *closes, *wraps, *unwraps, *ends)}
    foreign = {opener: other for opener, other in others.items() if calls and plain_marker(opener) not in own}
    outside = {c for other in foreign.values() for c in other.closers if plain_marker(c) not in own} - set(foreign)
    in_content = markers(*opens, *closes, *wraps, *unwraps, *called, *after_calls, *ends, *foreign, *outside, *objects)
    own_ends = markers(*ends, *after_calls)
    structure = markers(*after_calls, *foreign)
    begins = markers(*(m for m in (*opens, *called, *foreign) if len(m) > 1))
    in_thought = markers(*opens, *closes, *(called if calls and calls.in_thought else ()), *ends)

    def read(m: Machine) -> Generator[None, None, None]:
        tape = m.tape
        m.final, m.structure = end, structure
        strange = False  # a call of another family was read
        named = False  # the text speaks of a thought's markers
        heads = frozenset(f"{name}(" for name in m.tools) if calls and calls.lines else frozenset()
        here = markers(*in_content.spellings, *heads) if heads else in_content
        wrapped = {opener for opener in (*wraps, "") if m.prompt_tail.rstrip().endswith(opener)}
        if reasoning is not None and reasoning.shown and m.thinking:
            m.think(False)
            m.voice.framed = False
            m.write(reasoning.openers[0])
        lines = _OBJECTS  # lines that may still turn out to be a call without its opener
        while True:
            if calls and not m.thinking and not m.content.said:
                yield from calls.read_unmarked(m, first=True)
            found = yield from until(tape, in_thought if m.thinking else here, m.write)
            if not found:
                return
            marker = tape.text[tape.mark : tape.at]
            if found in called or (found in heads and m.at_line_start):
                tape.at = tape.mark  # calls are read from their opener on
                yield from calls.read(m)  # type: ignore[union-attr]
            elif found in objects and m.at_line_start and lines:
                lines -= 1
                tape.at = tape.mark
                if not (yield from calls.read_unmarked(m, first=False)):  # type: ignore[union-attr]
                    m.write(tape.take(tape.at + 1))
            elif found in foreign:
                before, tape.at = m.calls, tape.mark
                own = markers(*calls.within(m))  # type: ignore[union-attr]
                if (yield from sequence(tape, (markers(found), own))):
                    yield from comes(tape, markers(found))
                    m.final = markers(*ends, *foreign[found].closers)
                    yield from calls.read(m, behind=marker)  # type: ignore[union-attr]
                else:
                    m.final = own_ends
                    yield from foreign[found].read(m, foreign=True)
                m.final = end
                if m.calls > before:
                    m.recovered("a call as another family writes it")
                    strange = True
            elif found in outside and strange:
                m.frame()
            elif found in ends and m.calling and (yield from _opens_nearly(m, openings[found])):
                yield from calls.read(m, behind=m.tape.release())  # type: ignore[union-attr]
            elif found in ends:
                # on one side or the other: then it is markup, wherever the answer ends
                touching = m.voice.framed or (m.calling and not m.voice.said and not openings[found])
                m.suspect(marker)
                while (yield from comes(tape, end)):
                    pass
                if not touching and (yield from space(tape)) and not (yield from comes(tape, begins, take=False)):
                    m.false_alarm()
                else:
                    tape.commit()
                    m.frame()
            elif m.thinking and found in closes:
                m.think(False)
            elif m.thinking:  # an opener: the prompt had opened the thought already
                m.write(marker) if m.voice.said else m.frame()
            elif found in opens and not (think.leading and m.content.said) and m.last not in _QUOTES:  # type: ignore[union-attr]
                m.think(True)
            elif found in closes and not named and m.last not in _QUOTES:
                if m.content.said:
                    m.recovered("a thought's closer without a thought")
                m.frame()
            elif found in wraps and not m.content.said:
                wrapped.add(found)
                m.frame()
            elif (found in unwraps and (found.startswith("<|") or unwraps[found] in wrapped)) or (
                found in after_calls and (m.calls or not m.content.said or (yield from comes(tape, begins, take=False)))
            ):
                m.frame()
            else:
                named = named or found in opens
                m.write(marker)

    return read


def _opens_nearly(m: Machine, rests: Sequence[str]) -> Done:
    """Whether what follows a token that ends turns is one of these, but for white space or a character: the rest of an
    opener that begins with the token. Consumes both, as a suspicion."""
    m.suspect(m.tape.matched)
    for rest in rests:
        if (yield from comes(m.tape, markers(rest.strip()))) or (yield from almost(m.tape, rest.strip())):
            return True
    m.tape.release()
    return False
