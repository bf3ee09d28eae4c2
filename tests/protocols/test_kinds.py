"""Of which kind a value is: the same, and named by its place, however deep it stands."""

from __future__ import annotations

from typing import Any

import pytest

from portico.errors import BadRequestError
from portico.protocols.kinds import FLAG, LIST, OBJECT, TEXT, Kinds

OF_EACH: dict[str, list[Any]] = {
    "text": ["", "a"],
    "true or false": [True, False],
    "a list": [[], [1]],
    "an object": [{}, {"a": 1}],
    "": [0, 1, 1.5],
}
FIELDS = {"t": (TEXT, "text"), "f": (FLAG, "true or false"), "l": (LIST, "a list"), "o": (OBJECT, "an object")}
KINDS = Kinds({**{name: kind for name, (kind, _) in FIELDS.items()}, "either": (*TEXT, *LIST)})
# where the objects stand that the kinds are said of, and the path that leads there
AROUND: dict[str, tuple[Kinds, Any, str]] = {
    "here": (KINDS, lambda one: one, ""),
    "in a list": (KINDS, lambda one: [{}, one], "[1]"),
    "inside": (Kinds({}, {"a": KINDS}), lambda one: {"a": one}, "a"),
    "in lists inside": (
        Kinds({}, {"x": Kinds({}), "a": Kinds({}, {"b": KINDS})}),
        lambda one: {"a": [7, {"b": [one]}]},
        "a[1].b[0]",
    ),
}


@pytest.mark.parametrize("place", AROUND)
@pytest.mark.parametrize("root", ["", "input[3]"])
def test_what_is_of_another_kind_is_named(place: str, root: str) -> None:
    kinds, around, inner = AROUND[place]
    at = root + inner if not root or inner.startswith("[") or not inner else f"{root}.{inner}"
    for name, (_, wanted) in {**FIELDS, "either": ((), "text or a list")}.items():
        for said, values in OF_EACH.items():
            for value in values:
                given = around({"other": 1, name: value})
                if said and said in [*wanted.split(" or "), wanted]:
                    kinds.check(given, root)
                    continue
                with pytest.raises(BadRequestError) as caught:
                    kinds.check(given, root)
                path = f"{at}.{name}" if at else name
                assert (caught.value.param, caught.value.code) == (path, "invalid_type")
                assert caught.value.message == f"{path} must be {wanted}."
        kinds.check(around({name: None}), root)


@pytest.mark.parametrize("value", [None, 1, "a", [], {}, [1, None, "a"], {"a": None}, {"a": 7}])
def test_what_is_no_object_is_somebody_elses(value: Any) -> None:
    for kinds, _, _ in AROUND.values():
        kinds.check(value, "x")
