"""Every limit lets through what is as large as it says, and refuses one more, on the field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from portico.constraints import Limits, answer_grammar, structural_tag
from portico.constraints.custom import input_schema
from portico.constraints.lark import to_lark
from portico.constraints.regex import UnheldError, exact, read
from portico.constraints.schema import normalise
from portico.constraints.schema.size import is_larger
from portico.errors import BadRequestError
from portico.grammar import Exactly
from support.hostile_schemas import nested

NULL = {"type": "null"}


def _in_lists(levels: int) -> Any:
    schema: Any = {"type": ["string", "null"]}
    for _ in range(levels):
        schema = {"anyOf": [schema]}
    return schema


# The limits, a schema as large as the number says, and the largest one.
SCHEMAS: dict[str, tuple[Limits, Callable[[int], Any], int]] = {
    "levels": (Limits(schema_depth=3), nested, 3),
    "levels of lists": (Limits(schema_depth=3), _in_lists, 3),
    "subschemas": (Limits(schema_nodes=5), lambda n: {"anyOf": [NULL] * (n - 1)}, 5),
    "enumeration": (Limits(enum_values=4), lambda n: {"enum": list(range(n))}, 4),
    "enumerations": (Limits(enum_values=4), lambda n: {"anyOf": [{"enum": [1, 2, 3]}, *[{"const": 4}] * (n - 3)]}, 4),
    "text in an enumeration": (Limits(literal=5), lambda n: {"enum": ["x" * n]}, 5),
    "text of a constant": (Limits(literal=5), lambda n: {"const": "x" * n}, 5),
    "another constant": (Limits(literal=5), lambda n: {"const": 10 ** (n - 1)}, 5),
    "name": (Limits(literal=5), lambda n: {"properties": {"x" * n: NULL}}, 5),
    "pattern": (Limits(pattern=5), lambda n: {"type": "string", "pattern": "x" * n}, 5),
    "pattern of names": (Limits(pattern=5), lambda n: {"patternProperties": {"x" * n: NULL}}, 5),
    "multiple": (Limits(multiple_of=12), lambda n: {"type": "integer", "multipleOf": n}, 12),
    "multiple with decimals": (Limits(multiple_of=12), lambda n: {"type": "number", "multipleOf": n / 100}, 12),
    "decimals": (Limits(), lambda n: {"type": "number", "multipleOf": 10.0**-n}, 9),
    **{
        key: (Limits(), lambda n, key=key, sign=sign: {"type": "integer", key: sign * n}, 9 * 10**18)
        for key, sign in [("minimum", 1), ("exclusiveMinimum", 1), ("maximum", -1), ("exclusiveMaximum", -1)]
    },
}  # fmt: skip


def refusal(made: Callable[[], object]) -> str | None:
    """The field that is refused."""
    try:
        made()
    except BadRequestError as error:
        return error.param
    return None


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas(name: str) -> None:
    limits, schema, most = SCHEMAS[name]

    def made(size: int) -> object:
        return normalise(schema(size), param="schema", strict=True, limits=limits)

    assert refusal(lambda: made(most)) is None
    assert refusal(lambda: made(most + 1)) == "schema"


@pytest.mark.parametrize(("value", "size"), [([[]] * 10, 22), ({"ab": [1, "abc"]}, 15), ([{}, {}], 6)])
def test_how_large_a_value_is(value: Any, size: int) -> None:
    assert is_larger(value, size)
    assert not is_larger(value, size + 1)


def test_a_bound_beyond_all_that_is_written_says_nothing() -> None:
    wide = {"type": "integer", "minimum": -(10**19), "maximum": 10**19}
    held = normalise(wide, param="schema", strict=True, limits=Limits()).schema
    assert held == normalise({"type": "integer"}, param="schema", strict=True, limits=Limits()).schema


@pytest.mark.parametrize(("opened", "closed", "most"), [("(", ")", 100), ("[", "]", 101), ("(?:x|", ")", 100)])
def test_groups_and_sets_inside_each_other(opened: str, closed: str, most: int) -> None:
    def made(levels: int) -> object:
        return exact(read(opened * levels + "a" + closed * levels, "rust"))

    made(most)
    with pytest.raises(UnheldError, match="inside each other"):
        made(most + 1)


# The same for what stands under ``structured_outputs``.
EXTENSIONS: dict[str, tuple[Limits, str, Callable[[int], Any], int]] = {
    "expression": (Limits(pattern=5), "regex", lambda n: "x" * n, 5),
    "choices": (Limits(choices=3), "choice", lambda n: [str(one) for one in range(n)], 3),
    "choice": (Limits(literal=5), "choice", lambda n: ["x" * n], 5),
    "all choices": (Limits(grammar=9), "choice", lambda n: ["x" * 4, "y" * (n - 4)], 9),
    "grammar": (Limits(grammar=12), "grammar", lambda n: 'root ::= "a"'.ljust(n), 12),
    "text of a schema": (Limits(schema=9), "json", lambda n: "{}".ljust(n), 9),
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_extensions(name: str) -> None:
    limits, key, value, most = EXTENSIONS[name]
    assert refusal(lambda: answer_grammar(None, {key: value(most)}, limits)) is None
    assert refusal(lambda: answer_grammar(None, {key: value(most + 1)}, limits)) == f"structured_outputs.{key}"


@pytest.mark.parametrize("field", ["structured_outputs.whitespace_pattern", "guided_whitespace_pattern"])
def test_white_space(field: str) -> None:
    def made(size: int) -> object:
        key = field.rpartition(".")[2]
        given: tuple[Any, Any] = ({"json": {}, key: " " * size}, None)
        if key == field:
            given = (None, {"guided_json": {}, key: " " * size})
        return answer_grammar(None, given[0], Limits(pattern=5), given[1])

    assert refusal(lambda: made(5)) is None
    assert refusal(lambda: made(6)) == field


def _tag(form: Any, limits: Limits) -> object:
    return structural_tag.read({"format": form}, "tag", limits)


def _within(levels: int) -> Any:
    form: Any = {"type": "const_string", "value": "x"}
    for _ in range(levels):
        form = {"type": "optional", "content": form}
    return form


TEXT = {"type": "const_string", "value": "x"}
TAGS: dict[str, tuple[Callable[[int], Any], int]] = {
    "text": (lambda n: {"type": "const_string", "value": "x" * n}, 20),
    "elements": (lambda n: {"type": "sequence", "elements": [TEXT] * n}, 3),
    "levels": (_within, 32),
    "at least": (lambda n: {"type": "repeat", "min": n, "max": -1, "content": TEXT}, 10_000),
    "at most": (lambda n: {"type": "repeat", "min": 0, "max": n, "content": TEXT}, 10_000),
}


@pytest.mark.parametrize("name", TAGS)
def test_structural_tags(name: str) -> None:
    form, most = TAGS[name]
    limits = Limits(grammar=20, choices=3)
    assert refusal(lambda: _tag(form(most), limits)) is None
    assert refusal(lambda: _tag(form(most + 1), limits)) == "tag"


def test_custom_tools() -> None:
    def made(size: int) -> object:
        grammar = {"syntax": "lark", "definition": 'start: "a"'.ljust(size)}
        return input_schema({"type": "grammar", "grammar": grammar}, "format", Limits(grammar=12))

    assert refusal(lambda: made(12)) is None
    assert refusal(lambda: made(13)) == "format.grammar.definition"


def test_the_whole_grammar() -> None:
    size = len(to_lark(Exactly("abc"), {}, Limits()).text)
    assert refusal(lambda: to_lark(Exactly("abc"), {}, Limits(lark=size))) is None
    with pytest.raises(BadRequestError, match=f"is {size} characters long; at most {size - 1}"):
        to_lark(Exactly("abc"), {}, Limits(lark=size - 1))
