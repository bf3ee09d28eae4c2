"""What a constraint may cost. Everything a client writes is measured against these before anything is built from it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Sizes are characters of the request's own text. Time and memory are limited where the grammar is tried out."""

    schema: int = 256_000  # bytes of one JSON Schema
    schema_depth: int = 64
    schema_nodes: int = 10_000  # subschemas, definitions counted once
    enum_values: int = 10_000  # of one schema, all enumerations together
    literal: int = 2_000  # one property name, or one string in an enumeration
    pattern: int = 2_000  # one regular expression
    multiple_of: int = 10_000  # numerator of the largest ``multipleOf`` after its decimal point is dropped
    grammar: int = 64_000  # a grammar written by the client
    choices: int = 2_000
    lark: int = 1_000_000  # what the engine gets
