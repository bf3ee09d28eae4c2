"""Random JSON Schemas: of every type, with and without bounds, nested and alternative."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

words = st.sampled_from(["a", "b", "naïve", "東京", "two words", 'quo"te', "back\\slash", "", "x-y"])
small = st.integers(-20, 20)


def bounds(draw: Any, low: str, high: str, numbers: Any) -> dict[str, Any]:
    first, second = sorted((draw(numbers), draw(numbers)))
    return {key: value for key, value in ((low, first), (high, second)) if draw(st.booleans())}


@st.composite
def strings(draw: Any) -> dict[str, Any]:
    if draw(st.integers(0, 3)) == 0:
        patterns = ["^[a-z]{2,5}$", "x+", "^(red|green)-\\d{1,3}$", "^[A-Z]", "a.*b"]
        return {"type": "string", "pattern": draw(st.sampled_from(patterns))}
    return {"type": "string", **bounds(draw, "minLength", "maxLength", st.integers(0, 12))}


@st.composite
def numbers(draw: Any) -> dict[str, Any]:
    kind = draw(st.sampled_from(["integer", "number"]))
    exclusive = draw(st.booleans())
    limits = ("exclusiveMinimum", "exclusiveMaximum") if exclusive else ("minimum", "maximum")
    schema = {"type": kind, **bounds(draw, *limits, small)}
    if exclusive and len(schema) == 3 and schema[limits[1]] - schema[limits[0]] < 2:
        del schema[limits[1]]
    if kind == "integer" and len(schema) < 3 and draw(st.booleans()):
        schema["multipleOf"] = draw(st.integers(1, 12))
    return schema


@st.composite
def objects(draw: Any, inner: Any) -> dict[str, Any]:
    properties = draw(st.dictionaries(words, inner, max_size=4))
    schema: dict[str, Any] = {"type": "object"}
    if properties or draw(st.booleans()):
        schema["properties"] = properties
        schema["required"] = [name for name in properties if draw(st.booleans())]
    if draw(st.integers(0, 2)) == 0:
        schema["additionalProperties"] = draw(st.one_of(st.booleans(), inner))
    return schema


@st.composite
def arrays(draw: Any, inner: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array", **bounds(draw, "minItems", "maxItems", st.integers(0, 4))}
    if draw(st.booleans()):
        schema["items"] = draw(inner)
    return schema


values = st.one_of(st.none(), st.booleans(), small, words)
leaves = st.one_of(
    strings(),
    numbers(),
    st.just({"type": ["string", "null"]}),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {}, True]),
    values.map(lambda value: {"const": value}),
    st.lists(values, min_size=1, max_size=4).map(lambda listed: {"enum": listed}),
    st.sampled_from(["date", "time", "uuid", "ipv4"]).map(lambda name: {"type": "string", "format": name}),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        objects(inner),
        arrays(inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
    ),
    max_leaves=8,
)
roots = st.one_of(objects(schemas), objects(schemas), schemas.filter(lambda schema: isinstance(schema, dict)))
