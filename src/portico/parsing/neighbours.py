"""Calls in another family's dialect: models are trained on each other's output, and some of it shows.

Behind an opener of their own they write the body of a neighbour: a JSON object, a function tag with parameter tags, a
name with key and value tags. Each is read where the family's own body does not begin and the tool is declared.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import replace
from typing import Protocol, TypeAlias

from portico.parsing.arguments import Json
from portico.parsing.bodies import Headed, JsonObject, SingleKey
from portico.parsing.literals import PYTHON
from portico.parsing.machine import Machine
from portico.parsing.tagged import Tagged
from portico.parsing.tape import Look, markers

__all__ = ["neighbour"]

_NAME = re.compile(r"[\w.\-/:$]*")
_LONGEST = 256

_Neighbour: TypeAlias = "Headed | JsonObject"
_OBJECT = JsonObject()
_BY_OPENER: dict[str, _Neighbour] = {
    "<function": Headed("<function={name}>\n", Tagged("<parameter={key}>\n{value}\n</parameter>\n"), "</function>"),
    "<invoke": Headed('<invoke name="{name}">\n', Tagged('<parameter name="{key}">{value}</parameter>\n'), "</invoke>"),
    "{": _OBJECT,
}
_TAGS = Headed("{name}", Tagged("<arg_key>{key}</arg_key><arg_value>{value}</arg_value>"))
_ENDS_OF_HEADER = ('"', ">")
_NAMED = Headed("{name}", Json())
_AFTER_WORD = Headed("function\n{name}", Json())


class _Begins(Protocol):
    @property
    def openers(self) -> tuple[str, ...]: ...


def neighbour(m: Machine, body: _Begins) -> Generator[None, None, _Neighbour | None]:
    """The body that comes where it is a neighbour's; None where it may be the family's own. Consumes nothing."""
    look = Look(m.tape)
    char = yield from look.space()
    own = body.openers
    if isinstance(body, JsonObject) and not body.python and (yield from look.copy().marker(markers("{'"))):
        return replace(body, python=PYTHON)
    if isinstance(body, JsonObject | SingleKey) and char in "{":
        return None
    if (not own and char not in "{<") or (own and (yield from look.copy().marker(markers(*own)))):
        return None
    opener = yield from look.copy().marker(markers(*_BY_OPENER))
    if opener:
        return _BY_OPENER[opener]
    name = yield from look.word(_NAME, _LONGEST)
    if name == "function" and (yield from look.space()):
        return _AFTER_WORD if (yield from look.word(_NAME, _LONGEST)) in m.tools else None
    if not own or name.rpartition("/")[2] not in m.tools:
        return None
    if isinstance(body, Headed):  # perhaps only what stands in front of the name was lost
        ahead = look.copy()
        while (yield from ahead.marker(markers(*_ENDS_OF_HEADER))):
            pass
        if (yield from ahead.marker(markers(*body.arguments.openers))):
            return Headed('{name}«"»«>»', body.arguments, body.close)
    behind = yield from look.marker(markers("<arg_key>", "{", ">"))
    return _TAGS if behind == "<arg_key>" else _NAMED if behind else None
