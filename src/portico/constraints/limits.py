"""What a constraint may cost. Everything a client writes is measured against these before anything is built from it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Sizes are characters of the request's own text. Time and memory are limited where the grammar is tried out."""

    schema: int = 256_000  # characters of one JSON Schema
    schema_depth: int = 64
    schema_nodes: int = 10_000  # subschemas, definitions counted once
    enum_values: int = 10_000  # of one schema, all enumerations together
    literal: int = 2_000  # one property name, or one string in an enumeration
    pattern: int = 2_000  # one regular expression
    multiple_of: int = 10_000  # numerator of the largest ``multipleOf`` after its decimal point is dropped
    grammar: int = 64_000  # a grammar written by the client
    choices: int = 2_000
    lark: int = 1_000_000  # what the engine gets

    # bounds for what a schema leaves open (``schema.bounds``, ``schema.unrolled``)
    bounded: bool = True  # off: only numbers have bounds, for engines to which large counts are costly
    string: int | None = None  # characters of free text; None: its end is the request's token limit
    name: int = 1_000  # characters of the name of a map's member
    items: int = 10_000
    members: int = 10_000  # of a map
    repeats: int = 256  # in a pattern, of digits, signs or blanks
    indent: int = 64  # of white space, where a client's own pattern for it has no end
    levels: tuple[int, int] = (8, 32)  # how often a definition may stand inside itself: large and small ones
    unrolled: int = 128  # subschemas in all the levels of a definition that may have more than the fewest
