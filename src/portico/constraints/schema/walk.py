"""The walk over a client's schema, which makes the one to compile."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from math import inf
from typing import Any, NamedTuple

import msgspec

from portico.constraints import regex
from portico.constraints.limits import Limits
from portico.constraints.schema.bounds import (
    ANY,
    LARGEST_BOUND,
    any_value,
    bound_numbers,
    bound_sizes,
    close_array,
    close_object,
    imply_type,
)
from portico.constraints.schema.finite import is_finite
from portico.constraints.schema.keywords import (
    ASSERTING,
    COMBINING,
    COUNTS,
    FORMATS,
    NUMERIC,
    TYPES,
    UNENFORCEABLE,
    Schema,
)
from portico.constraints.schema.references import NoSuchPlaceError, escaped, pointer, target
from portico.constraints.schema.size import is_larger
from portico.constraints.schema.spellings import modern, wrapped
from portico.constraints.schema.unrolled import unrolled
from portico.errors import BadRequestError
from portico.threads import checkpoint

__all__ = ["Held", "normalise"]


class Held(NamedTuple):
    """What of a schema is held: ``schema`` is the one to compile, with all its definitions in ``$defs``; ``left_out``
    are words for what it does not say although the client's does, each with the name of the property."""

    schema: dict[str, Any]
    left_out: tuple[str, ...]


def normalise(schema: Mapping[str, Any] | bool, *, param: str, strict: bool, limits: Limits) -> Held:
    """The schema to compile in place of ``schema``.

    Raises ``BadRequestError`` on ``param``, saying where in the schema (as ``#/properties/…``) and what is wrong.
    """
    walk = _Normaliser(schema, param, strict, limits)
    return Held(walk.run(), tuple(walk.left_out))


class _Normaliser:
    def __init__(self, root: Mapping[str, Any] | bool, param: str, strict: bool, limits: Limits) -> None:
        self.root = root
        self.param = param
        self.strict = strict
        self.limits = limits
        self.nodes = 0
        self.enum_values = 0
        self.names: dict[str, str] = {}  # what a $ref points at, as #/…, -> its name in $defs
        self.definitions: dict[str, Schema] = {}
        self.pending: list[str] = []
        self.combines = False
        self.left_out: dict[str, None] = {}  # in the order in which it was found

    def run(self) -> dict[str, Any]:
        if not isinstance(self.root, Mapping):
            raise self.error("#", "must be a JSON object")
        if is_larger(self.root, self.limits.schema):
            raise self.error("#", f"is too long; at most {self.limits.schema} characters are allowed")
        try:
            msgspec.json.encode(self.root)
        except (TypeError, ValueError, RecursionError):
            raise self.error("#", "is not JSON, or is nested too deeply") from None
        self.combines = self._combines(self.root, 0)
        result = self.schema(self.root, "#", 0)
        while self.pending:
            there = self.pending.pop()
            self.definitions[self.names[there]] = self.schema(target(self.root, there), there, 0)
        assert isinstance(result, dict), "what is made of an object is one"
        if ANY["$ref"].encode() in msgspec.json.encode([result, self.definitions]):
            self.definitions["any"] = any_value(self.limits)
        if not is_finite(result, self.definitions):
            raise self.error("#", "requires itself without end: no finite document satisfies it")
        if self.limits.bounded:
            result, self.definitions = unrolled(result, self.definitions, self.limits)
        return {**result, "$defs": self.definitions} if self.definitions else result

    def error(self, where: str, problem: str) -> BadRequestError:
        place = "the schema" if where == "#" else f"the schema at {where[:200]}"
        return BadRequestError(f"{self.param}: {place} {problem}.", param=self.param, code="invalid_json_schema")

    def leave_out(self, key: str, where: str, has: str = "") -> None:
        """Note that ``key`` is not held, or refuse it where the client is strict. ``has``: what of it cannot be."""
        if self.strict:
            raise self.error(
                where,
                f"uses {key!r}{f' with {has}' if has else ''}, which cannot be enforced while sampling; "
                "remove it (without strict it is left out)",
            )
        _, found, name = where.rpartition("/properties/")
        place = f" of {name.partition('/')[0]}" if found else ""
        self.left_out[f"{key}{place} in {self.param}{f' ({has})' if has else ''}"] = None

    # -- one schema -----------------------------------------------------------------------------------------------

    def schema(self, schema: Any, where: str, depth: int) -> Schema:
        """The rewritten form of one subschema."""
        checkpoint()
        self.nodes += 1
        if self.nodes > self.limits.schema_nodes:
            raise self.error("#", f"has more than {self.limits.schema_nodes} subschemas")
        if depth > self.limits.schema_depth:
            raise self.error(where, f"is nested deeper than {self.limits.schema_depth} levels")
        if isinstance(schema, bool):
            return schema if not schema or self.combines else ANY
        if not isinstance(schema, Mapping):
            raise self.error(where, f"must be an object or a boolean, not {_kind(schema)}")
        if not ASSERTING & schema.keys():
            return {} if self.combines else ANY

        out: dict[str, Any] = {}
        while (inner := wrapped(schema)) is not None:
            schema, where = inner, f"{where}/allOf/0"
        # Keywords keep their order: the compiler fixes the order of properties by it.
        for key, value in modern(schema).items():
            if key in UNENFORCEABLE:
                self._unenforceable(key, value, where)
            elif rewrite := self._KEYWORDS.get(key):
                rewrite(self, out, key, value, where, depth)
        if not out:
            return {} if self.combines else ANY
        if not out.keys() & {"const", "enum"}:
            self._bound(out)
        return out

    def _bound(self, out: dict[str, Any]) -> None:
        """Give bounds to what ``out`` leaves open."""
        alone = not out.keys() & set(COMBINING)
        if alone and not self.combines:
            imply_type(out)
            close_object(out)
            close_array(out)
        if alone:
            bound_numbers(out, decimals=not self.combines)
        if self.limits.bounded:
            bound_sizes(out, self.limits)

    def _unenforceable(self, key: str, value: Any, where: str) -> None:
        if not any(value == harmless and type(value) is type(harmless) for harmless in UNENFORCEABLE[key]):
            self.leave_out(key, where)

    # -- keywords -------------------------------------------------------------------------------------------------

    def _type(self, out: dict[str, Any], key: str, value: Any, where: str, depth: int) -> None:
        types = [value] if isinstance(value, str) else value
        if not isinstance(types, list) or not types or any(one not in TYPES for one in types):
            raise self.error(where, f"must have a type out of {', '.join(TYPES)}")
        out["type"] = value

    def _value(self, out: dict[str, Any], key: str, value: Any, where: str, depth: int) -> None:
        values = value if key == "enum" else [value]
        if not isinstance(values, list) or not values:
            raise self.error(where, "must have a list of at least one value in 'enum'")
        self.enum_values += len(values)
        if self.enum_values > self.limits.enum_values:
            raise self.error("#", f"enumerates more than {self.limits.enum_values} values")
        for one in values:
            if len(one if isinstance(one, str) else json.dumps(one)) > self.limits.literal:
                raise self.error(where, f"has a literal value longer than {self.limits.literal} characters")
        out[key] = value

    def _number(self, out: dict[str, Any], key: str, value: Any, where: str, depth: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not -inf < value < inf:
            raise self.error(where, f"must have a finite number in {key!r}")
        if key == "multipleOf":
            _, digits, exponent = Decimal(str(value)).normalize().as_tuple()
            numerator = int("".join(map(str, digits))) * 10 ** max(int(exponent), 0)
            if value <= 0:
                raise self.error(where, "must have a 'multipleOf' above zero")
            if numerator > self.limits.multiple_of or int(exponent) < -9:
                most = f"more than {self.limits.multiple_of} when its decimal point is dropped, or than nine decimals"
                return self.leave_out(key, where, most)
        elif abs(value) > LARGEST_BOUND:
            if (value < 0) == key.lower().endswith("minimum"):
                return  # wider than any bound of ours
            raise self.error(where, f"has a {key!r} beyond what can be enforced (±9e18)")
        out[key] = value

    def _count(self, out: dict[str, Any], key: str, value: Any, where: str, depth: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
            raise self.error(where, f"must have a whole number, zero or more, in {key!r}")
        out[key] = int(value)

    def _pattern(self, out: dict[str, Any], key: str, value: Any, where: str, depth: int) -> None:
        if (pattern := self._regex(key, value, where)) is not None:
            out[key] = pattern

    def _regex(self, key: str, value: Any, where: str) -> str | None:
        """A pattern in the compiler's syntax, for the whole string; None where it is left out."""
        if not isinstance(value, str):
            raise self.error(where, "must have a string in 'pattern'")
        try:
            if len(value) > self.limits.pattern:
                raise regex.UnheldError(f"more than {self.limits.pattern} characters")
            tree = regex.whole(regex.read(value, "ecma"))
            if self.limits.bounded:
                wide = self.limits.name if key == "patternProperties" else None
                tree = regex.bounded(tree, self.limits.repeats, wide)
            return f"^(?:{regex.written(tree)})$"
        except regex.UnheldError as error:
            self.leave_out(key, where, str(error))
            return None

    def _format(self, out: dict[str, Any], key: str, value: Any, where: str, depth: int) -> None:
        if isinstance(value, str) and value in FORMATS:
            out["format"] = value

    def _required(self, out: dict[str, Any], key: str, value: Any, where: str, depth: int) -> None:
        if isinstance(value, bool):
            return  # draft 3, and many a hand-written tool
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self.error(where, "must have a list of strings in 'required'")
        out["required"] = list(dict.fromkeys(value))

    def _single(self, out: dict[str, Any], key: str, value: Any, where: str, depth: int) -> None:
        out[key] = self.schema(value, f"{where}/{key}", depth + 1)

    def _list(self, out: dict[str, Any], key: str, value: Any, where: str, depth: int) -> None:
        if not isinstance(value, list) or not value:
            raise self.error(where, f"must have a list of at least one schema in {key!r}")
        out[key] = [self.schema(one, f"{where}/{key}/{index}", depth + 1) for index, one in enumerate(value)]

    def _map(self, out: dict[str, Any], key: str, value: Any, where: str, depth: int) -> None:
        if not isinstance(value, Mapping):
            raise self.error(where, f"must have an object in {key!r}")
        out[key] = {}
        for name, one in value.items():
            if len(name) > self.limits.literal:
                raise self.error(where, f"has a property name longer than {self.limits.literal} characters")
            inside = self.schema(one, f"{where}/{key}/{escaped(name)}", depth + 1)
            held = self._regex(key, name, where) if key == "patternProperties" else name
            if held is not None:
                out[key][held] = inside
            else:  # then members of that kind may have any name
                out["additionalProperties"] = inside if out.get("additionalProperties") in (None, False) else ANY
        if key == "patternProperties" and not out[key]:
            del out[key]

    def _ref(self, out: dict[str, Any], key: str, value: Any, where: str, depth: int) -> None:
        try:
            there = pointer(self.root, value)
        except NoSuchPlaceError as problem:
            raise self.error(where, str(problem)) from None
        if there not in self.names:
            self.names[there] = f"d{len(self.names)}"
            self.pending.append(there)
        out["$ref"] = f"#/$defs/{self.names[there]}"

    _KEYWORDS: Mapping[str, Callable[[_Normaliser, dict[str, Any], str, Any, str, int], None]] = {
        "type": _type,
        "const": _value,
        "enum": _value,
        **dict.fromkeys(NUMERIC, _number),
        **dict.fromkeys(COUNTS, _count),
        "pattern": _pattern,
        "format": _format,
        "required": _required,
        "items": _single,
        "additionalProperties": _single,
        "prefixItems": _list,
        "anyOf": _list,
        "oneOf": _list,
        "allOf": _list,
        "properties": _map,
        "patternProperties": _map,
        "$ref": _ref,
    }

    # -- references ---------------------------------------------------------------------------------------------------

    def _combines(self, schema: Any, depth: int) -> bool:
        """Whether any part of the schema is an intersection of several."""
        if not isinstance(schema, Mapping | list):
            return False
        if depth > 2 * self.limits.schema_depth + 1:  # a level has a schema and what stands under one of its keywords
            raise self.error("#", f"is nested deeper than {self.limits.schema_depth} levels")
        if isinstance(schema, list):
            return any(self._combines(one, depth + 1) for one in schema)
        if (inner := wrapped(schema)) is not None:
            return self._combines(inner, depth + 1)
        applicators = [key for key in COMBINING if key in schema]
        if "allOf" in applicators or len(applicators) > 1:
            return True
        if applicators and ASSERTING & schema.keys() - set(applicators) - {"nullable"}:
            return True
        return any(self._combines(value, depth + 1) for key, value in schema.items() if key not in ("const", "enum"))


def _kind(value: Any) -> str:
    names = {str: "a string", int: "a number", float: "a number", list: "a list", type(None): "null"}
    return names.get(type(value), "something else")
