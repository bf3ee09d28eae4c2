"""How much a request body may hold, looked at before it is parsed.

A parser's work and memory grow with the number of values, and two bytes (``1,``) are one. So a large body is first read
as text alone: strings are skipped, what stands between them is counted, and the first piece that goes over a bound ends
it. What a field may hold is said beside its type: ``Values(most)`` for fields that are long lists of numbers; all the
others share ``MOST_VALUES``. Nothing here decides whether the body is JSON; the parser does.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Annotated, Any, TypeAlias, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    FailFast,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from portico.errors import BadRequestError
from portico.threads import checkpoint
from portico.values import MOST_VALUES, cut_at_quotes

__all__ = [
    "BATCH",
    "FEW",
    "IDS",
    "LARGE",
    "MOST_IDS",
    "Items",
    "Objects",
    "TokenId",
    "TokenIds",
    "Values",
    "batches",
    "check_bounds",
    "id_fields",
    "largest",
]

LARGE = 64 << 10  # bytes; a smaller body cannot hold enough to be looked at beforehand
MOST_IDS = 1 << 19  # in a list of token ids
MOST_PARTS = 5 * MOST_VALUES  # strings, and what is between them: each member has a name and may have a text
BATCH = 1 << 15  # numbers looked at in one go
MOST_SIGNS = 16  # characters between two strings that are likely to come again

T = TypeVar("T")


class _FailFast(FailFast):
    def __hash__(self) -> int:  # a part of a union must have one
        return hash(self.fail_fast)


Items = Annotated[list[T], _FailFast()]  # a list that is refused at its first wrong item


def _breathe(item: T) -> T:
    """Between two items: here others can have the interpreter, which a parser in native code holds, and work that
    nobody waits for any more ends."""
    checkpoint()
    return item


Objects: TypeAlias = Items[Annotated[dict[str, Any], AfterValidator(_breathe)]]


def _all_at_once(ids: object, check: ValidatorFunctionWrapHandler) -> list[int]:
    """Long lists of numbers are looked at by what is fast at it; what is wrong is found by the validator behind.

    Those that were taken out of the body hold nothing but ids, and do all that is asked of a list here."""
    if isinstance(ids, array):
        return cast(list[int], ids)
    if type(ids) is list and ids and all(map(_are_ids, batches(ids))):
        return ids
    found: list[int] = check(ids)
    return found


def batches(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """The ids, some thousands at a time."""
    for start in range(0, len(ids), BATCH):
        checkpoint()
        yield ids[start : start + BATCH]


def largest(ids: Sequence[int]) -> int:
    """The largest of many ids; there is at least one."""
    return max(map(max, batches(ids)))


def _are_ids(ids: Sequence[int]) -> bool:
    return set(map(type, ids)) == {int} and min(ids) >= 0


TokenId = Annotated[int, Field(ge=0)]
TokenIds = Annotated[Items[TokenId], WrapValidator(_all_at_once), PlainSerializer(list)]


@dataclass(frozen=True)
class Values:
    """In a field's annotation: the most values that it may hold, nested ones included."""

    most: int


IDS = Values(MOST_IDS)
FEW = Values(1_000)  # of an object with a handful of members, each of which would be told of if it were wrong


def id_fields(model: type[BaseModel]) -> list[str]:
    """The fields of ``model`` that may hold long lists of token ids."""
    return [name for name, most in _bounds(model).items() if most == MOST_IDS]


def check_bounds(body: bytes, model: type[BaseModel]) -> None:
    """Raise ``BadRequestError`` naming the field of ``model`` with which ``body`` holds more values than it may."""
    if len(body) <= LARGE:
        return
    bounds = _bounds(model)
    counts = dict.fromkeys(bounds, 0)
    others = parts_seen = depth = 0
    field = ""
    name: list[bytes] | None = None  # the pieces of a field's name that is being read
    before = b""  # the last sign in front of the string
    inside = False  # a string
    for parts in cut_at_quotes(body):
        inside = not inside
        for part in parts:
            inside = not inside
            if inside:
                if name is not None:
                    name.append(part[:100])
                elif depth == 1 and before in b"{,":
                    name = [part[:100]]
                continue
            if name is not None:
                field, name = b"".join(name[:4]).decode("utf-8", "replace"), None
            found, deeper, last = _signs(part) if len(part) > MOST_SIGNS else _short_signs(part)
            depth += deeper
            before = last or before
            if field in counts:
                counts[field] += found
            else:
                others += found
        parts_seen += len(parts)
        if others > MOST_VALUES or parts_seen > MOST_PARTS:
            raise _too_many(field, MOST_VALUES)
        if field in counts and counts[field] > bounds[field]:
            raise _too_many(field, bounds[field])


def _signs(text: bytes) -> tuple[int, int, bytes]:
    """Of what stands between two strings: the values that it begins, how much deeper it leads, its last sign."""
    opened = text.count(b"{") + text.count(b"[")
    return text.count(b",") + opened, opened - text.count(b"}") - text.count(b"]"), text.rstrip()[-1:]


_short_signs = lru_cache(4096)(_signs)


def _too_many(field: str, most: int) -> BadRequestError:
    shown = field if re.fullmatch(r"\w{1,64}", field, re.ASCII) else ""
    what = f"'{shown}' brings it over" if shown else "It is over"
    message = f"The request body may hold {most:,} values (items and members, nested ones included). {what}: send less."
    return BadRequestError(message, param=shown or None, code="too_many_values")


@cache
def _bounds(model: type[BaseModel]) -> Mapping[str, int]:
    bounds: dict[str, int] = {}
    for name, field in model.model_fields.items():
        for one in field.metadata:
            if isinstance(one, Values):
                bounds[field.alias or name] = one.most
    return bounds
