"""A client's JSON Schema made into one that llguidance can hold a model to.

The grammar compiler knows most of JSON Schema 2020-12, leaves some of it out, and takes the rest literally: an integer
may have a thousand digits, an object without ``additionalProperties`` any members. A small model, held to such a
grammar, runs on to its token limit. So the schema is walked once and rewritten. Every rewriting narrows: what the new
schema accepts the old one accepts too, with the two exceptions marked (*).

- Integers without bounds lie within ±(2^53 - 1), the integers that every JSON reader keeps exactly. Numbers without
  bounds lie within ±10^15 and have at most nine decimals; no number is written with an exponent. Where ``multipleOf``
  is given and bounds are not, they are ±10^12.
- An object that lists ``properties`` and says nothing of others has no others. ``properties`` without a type mean an
  object, ``items`` an array. Where parts of a schema are combined (``allOf``, siblings of ``$ref`` and ``anyOf``) none
  of this is done, because closing one part would shut out the members of another, nor are decimals limited there.
- ``oneOf`` is held as ``anyOf`` (*).
- Spellings of older drafts and of OpenAPI (``definitions``, ``items`` as a list, boolean ``exclusiveMinimum``,
  ``nullable``) become today's.
- ``$ref`` is followed inside the schema; each target becomes an entry of ``$defs``. References to elsewhere, references
  that lead in a circle, and schemas that no finite document satisfies are refused.
- Annotations and unknown keywords are dropped, as JSON Schema says; so are formats that no grammar knows.
- Keywords that a grammar cannot hold (``uniqueItems``, ``not``, ``if`` …) are refused where the client asked for
  strictness, and dropped where it did not (*).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import msgspec

from portico.constraints.limits import Limits
from portico.errors import BadRequestError

__all__ = ["normalise"]

Schema = dict[str, Any] | bool

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
LARGEST_INTEGER = 2**53 - 1
LARGEST_NUMBER = 10**15
LARGEST_MULTIPLE = 10**12
DECIMALS = Decimal("1e-9")
_MACHINE_INTEGER = 2**63 - 1  # what the grammar compiler counts in
_LARGEST_BOUND = 9 * 10**18  # beyond it the compiler cannot write a number's range

# Keywords that narrow what is accepted and that no grammar holds. The value is what makes each of them harmless.
_UNENFORCEABLE: dict[str, tuple[Any, ...]] = {
    "not": (False,),
    "if": (),
    "then": (),
    "else": (),
    "contains": (),
    "uniqueItems": (False,),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "dependencies": ({},),
    "propertyNames": (True, {}, {"type": "string"}),
    "unevaluatedProperties": (True, {}),
    "unevaluatedItems": (True, {}),
    "$dynamicRef": (),
    "$recursiveRef": (),
}
_COMBINING = ("$ref", "allOf", "anyOf", "oneOf")
_NUMERIC = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
# Keywords that say something about an instance; a schema of none of them accepts everything.
_ASSERTING = {
    *_COMBINING, *_NUMERIC, *_COUNTS, "type", "const", "enum", "pattern", "format", "nullable",
    "properties", "patternProperties", "additionalProperties", "required", "items", "prefixItems", *_UNENFORCEABLE,
}  # fmt: skip


def normalise(schema: Mapping[str, Any] | bool, *, param: str, strict: bool, limits: Limits) -> dict[str, Any]:
    """The schema to compile in place of ``schema``, with all its definitions in ``$defs``.

    Raises ``BadRequestError`` on ``param``, saying where in the schema (as ``#/properties/…``) and what is wrong.
    """
    return _Normaliser(schema, param, strict, limits).run()


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
        self.anything: dict[str, Any] | None = None

    def run(self) -> dict[str, Any]:
        if not isinstance(self.root, Mapping):
            raise self.error("#", "must be a JSON object")
        try:
            size = len(msgspec.json.encode(self.root))
        except (TypeError, ValueError, RecursionError):
            raise self.error("#", "is not JSON, or is nested too deeply") from None
        if size > self.limits.schema:
            raise self.error("#", f"is {size} bytes long; at most {self.limits.schema} are allowed")
        self.combines = self._combines(self.root, 0)
        result = self.schema(self.root, "#", 0)
        while self.pending:
            pointer = self.pending.pop()
            self.definitions[self.names[pointer]] = self.schema(self._target(pointer), pointer, 0)
        if not isinstance(result, dict):
            result = self._any() if result else {"not": {}}
        if self.anything is not None:
            self.definitions[_ANY] = self.anything
        self._check_finite(result)
        return {**result, "$defs": self.definitions} if self.definitions else result

    def error(self, where: str, problem: str) -> BadRequestError:
        place = "the schema" if where == "#" else f"the schema at {where[:200]}"
        return BadRequestError(f"{self.param}: {place} {problem}.", param=self.param, code="invalid_json_schema")

    # -- one schema -----------------------------------------------------------------------------------------------

    def schema(self, schema: Any, where: str, depth: int) -> Schema:
        """The rewritten form of one subschema."""
        self.nodes += 1
        if self.nodes > self.limits.schema_nodes:
            raise self.error("#", f"has more than {self.limits.schema_nodes} subschemas")
        if depth > self.limits.schema_depth:
            raise self.error(where, f"is nested deeper than {self.limits.schema_depth} levels")
        if isinstance(schema, bool):
            return schema if not schema or self.combines else self._any()
        if not isinstance(schema, Mapping):
            raise self.error(where, f"must be an object or a boolean, not {_kind(schema)}")
        if not _ASSERTING & schema.keys():
            return {} if self.combines else self._any()

        out: dict[str, Any] = {}
        given = self._modern(schema, where)
        # Keywords keep their order: the compiler fixes the order of properties by it.
        for key, value in given.items():
            if key in _UNENFORCEABLE:
                self._unenforceable(key, value, where)
            elif rewrite := self._KEYWORDS.get(key):
                rewrite(self, out, key, value, where, depth)
        if not out.keys() & {"const", "enum", *_COMBINING}:
            if not self.combines:
                self._objects(out)
                self._arrays(out)
            _numbers(out, decimals=not self.combines)
        return out

    def _modern(self, schema: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The same schema without the spellings of older drafts and of OpenAPI."""
        while (inner := _wrapped(schema)) is not None:
            schema, where = inner, f"{where}/allOf/0"
        renamed = "anyOf" if "anyOf" not in schema else "oneOf"
        given = {renamed if key == "oneOf" else key: value for key, value in schema.items()}
        if isinstance(given.get("items"), list):
            given["prefixItems"] = given.pop("items")
            if "additionalItems" in given:
                given["items"] = given["additionalItems"]
        for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if isinstance(given.get(exclusive), bool) and given.pop(exclusive) and bound in given:
                given[exclusive] = given.pop(bound)
        if given.pop("nullable", False) is True:
            if "type" in given:
                types = given["type"] if isinstance(given["type"], list) else [given["type"]]
                given["type"] = [*types, *(["null"] if "null" not in types else [])]
            if isinstance(given.get("enum"), list) and None not in given["enum"]:
                given["enum"] = [*given["enum"], None]
        self._property_names(given)
        return given

    def _property_names(self, given: dict[str, Any]) -> None:
        """``propertyNames`` of a map becomes its properties or its name pattern, where it can."""
        names = given.get("propertyNames")
        if not isinstance(names, Mapping) or given.keys() & {"properties", "patternProperties", "required"}:
            return
        value = given.get("additionalProperties", True)
        asserting = {key: names[key] for key in names if key in _ASSERTING and (key, names[key]) != ("type", "string")}
        if set(asserting) == {"enum"} and all(isinstance(name, str) for name in asserting["enum"]):
            given["properties"] = dict.fromkeys(asserting["enum"], value)
        elif set(asserting) == {"const"} and isinstance(asserting["const"], str):
            given["properties"] = {asserting["const"]: value}
        elif set(asserting) == {"pattern"}:
            given["patternProperties"] = {asserting["pattern"]: value}
        else:
            return
        given["additionalProperties"] = False
        del given["propertyNames"]

    def _unenforceable(self, key: str, value: Any, where: str) -> None:
        if not self.strict or any(
            value == harmless and type(value) is type(harmless) for harmless in _UNENFORCEABLE[key]
        ):
            return
        raise self.error(
            where, f"uses {key!r}, which cannot be enforced while sampling; remove it (without strict it is ignored)"
        )

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
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) == _INFINITY:
            raise self.error(where, f"must have a finite number in {key!r}")
        if key == "multipleOf":
            _, digits, exponent = Decimal(str(value)).normalize().as_tuple()
            numerator = int("".join(map(str, digits))) * 10 ** max(int(exponent), 0)
            if value <= 0 or numerator > self.limits.multiple_of or int(exponent) < -9:
                raise self.error(
                    where,
                    f"must have a 'multipleOf' above zero, of at most nine decimals, "
                    f"and at most {self.limits.multiple_of} when the decimal point is dropped",
                )
        elif abs(value) > _LARGEST_BOUND:
            if (value < 0) == key.lower().endswith("minimum"):
                return  # wider than any bound of ours
            raise self.error(where, f"has a {key!r} beyond what can be enforced (±9e18)")
        out[key] = value

    def _count(self, out: dict[str, Any], key: str, value: Any, where: str, depth: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
            raise self.error(where, f"must have a whole number, zero or more, in {key!r}")
        out[key] = int(value)

    def _pattern(self, out: dict[str, Any], key: str, value: Any, where: str, depth: int) -> None:
        out[key] = self._regex(value, where)

    def _regex(self, value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise self.error(where, "must have a string in 'pattern'")
        if len(value) > self.limits.pattern:
            raise self.error(where, f"has a pattern longer than {self.limits.pattern} characters")
        return value

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
            if key == "patternProperties":
                self._regex(name, where)
            out[key][name] = self.schema(one, f"{where}/{key}/{_escaped(name)}", depth + 1)

    def _ref(self, out: dict[str, Any], key: str, value: Any, where: str, depth: int) -> None:
        if not isinstance(value, str) or not value.startswith("#"):
            raise self.error(where, "refers to another document; only references that begin with '#' are followed")
        pointer = self._pointer(value, where)
        if pointer not in self.names:
            self.names[pointer] = f"d{len(self.names)}"
            self.pending.append(pointer)
        out["$ref"] = f"#/$defs/{self.names[pointer]}"

    _KEYWORDS: Mapping[str, Callable[[_Normaliser, dict[str, Any], str, Any, str, int], None]] = {
        "type": _type,
        "const": _value,
        "enum": _value,
        **dict.fromkeys(_NUMERIC, _number),
        **dict.fromkeys(_COUNTS, _count),
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

    # -- defaults ---------------------------------------------------------------------------------------------------

    def _objects(self, out: dict[str, Any]) -> None:
        """Close objects that list their properties; give free maps a bounded value."""
        about_objects = out.keys() & {"properties", "patternProperties", "additionalProperties", "required"}
        if "type" not in out and about_objects:
            out["type"] = "object"
        if "object" not in _types(out) or "additionalProperties" in out:
            return
        if not out.keys() & {"properties", "patternProperties"}:
            out["additionalProperties"] = self._any()
            return
        out["additionalProperties"] = False
        properties = out.setdefault("properties", {})
        for name in out.get("required", ()):
            if name not in properties and "patternProperties" not in out:
                properties[name] = self._any()

    def _arrays(self, out: dict[str, Any]) -> None:
        """Give arrays whose items are free a bounded item."""
        if "type" not in out and out.keys() & {"items", "prefixItems"}:
            out["type"] = "array"
        if "array" in _types(out) and "items" not in out:
            out["items"] = False if "prefixItems" in out else self._any()

    def _any(self) -> dict[str, Any]:
        """A reference to the schema of any value, numbers bounded."""
        if self.anything is None:
            reference = {"$ref": f"#/$defs/{_ANY}"}
            number: dict[str, Any] = {"type": "number"}
            _numbers(number, decimals=True)
            self.anything = {
                "anyOf": [
                    {"type": ["null", "boolean", "string"]},
                    number,
                    {"type": "array", "items": reference},
                    {"type": "object", "additionalProperties": reference},
                ]
            }
        return {"$ref": f"#/$defs/{_ANY}"}

    # -- references ---------------------------------------------------------------------------------------------------

    def _combines(self, schema: Any, depth: int) -> bool:
        """Whether any part of the schema is an intersection of several."""
        if depth > 2 * self.limits.schema_depth:
            raise self.error("#", f"is nested deeper than {self.limits.schema_depth} levels")
        if isinstance(schema, list):
            return any(self._combines(one, depth + 1) for one in schema)
        if not isinstance(schema, Mapping):
            return False
        if (inner := _wrapped(schema)) is not None:
            return self._combines(inner, depth + 1)
        applicators = [key for key in _COMBINING if key in schema]
        if "allOf" in applicators or len(applicators) > 1:
            return True
        if applicators and _ASSERTING & schema.keys() - set(applicators) - {"nullable"}:
            return True
        return any(self._combines(value, depth + 1) for key, value in schema.items() if key not in ("const", "enum"))

    def _pointer(self, reference: str, where: str) -> str:
        """Where ``reference`` leads, through references that are nothing but references, as a JSON pointer."""
        seen: set[str] = set()
        while True:
            fragment = unquote(reference[1:])
            if fragment and not fragment.startswith("/"):
                fragment = self._anchor(fragment, where)
            if fragment in seen:
                raise self.error(where, "refers to itself and nothing else")
            seen.add(fragment)
            target = self._target(f"#{fragment}", where)
            onward = target.get("$ref") if isinstance(target, Mapping) else None
            if not isinstance(onward, str) or not onward.startswith("#") or len(_ASSERTING & target.keys()) > 1:
                return f"#{fragment}"
            reference = onward

    def _target(self, pointer: str, where: str = "#") -> Any:
        target: Any = self.root
        for part in pointer[1:].split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(target, Mapping) and name in target:
                target = target[name]
            elif isinstance(target, list) and name.isdecimal() and int(name) < len(target):
                target = target[int(name)]
            else:
                raise self.error(where, f"refers to {pointer[:200]!r}, which is not there")
        return target

    def _anchor(self, name: str, where: str) -> str:
        """The pointer of the subschema that calls itself ``name``."""
        stack: list[tuple[str, Any]] = [("", self.root)]
        while stack:
            pointer, value = stack.pop()
            if isinstance(value, Mapping):
                if value.get("$anchor") == name:
                    return pointer
                stack += [(f"{pointer}/{_escaped(key)}", inner) for key, inner in value.items()]
            elif isinstance(value, list):
                stack += [(f"{pointer}/{index}", inner) for index, inner in enumerate(value)]
        raise self.error(where, f"refers to '#{name[:200]}', which is not there")

    # -- termination --------------------------------------------------------------------------------------------------

    def _check_finite(self, root: Schema) -> None:
        """Refuse a schema whose every document contains itself: least fixed point over the definitions."""
        finite: set[str] = set()
        while True:
            found = {name for name in self.definitions.keys() - finite if _finite(self.definitions[name], finite)}
            if not found:
                break
            finite |= found
        if not _finite(root, finite):
            raise self.error("#", "requires itself without end: no finite document satisfies it")


_ANY = "any"
_INFINITY = float("inf")


def _finite(schema: Schema, finite: set[str]) -> bool:
    """Whether ``schema`` has a finite document, given that the definitions named in ``finite`` have."""
    if not isinstance(schema, dict):
        return True
    if "$ref" in schema and schema["$ref"].removeprefix("#/$defs/") not in finite:
        return False
    if not all(_finite(part, finite) for part in schema.get("allOf", ())):
        return False
    if not all(any(_finite(one, finite) for one in schema[key]) for key in ("anyOf", "oneOf") if key in schema):
        return False
    types = _types(schema)
    if "object" in types and len(types) == 1:
        properties = schema.get("properties", {})
        if not all(_finite(properties.get(name, True), finite) for name in schema.get("required", ())):
            return False
    if "array" in types and len(types) == 1 and schema.get("minItems", 0):
        first = schema["prefixItems"][: schema["minItems"]] if "prefixItems" in schema else ()
        rest = [schema.get("items", True)] if schema["minItems"] > len(first) else []
        return all(_finite(item, finite) for item in (*first, *rest))
    return True


def _types(schema: Mapping[str, Any]) -> Sequence[str]:
    types = schema.get("type", ())
    return (types,) if isinstance(types, str) else tuple(types)


def _numbers(out: dict[str, Any], *, decimals: bool) -> None:
    """Bound the numbers of a typed schema where it does not do so itself; with ``decimals`` also those."""
    types = _types(out)
    if not {"integer", "number"} & set(types):
        return
    largest = LARGEST_NUMBER if "number" in types else LARGEST_INTEGER
    if "multipleOf" in out:
        largest = LARGEST_MULTIPLE
    low = out.get("minimum", out.get("exclusiveMinimum"))
    high = out.get("maximum", out.get("exclusiveMaximum"))
    if low is None:
        out["minimum"] = -largest if high is None or high > -largest else -_LARGEST_BOUND
    if high is None:
        out["maximum"] = largest if low is None or low < largest else _LARGEST_BOUND
    if decimals and "number" in types and "multipleOf" not in out:
        out["multipleOf"] = float(DECIMALS)


def _wrapped(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The one schema in an ``allOf`` that says all there is to say, as some generators write references."""
    inside = schema.get("allOf")
    if not isinstance(inside, list) or len(inside) != 1 or not isinstance(inside[0], Mapping):
        return None
    return inside[0] if len(_ASSERTING & schema.keys()) == 1 else None


def _kind(value: Any) -> str:
    names = {str: "a string", int: "a number", float: "a number", list: "a list", type(None): "null"}
    return names.get(type(value), "something else")


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
