"""Which API a route belongs to, for the labels of metrics: so that probes and pages can be told from work."""

from __future__ import annotations

from typing import Final

from portico.server.http.auth import PROBES

__all__ = ["api_of"]

_BEGINNINGS: Final = (  # the first that fits
    ("/v1/messages", "anthropic"),
    ("/v1/responses", "responses"),
    ("/v1/conversations", "responses"),
    ("/v1/", "openai"),
    ("/v2/", "openai"),
)
_SERVER: Final = frozenset({"/", "/version", "/metrics", "/openapi.json"})
_BARE: Final = frozenset({"/tokenize", "/detokenize", "/tokenizer_info", "/score", "/rerank", "/infill"})


def api_of(route: str) -> str:
    """openai, anthropic, responses; probe, server (about it), page (for people, with its files), none (no path)."""
    if route in PROBES:
        return "probe"
    if route in _SERVER:
        return "server"
    if route in _BARE:
        return "openai"
    return next((api for begin, api in _BEGINNINGS if route.startswith(begin)), "none" if route == "none" else "page")
