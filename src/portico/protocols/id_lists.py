"""Long lists of token ids are taken out of a body before it is parsed: as arrays, four bytes an id.

As Python's own numbers they would take ten times the body, and one call that nothing else can run beside. They are read
in pieces here; in the body a word that nobody can know stands in their place, until the parser has found it in a field
that takes ids. What is no plain list of ids stays where it is, and the parser says what is wrong with it.
"""

from __future__ import annotations

import re
import secrets
from array import array
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from pydantic_core import from_json

from portico.threads import checkpoint

__all__ = ["IdLists", "put_back", "taken_out"]

Ids: TypeAlias = "array[int]"
IdLists: TypeAlias = Mapping[str, tuple[str, Ids]]  # by field: what stands in its place, and the ids

SHORT = 16 << 10  # bytes; a shorter list is as well parsed with the rest
PIECE = 32 << 10  # bytes looked at in one go
WINDOW = 1 << 20  # bytes searched in one go
LONGEST = 20  # bytes of a number with what is around it
SPACE = b" \t\r\n"
_VALUE = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*\[")


def taken_out(body: bytes, fields: Iterable[str]) -> tuple[bytes, IdLists]:
    """``body`` without the long lists of ids that stand, or seem to stand, in ``fields``; and these."""
    found: dict[str, tuple[str, Ids]] = {}
    for field in fields:
        begins = _begins(body, b'"%b"' % field.encode())
        if begins is None or (read := _read(body, begins + 1)) is None:
            continue
        ids, end = read
        if end - begins > SHORT:
            word = secrets.token_hex(16)
            body = b'%b"%b"%b' % (body[:begins], word.encode(), body[end:])
            found[field] = word, ids
    return body, found


def put_back(fields: Any, lists: IdLists) -> bool:
    """Put the lists into the parsed body, where they were; whether each of them was in its field."""
    if not isinstance(fields, dict) or any(fields.get(field) != word for field, (word, _) in lists.items()):
        return False
    fields.update((field, ids) for field, (_, ids) in lists.items())
    return True


def _begins(body: bytes, name: bytes) -> int | None:
    """Where the list opens that follows ``name``; a name inside of a text has a backslash before its quotes."""
    for start in range(0, len(body), WINDOW):
        checkpoint()
        end = start + WINDOW + len(name) - 1
        at = body.find(name, start, end)
        while at >= 0:
            value = _VALUE.match(body, at + len(name))
            if value is not None and body[at - 1 : at] != b"\\":
                return value.end() - 1
            at = body.find(name, at + 1, end)
    return None


def _read(body: bytes, start: int) -> tuple[Ids, int] | None:
    """The ids of the list that opens before ``start``, and where it ends; None where it is not one of ids alone."""
    ids: Ids = array("I")
    rest = b""
    try:
        while True:
            checkpoint()
            piece = body[start : start + PIECE]
            numbers = piece[: len(piece) - len(piece.lstrip(b"0123456789," + SPACE))]
            start += len(numbers)
            whole, comma, rest = (rest + numbers).rpartition(b",")
            if len(rest) > LONGEST or (comma and not whole.strip()):
                return None
            if comma:
                ids.extend(from_json(b"[%b]" % whole))
            if len(numbers) == len(piece) and piece:
                continue
            if body[start : start + 1] != b"]":
                return None
            ids.append(from_json(rest))
            return ids, start + 1
    except (ValueError, OverflowError):  # nothing between two commas, or more than an id can be
        return None
