"""A client's JSON Schema made into one that llguidance can hold a model to.

The grammar compiler knows most of JSON Schema 2020-12, leaves some of it out, and takes the rest literally: an integer
may have a thousand digits, an object without ``additionalProperties`` any members. A small model, held to such a
grammar, runs on to its token limit. So the schema is walked once and rewritten. Every rewriting narrows: what the new
schema accepts the old one accepts too, with the two exceptions marked (*).

- Integers without bounds lie within ±(2^53 - 1), the integers that every JSON reader keeps exactly. Numbers without
  bounds lie within ±10^15 and have at most nine decimals; no number is written with an exponent. Where ``multipleOf``
  is given and bounds are not, they are ±10^12.
- Strings of a format, what patterns repeat, lists, maps and recursion have bounds (``bounds``, ``unrolled``).
- An object that lists ``properties`` and says nothing of others has no others. Keywords without a type mean the type
  that they are about. Where parts of a schema are combined (``allOf``, siblings of ``$ref`` and ``anyOf``) none
  of this is done, because closing one part would shut out the members of another, nor are decimals limited there.
- ``oneOf`` is held as ``anyOf`` (*).
- Spellings of older drafts and of OpenAPI (``definitions``, ``items`` as a list, boolean ``exclusiveMinimum``,
  ``nullable``) become today's; a keyword whose value is null is none.
- ``$ref`` is followed inside the schema; each target becomes an entry of ``$defs``. References to elsewhere, references
  that lead in a circle, and schemas that no finite document satisfies are refused.
- Annotations and unknown keywords are dropped, as JSON Schema says; so are formats that no grammar knows.
- Patterns are read as JSON Schema has them (``portico.constraints.regex``).
- What a grammar cannot hold (``uniqueItems``, ``not``, ``if`` …, look-around in a pattern) is refused where the client
  asked for strictness; where it did not, it is left out, and told (*).
"""

from __future__ import annotations

from portico.constraints.schema.walk import normalise

__all__ = ["normalise"]
