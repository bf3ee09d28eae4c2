"""Request bodies: JSON bytes -> a pydantic model, or one clear 400 that names the field.

Unknown fields are accepted (clients of newer APIs must not break) and reported by name, however deep they stand; wrong
types are refused. A whole number is an integer however it is written (``2.0``), as in JSON Schema: many languages know
one kind of number. Messages never repeat the input, so a large bad request cannot make a large answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache, cached_property
from typing import Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError, from_json

from portico.errors import BadRequestError
from portico.protocols.bounds import LARGE, check_bounds, id_fields
from portico.protocols.id_lists import put_back, taken_out

__all__ = ["Keys", "RequestModel", "fault", "field_path", "parse_body", "parse_fields"]


class Keys(NamedTuple):
    """What an object that stays a dictionary may hold: beside the type of its field, so that other keys are reported.

    ``inside`` says the same of the objects, or lists of them, under some of its keys.
    """

    names: frozenset[str]
    inside: Mapping[str, Keys] = {}

    @classmethod
    def of(cls, *names: str, **inside: Keys) -> Keys:
        """``names`` hold what is read elsewhere, ``inside`` objects whose keys are known too."""
        return cls(frozenset(names) | frozenset(inside), inside)


class RequestModel(BaseModel):
    """Base of request bodies: strict types, no NaN, unknown fields kept apart in ``unknown_fields``."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, protected_namespaces=())

    media_type: ClassVar[str] = "application/json"  # that the body comes in

    @cached_property
    def unknown_fields(self) -> list[str]:
        """Paths of the fields this server does not know: those of the top in the order they came, then those inside."""
        found = list(self.model_extra or ())
        given = self.model_fields_set
        for name, keys, path in _fields(type(self)):
            if name in given:
                found += _unknown(getattr(self, name), keys, path)
        return found


@cache
def _fields(model: type[BaseModel]) -> list[tuple[str, Keys | None, str]]:
    """Its fields: name, known keys of the objects in it, and how it is written."""
    return [
        (name, next((one for one in field.metadata if isinstance(one, Keys)), None), field.alias or name)
        for name, field in model.model_fields.items()
    ]


def _unknown(value: object, keys: Keys | None, path: str) -> Iterator[str]:
    """Paths of the unknown fields inside a field's value."""
    if isinstance(value, RequestModel):
        yield from (f"{path}.{name}" for name in value.unknown_fields)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, int) or (keys is None and isinstance(item, dict)):  # so are the others, maybe many
                return
            yield from _unknown(item, keys, f"{path}[{index}]")
    elif keys is not None and isinstance(value, dict):
        for name, inner in value.items():
            if name not in keys.names and inner is not None:
                yield f"{path}.{name}"
            elif name in keys.inside:
                yield from _unknown(inner, keys.inside[name], f"{path}.{name}")


Model = TypeVar("Model", bound=BaseModel)

_SHOWN = 3  # errors told at once; more would help nobody


def parse_body(model: type[Model], body: bytes) -> Model:
    """Validate ``body`` as ``model``. Raises ``BadRequestError`` whose ``param`` is the first field at fault."""
    if not body:
        raise BadRequestError("The request body is empty; send a JSON object.", code="invalid_json")
    check_bounds(body, model)
    try:
        request = _validated(model, body)
    except ValidationError as error:
        request = _once_more(model, error, lambda: from_json(body))
    except ValueError as error:
        raise _no_json(str(error)) from None
    if isinstance(request, RequestModel) and len(body) > LARGE:
        request.unknown_fields  # noqa: B018  (found here, where it may take long)
    return request


def _validated(model: type[Model], body: bytes) -> Model:
    """The body as ``model``. Raises ``ValidationError``, and for a large one that is no JSON another ``ValueError``."""
    if len(body) <= LARGE:
        return model.model_validate_json(body)
    # What pydantic makes of JSON first takes four times the memory of Python's own objects, and ends up as those too.
    rest, lists = taken_out(body, id_fields(model))
    fields = from_json(rest)
    if not put_back(fields, lists):
        fields = from_json(body)
    return model.model_validate(fields)


def parse_fields(model: type[Model], fields: Mapping[str, Any]) -> Model:
    """The same for a request whose fields another protocol has already taken apart."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        return _once_more(model, error, lambda: deepcopy(dict(fields)))


def fault(field: str, message: str) -> PydanticCustomError:
    """What a validator raises about several fields together: ``field`` is the path of the one to be changed."""
    return PydanticCustomError("fault", "{message}", {"message": message, "field": field})


def _once_more(model: type[Model], error: ValidationError, fields: Callable[[], dict[str, Any]]) -> Model:
    """The request with its whole numbers as integers, where nothing else was wrong with it."""
    if not any("int" in one["type"] for one in error.errors(include_url=False, include_input=False)):
        raise _bad_request(error)  # without what was sent, which may be much
    places = [one["loc"] for one in error.errors(include_url=False) if _is_whole(one["input"]) and "int" in one["type"]]
    if not places:
        raise _bad_request(error)
    changed = fields()
    for place in places:
        _make_whole(changed, place)
    try:
        return model.model_validate(changed)
    except ValidationError as remaining:
        raise _bad_request(remaining) from None


def _is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()


def _make_whole(value: Any, place: Sequence[int | str]) -> None:
    """Make the float at ``place`` an integer, in a list those of all items: it is refused at its first. Names of union
    branches, which stand in a place too, lead nowhere."""
    for at, part in enumerate(place):
        if isinstance(value, list) and isinstance(part, int):
            for item in value:
                _make_whole(item, place[at + 1 :])
            break
        if not isinstance(value, dict):
            continue
        inside: Any = value.get(part)
        if isinstance(inside, list):
            value[part] = _all_whole(inside)
        elif _is_whole(inside):
            value[part] = int(inside)
        value = value.get(part, value)


def _all_whole(values: list[Any]) -> list[Any]:
    return [_all_whole(one) if isinstance(one, list) else int(one) if _is_whole(one) else one for one in values]


def _bad_request(error: ValidationError) -> BadRequestError:
    problems = error.errors(include_url=False, include_input=False)
    first = problems[0]
    if first["type"] == "json_invalid":
        return _no_json(first["msg"].removeprefix("Invalid JSON: "))
    lines = []
    for problem in problems[:_SHOWN]:
        path = _at_fault(problem)
        message = _JSON_WORDS.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            lines.append(f"Missing required field '{path}'." if path else "Missing required field.")
        else:
            lines.append(f"Invalid '{path}': {message}." if path else f"Invalid request body: {message}.")
    if len(problems) > _SHOWN:
        lines.append(f"({len(problems) - _SHOWN} more problems.)")
    code = "invalid_type" if first["type"].endswith("_type") else "invalid_value"
    if first["type"] == "missing":
        code = "missing_required_parameter"
    return BadRequestError(" ".join(lines).replace("..", "."), param=_at_fault(first) or None, code=code)


def _no_json(why: str) -> BadRequestError:
    return BadRequestError(f"The request body is not valid JSON: {why}.", code="invalid_json")


def _at_fault(problem: ErrorDetails) -> str:
    """The path of the field that a problem is about."""
    place = problem["loc"]
    if problem["type"] == "fault":
        place = (*place, *problem["ctx"]["field"].split("."))
    return field_path(place)


def field_path(location: Sequence[int | str]) -> str:
    """``("messages", 0, "role")`` -> ``messages[0].role``. Names of union branches are left out."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() and not (part and part[0].isupper()) and part not in _BRANCHES:
            path += f".{part}" if path else part
    return path[:200]


# Where the objects of Python are validated, pydantic speaks of those.
_JSON_WORDS = {
    "list_type": "Input should be a valid array",
    "dict_type": "Input should be an object",
    "model_type": "Input should be an object",
}
_BRANCHES = frozenset({"str", "int", "float", "bool", "list", "dict", "none", "constrained"})
