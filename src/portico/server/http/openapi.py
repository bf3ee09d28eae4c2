"""The server's own OpenAPI document, made from the request models: what it says is what is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from portico import __version__
from portico.server.http.sockets import WEBSOCKET

__all__ = ["openapi_document"]

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}

_ANTHROPIC_ERROR = {
    "type": "object",
    "required": ["type", "error", "request_id"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
        "request_id": {"type": "string"},
    },
}


def openapi_document(
    paths: Mapping[str, Mapping[str, str]], bodies: Mapping[tuple[str, str], type[BaseModel]]
) -> dict[str, Any]:
    """OpenAPI 3.1 for ``paths`` (path -> method -> summary); ``bodies`` gives the request model of (path, method)."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(bodies.values())],
        ref_template="#/components/schemas/{model}",
    )
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Portico", "version": __version__},
        "paths": {},
        "components": {
            "schemas": {**definitions.get("$defs", {}), "Error": _ERROR, "AnthropicError": _ANTHROPIC_ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }
    for path, methods in paths.items():
        plain = path.replace(":path}", "}")
        operations = document["paths"].setdefault(plain, {})
        for method, summary in methods.items():
            if method == WEBSOCKET:  # OpenAPI has no word for them
                continue
            operations[method.lower()] = _operation(plain, summary, bodies.get((path, method)))
    return document


def _operation(path: str, summary: str, body: type[BaseModel] | None) -> dict[str, Any]:
    name = "AnthropicError" if path.startswith("/v1/messages") else "Error"
    error = {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}
    answers = ["text/plain" if path == "/metrics" else "application/json"]
    if body is not None and "stream" in body.model_fields:
        answers.append("text/event-stream")
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": {"description": "The answer.", "content": {media_type: {} for media_type in answers}},
            "4XX": {"description": "The request cannot be served as it is.", **error},
            "5XX": {"description": "The server cannot serve it now.", **error},
        },
    }
    if body is not None:
        schema = {"$ref": f"#/components/schemas/{body.__name__}"}
        media_type = getattr(body, "media_type", "application/json")
        operation["requestBody"] = {"required": True, "content": {media_type: {"schema": schema}}}
    if "{" in path:
        name = path.split("{")[1].split("}")[0]
        operation["parameters"] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}}]
    return operation
