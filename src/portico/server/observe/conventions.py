"""What OpenTelemetry's conventions want told of a request: HTTP servers', and GenAI clients' (in development there).

Names as in the package opentelemetry-semantic-conventions 0.66.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico.server.http.exchange import Exchange

__all__ = ["OPERATIONS", "EngineWork", "generation_attributes", "server_attributes"]

OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "chat",
    "/v1/decisions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/score": "embeddings",
    "/v1/rerank": "embeddings",
}
ID_PREFIXES = {"/v1/chat/completions": "chatcmpl-", "/v1/completions": "cmpl-"}


@dataclass
class EngineWork:
    """What the engine did for a request, all choices together."""

    asked: float = 0.0
    first: float = 0.0  # output; 0: none has come
    last: float = 0.0
    finishes: dict[int, str] = field(default_factory=dict)  # choice -> reason
    losses: int = 0  # choices whose engine died under them, each time


def server_attributes(exchange: Exchange) -> Mapping[str, Any]:
    """What the HTTP conventions tell of a request at its beginning."""
    scope = exchange.scope
    found: dict[str, Any] = {
        "http.request.method": exchange.method,
        "url.path": exchange.path,
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version", "1.1"),
    }
    if scope.get("server"):
        found["server.address"], found["server.port"] = scope["server"][:2]
    if exchange.address is not None:
        found["client.address"] = exchange.address
    if agent := exchange.header(b"user-agent"):
        found["user_agent.original"] = agent
    return found


def generation_attributes(exchange: Exchange, engine: EngineWork, streamed: bool) -> Mapping[str, Any]:
    """What the GenAI conventions tell of a generation."""
    spec = exchange.generations[0].spec
    sampling = spec.sampling
    usages = [generation.usage for generation in (*exchange.generations, *exchange.further)]
    cached = [usage.cached_tokens for usage in usages if usage.cached_tokens is not None]
    choices = sum(generation.spec.n for generation in exchange.generations)
    found: dict[str, Any] = {
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.temperature": float(sampling.temperature),
        "gen_ai.request.top_p": float(sampling.top_p),
        "gen_ai.request.frequency_penalty": float(sampling.frequency_penalty),
        "gen_ai.request.presence_penalty": float(sampling.presence_penalty),
        "gen_ai.request.stream": streamed,
        "gen_ai.response.id": ID_PREFIXES.get(exchange.route, "") + _response_id(exchange),
        "gen_ai.response.finish_reasons": [reason for _, reason in sorted(engine.finishes.items())],
        "gen_ai.usage.input_tokens": sum(usage.prompt_tokens for usage in usages),
        "gen_ai.usage.output_tokens": sum(usage.completion_tokens for usage in usages),
    }
    if exchange.model is not None:
        found["gen_ai.response.model"] = exchange.model.name
    if choices != 1:
        found["gen_ai.request.choice.count"] = choices
    if sampling.top_k:
        found["gen_ai.request.top_k"] = float(sampling.top_k)
    if sampling.seed is not None:
        found["gen_ai.request.seed"] = sampling.seed
    if cached:
        found["gen_ai.usage.cache_read.input_tokens"] = sum(cached)
    if spec.reasoning_parser is not None:
        found["gen_ai.usage.reasoning.output_tokens"] = sum(usage.reasoning_tokens for usage in usages)
    if engine.losses:
        found["portico.engine_losses"] = engine.losses
    if engine.first:
        found["gen_ai.response.time_to_first_chunk"] = engine.first - engine.asked
    return found


def _response_id(exchange: Exchange) -> str:
    """The answer's id as the client got it, less its prefix: of several prompts each has its number behind it."""
    id = exchange.generations[0].spec.request_id
    return id if len(exchange.generations) == 1 else id.rsplit("-", 1)[0]
