"""Log-probabilities in OpenAI's two shapes.

``bytes`` are the token's real bytes, also where they are part of a character only; concatenated they are the answer's
text. The ``token`` of such a piece shows U+FFFD. JSON has no infinity: a logprob of minus infinity is written -9999.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from portico.events import TokenLogprob

__all__ = ["CompletionLogprobs", "TokenBytes", "chat_logprobs"]

LOWEST = -9999.0


class TokenBytes(Protocol):
    """What is needed of a tokenizer here."""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that the token stands for."""
        ...


def chat_logprobs(
    entries: Sequence[TokenLogprob], tokenizer: TokenBytes, *, as_ids: bool = False
) -> list[dict[str, Any]]:
    """``ChatCompletionTokenLogprob``s; with ``as_ids`` tokens are written ``token_id:N`` (vLLM's option)."""
    return [
        {
            **_token(entry.token_id, entry.logprob, tokenizer, as_ids),
            "top_logprobs": [_token(token, logprob, tokenizer, as_ids) for token, logprob in entry.top],
        }
        for entry in entries
    ]


def _token(token: int, logprob: float, tokenizer: TokenBytes, as_ids: bool) -> dict[str, Any]:
    raw = tokenizer.token_bytes(token)
    return {
        "token": f"token_id:{token}" if as_ids else raw.decode("utf-8", "replace"),
        "logprob": max(logprob, LOWEST),
        "bytes": list(raw),
    }


class CompletionLogprobs:
    """The older shape, of one choice while it grows: four parallel lists.

    ``text_offset`` counts characters from the beginning of the choice's text (the echoed prompt included).
    """

    def __init__(self, tokenizer: TokenBytes, *, as_ids: bool = False) -> None:
        self._tokenizer = tokenizer
        self._as_ids = as_ids
        self._bytes = b""  # of a character that is not whole yet
        self._offset = 0

    def feed(self, entries: Sequence[TokenLogprob]) -> dict[str, list[Any]]:
        """The lists for the next tokens."""
        return self._lists([entry.token_id for entry in entries], entries)

    def prompt(self, token_ids: Sequence[int], entries: Sequence[TokenLogprob | None]) -> dict[str, list[Any]]:
        """The lists for an echoed prompt, whose first token has no logprob."""
        return self._lists(token_ids, entries)

    def _lists(self, token_ids: Sequence[int], entries: Sequence[TokenLogprob | None]) -> dict[str, list[Any]]:
        lists: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token, entry in zip(token_ids, entries, strict=True):
            lists["tokens"].append(self._name(token))
            lists["token_logprobs"].append(None if entry is None else max(entry.logprob, LOWEST))
            lists["top_logprobs"].append(
                None if entry is None else {self._name(other): max(value, LOWEST) for other, value in entry.top}
            )
            lists["text_offset"].append(self._offset)
            self._advance(self._tokenizer.token_bytes(token))
        return lists

    def _name(self, token: int) -> str:
        if self._as_ids:
            return f"token_id:{token}"
        return self._tokenizer.token_bytes(token).decode("utf-8", "replace")

    def _advance(self, piece: bytes) -> None:
        """Count the characters that are whole by now; a piece of one counts when it is completed."""
        whole = self._bytes + piece
        text = whole.decode("utf-8", "ignore")
        used = len(text.encode("utf-8"))
        self._offset += len(text)
        self._bytes = whole[used:][-3:] if used < len(whole) else b""
