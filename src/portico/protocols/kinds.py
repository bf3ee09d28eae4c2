"""Of which kind a value has to be, in objects that stay dictionaries: null, or one of these; else a 400 by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from portico.errors import BadRequestError

__all__ = ["FLAG", "LIST", "OBJECT", "TEXT", "Kinds"]

Kind = tuple[type, ...]
TEXT: Kind = (str,)
FLAG: Kind = (bool,)
LIST: Kind = (list,)
OBJECT: Kind = (dict,)

_SAID: Mapping[type, str] = {str: "text", bool: "true or false", list: "a list", dict: "an object"}


class Kinds(NamedTuple):
    """``of`` says it of an object's fields, ``inside`` of the objects, or lists of them, under some of them."""

    of: Mapping[str, Kind]
    inside: Mapping[str, Kinds] = {}

    def check(self, value: Any, path: str) -> None:
        """Raise ``BadRequestError`` for what is of another kind in the object at ``path``, or in those of a list."""
        if isinstance(value, list):
            for index, one in enumerate(value):
                self.check(one, f"{path}[{index}]")
        elif isinstance(value, dict):
            for key, kind in self.of.items():
                found = value.get(key)
                if found is not None and not isinstance(found, kind):
                    what = " or ".join(_SAID[one] for one in kind)
                    param = f"{path}.{key}" if path else key
                    raise BadRequestError(f"{param} must be {what}.", param=param, code="invalid_type")
            for key, kinds in self.inside.items():
                if key in value:
                    kinds.check(value[key], f"{path}.{key}" if path else key)
