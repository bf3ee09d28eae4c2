"""What OpenAI says of its answers as a validator of ours: the types of its SDK, and its API description where that is
at hand (shared test material)."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Literal

from jsonschema import Draft202012Validator
from openai.types import Batch, Completion, CompletionChoice, FileDeleted, FileObject, Upload
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.shared import ErrorObject
from openai.types.uploads import UploadPart
from pydantic import BaseModel, ConfigDict, TypeAdapter

from support.shared import shared_file


class _TextChoice(CompletionChoice):
    finish_reason: str | None  # type: ignore[assignment]  # as OpenAI sends it until the last chunk of a stream


class _Text(Completion):
    choices: list[_TextChoice]  # type: ignore[assignment]


class _Files(BaseModel):
    model_config = ConfigDict(extra="forbid")
    object: Literal["list"]
    data: list[FileObject]
    first_id: str
    last_id: str
    has_more: bool


class _Error(BaseModel):
    model_config = ConfigDict(extra="forbid")
    error: ErrorObject


TYPES: dict[str, Any] = {
    "ErrorResponse": _Error,
    "CreateChatCompletionResponse": ChatCompletion,
    "CreateChatCompletionStreamResponse": ChatCompletionChunk,
    "CreateCompletionResponse": _Text,
    "OpenAIFile": FileObject,
    "ListFilesResponse": _Files,
    "DeleteFileResponse": FileDeleted,
    "Batch": Batch,
    "Upload": Upload,
    "UploadPart": UploadPart,
}


@lru_cache(maxsize=1)
def _description() -> dict[str, Any] | None:
    path = shared_file("specs/openai-openapi.json")
    if path is None:
        return None
    description = json.loads(path.read_text())
    allow_null(description["components"]["schemas"])
    return description  # type: ignore[no-any-return]


def allow_null(node: Any) -> None:
    """``nullable: true`` is OpenAPI 3.0's way to say what JSON Schema says with a type ``null``."""
    if isinstance(node, dict):
        for value in node.values():
            allow_null(value)
        if node.get("nullable") is True:
            inner = {key: node.pop(key) for key in list(node) if key != "description"}
            inner.pop("nullable")
            node["anyOf"] = [inner, {"type": "null"}]
    elif isinstance(node, list):
        for value in node:
            allow_null(value)


@lru_cache(maxsize=32)
def _validator(schema: str) -> Draft202012Validator:
    description = _description() or {"components": {"schemas": {schema: {}}}}
    return Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": description["components"]})


def assert_valid(schema: str, value: Any) -> None:
    """``value`` is what OpenAI calls ``schema``."""
    TypeAdapter(TYPES[schema]).validate_json(json.dumps(value), strict=True)
    problems = sorted(_validator(schema).iter_errors(value), key=lambda error: list(error.absolute_path))
    assert not problems, "\n".join(f"{list(p.absolute_path)}: {p.message[:300]}" for p in problems[:5])
