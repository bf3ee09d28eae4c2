"""OpenAI's own API description as a validator of what we send."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator

from support.shared import shared_path


@lru_cache(maxsize=1)
def _description() -> dict[str, Any]:
    description = json.loads(shared_path("specs/openai-openapi.json").read_text())
    _allow_null(description["components"]["schemas"])
    return description  # type: ignore[no-any-return]


def _allow_null(node: Any) -> None:
    """``nullable: true`` is OpenAPI 3.0's way to say what JSON Schema says with a type ``null``."""
    if isinstance(node, dict):
        for value in node.values():
            _allow_null(value)
        if node.get("nullable") is True:
            inner = {key: node.pop(key) for key in list(node) if key != "description"}
            inner.pop("nullable")
            node["anyOf"] = [inner, {"type": "null"}]
    elif isinstance(node, list):
        for value in node:
            _allow_null(value)


@lru_cache(maxsize=32)
def _validator(schema: str) -> Draft202012Validator:
    description = _description()
    return Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": description["components"]})


def assert_valid(schema: str, value: Any) -> None:
    """``value`` is what OpenAI's description calls ``schema``; skips where the description is absent."""
    problems = sorted(_validator(schema).iter_errors(value), key=lambda error: list(error.absolute_path))
    assert not problems, "\n".join(f"{list(p.absolute_path)}: {p.message[:300]}" for p in problems[:5])
