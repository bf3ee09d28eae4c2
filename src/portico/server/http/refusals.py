"""In whose shape a refusal is told: OpenAI's, or Anthropic's to the clients of that API."""

from __future__ import annotations

from collections.abc import Container

from portico.errors import PorticoError
from portico.protocols.anthropic import errors as anthropic_errors
from portico.protocols.anthropic.ids import request_id
from portico.protocols.openai import errors as openai_errors

__all__ = ["refusal", "speaks_anthropic"]


def speaks_anthropic(path: str, headers: Container[bytes]) -> bool:
    """Whether the client reads Anthropic's shapes: its own paths, and the header that its SDKs send on every path."""
    return path.startswith("/v1/messages") or b"anthropic-version" in headers


def refusal(error: PorticoError, id: str, *, anthropic: bool) -> tuple[int, bytes]:
    """HTTP status and body of ``error`` for the request of that id."""
    if anthropic:
        return anthropic_errors.status(error), anthropic_errors.body(error, request_id(id))
    return error.status, openai_errors.body(error)
