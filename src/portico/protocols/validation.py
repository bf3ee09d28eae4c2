"""Request bodies: JSON bytes -> a pydantic model, or one clear 400 that names the field.

Unknown fields are accepted (clients of newer APIs must not break) and reported by name; wrong types are refused.
Messages never repeat the input, so a large bad request cannot make a large answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from portico.errors import BadRequestError
from portico.protocols.bounds import check_bounds

__all__ = ["RequestModel", "field_path", "parse_body", "parse_fields"]


class RequestModel(BaseModel):
    """Base of request bodies: strict types, no NaN, unknown fields kept apart in ``unknown_fields``."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, protected_namespaces=())

    @property
    def unknown_fields(self) -> list[str]:
        """Names of top-level fields this server does not know, in the order they came."""
        return list(self.model_extra or ())


Model = TypeVar("Model", bound=BaseModel)

_SHOWN = 3  # errors told at once; more would help nobody


def parse_body(model: type[Model], body: bytes) -> Model:
    """Validate ``body`` as ``model``. Raises ``BadRequestError`` whose ``param`` is the first field at fault."""
    if not body:
        raise BadRequestError("The request body is empty; send a JSON object.", code="invalid_json")
    check_bounds(body, model)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _bad_request(error) from None


def parse_fields(model: type[Model], fields: Mapping[str, Any]) -> Model:
    """The same for a request whose fields another protocol has already taken apart."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _bad_request(error) from None


def _bad_request(error: ValidationError) -> BadRequestError:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = problems[0]
    if first["type"] == "json_invalid":
        detail = first["msg"].removeprefix("Invalid JSON: ")
        return BadRequestError(f"The request body is not valid JSON: {detail}.", code="invalid_json")
    lines = []
    for problem in problems[:_SHOWN]:
        path = field_path(problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            lines.append(f"Missing required field '{path}'." if path else "Missing required field.")
        else:
            lines.append(f"Invalid '{path}': {message}." if path else f"Invalid request body: {message}.")
    if len(problems) > _SHOWN:
        lines.append(f"({len(problems) - _SHOWN} more problems.)")
    code = "invalid_type" if first["type"].endswith("_type") else "invalid_value"
    if first["type"] == "missing":
        code = "missing_required_parameter"
    return BadRequestError(" ".join(lines).replace("..", "."), param=field_path(first["loc"]) or None, code=code)


def field_path(location: Sequence[int | str]) -> str:
    """``("messages", 0, "role")`` -> ``messages[0].role``. Names of union branches are left out."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() and not (part and part[0].isupper()) and part not in _BRANCHES:
            path += f".{part}" if path else part
    return path[:200]


_BRANCHES = frozenset({"str", "int", "float", "bool", "list", "dict", "none", "constrained"})
