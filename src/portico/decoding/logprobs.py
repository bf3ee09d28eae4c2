"""Log-probabilities in OpenAI's two shapes, and those of prompts in vLLM's.

``bytes`` are the token's real bytes, also where they are a part of a character only; joined they are the answer's text.
The text of such a token is its bytes spelled out, ``\\xf0\\x9f`` (in the older shape ``bytes:\\xf0\\x9f``), as OpenAI
spells it: two of them never look alike, and nothing broken reaches the wire. JSON has no infinity: a logprob of minus
infinity is written -9999.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portico.decoding.detokenizer import Detokenizer
from portico.decoding.vocabulary import Vocabulary
from portico.events import TokenLogprob

__all__ = ["CompletionLogprobs", "chat_logprobs", "prompt_logprobs"]

LOWEST = -9999.0


def chat_logprobs(
    entries: Sequence[TokenLogprob], tokenizer: Vocabulary, *, as_ids: bool = False
) -> list[dict[str, Any]]:
    """``ChatCompletionTokenLogprob``s; with ``as_ids`` tokens are written ``token_id:N`` (vLLM's option)."""
    return [
        {
            **_token(entry.token_id, entry.logprob, tokenizer, as_ids),
            "top_logprobs": [_token(token, logprob, tokenizer, as_ids) for token, logprob in entry.top],
        }
        for entry in entries
    ]


def prompt_logprobs(
    entries: Sequence[TokenLogprob | None], tokenizer: Vocabulary, *, as_ids: bool = False
) -> list[dict[str, dict[str, Any]] | None]:
    """vLLM's ``prompt_logprobs``: per prompt token its own logprob and the likeliest ones', by token id as text.

    ``rank`` counts from 1, the likeliest; it is left out for a token that is not among those asked for.
    """
    return [None if entry is None else _ranked(entry, tokenizer, as_ids) for entry in entries]


def _ranked(entry: TokenLogprob, tokenizer: Vocabulary, as_ids: bool) -> dict[str, dict[str, Any]]:
    own = {"logprob": _finite(entry.logprob), "decoded_token": _name(entry.token_id, tokenizer, as_ids)}
    found: dict[str, dict[str, Any]] = {str(entry.token_id): own}
    for rank, (token, logprob) in enumerate(entry.top, 1):
        name = _name(token, tokenizer, as_ids)
        found[str(token)] = {"logprob": _finite(logprob), "rank": rank, "decoded_token": name}
    return found


def _name(token: int, tokenizer: Vocabulary, as_ids: bool, prefix: str = "") -> str:
    return f"token_id:{token}" if as_ids else _spelled(tokenizer.token_bytes(token), prefix)


def _token(token: int, logprob: float, tokenizer: Vocabulary, as_ids: bool) -> dict[str, Any]:
    raw = tokenizer.token_bytes(token)
    return {
        "token": _name(token, tokenizer, as_ids),
        "logprob": _finite(logprob),
        "bytes": list(raw),
    }


def _spelled(raw: bytes, prefix: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return prefix + "".join(f"\\x{byte:02x}" for byte in raw)


def _finite(logprob: float) -> float:
    return logprob if logprob > LOWEST else LOWEST  # also for what is not a number


class CompletionLogprobs:
    """The older shape, of one choice while it grows: four parallel lists.

    ``text_offset`` is where in the choice's text (the echoed prompt included) a token begins, in characters; a token
    that continues a character begins where that does. The text is that of a ``Detokenizer`` made with the same
    arguments; give ``prompt_ids`` where the prompt is not echoed.
    """

    def __init__(
        self,
        tokenizer: Vocabulary,
        *,
        as_ids: bool = False,
        skip_special_tokens: bool = True,
        prompt_ids: Sequence[int] = (),
    ) -> None:
        self._tokenizer = tokenizer
        self._as_ids = as_ids
        self._detokenizer = Detokenizer(tokenizer, skip_special_tokens, prompt_ids=prompt_ids)
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
            lists["token_logprobs"].append(None if entry is None else _finite(entry.logprob))
            lists["top_logprobs"].append(None if entry is None else self._likeliest(entry))
            lists["text_offset"].append(self._offset)
            self._offset += len(self._detokenizer.feed((token,)))
        return lists

    def _likeliest(self, entry: TokenLogprob) -> dict[str, float]:
        """The likeliest tokens asked for, and the one that was taken where it is not among them."""
        found = {self._name(token): _finite(logprob) for token, logprob in entry.top}
        found.setdefault(self._name(entry.token_id), _finite(entry.logprob))
        return found

    def _name(self, token: int) -> str:
        return _name(token, self._tokenizer, self._as_ids, "bytes:")
