"""The part of a vocabulary that a trace needs, and a tokenizer made of that part.

Who gets a trace may not have the model. The bytes of the tokens that occur in it, with what the decoder must know of
them, are a few kilobytes, and enough to run everything behind the engine again.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from portico.errors import PorticoError
from portico.prompting import Tokenizer
from portico.prompting.tokenizers.base import SpecialTokens
from portico.prompting.tokenizers.byte_table import ByteTable
from portico.trace.artifacts import Artifact

__all__ = ["RecordedTokenizer", "UnrecordedError", "occurring", "vocabulary"]

MOST_ADDED = 2_000  # added tokens that are recorded whether they occur or not


class UnrecordedError(PorticoError):
    """``text`` would have to be tokenized, and the trace does not say how."""

    def __init__(self, text: str) -> None:
        super().__init__("A text has to be tokenized that is not in the trace.", code="unrecorded")
        self.text = text


def occurring(artifacts: Iterable[Artifact]) -> set[int]:
    """The ids of all tokens that the trace speaks of: prompts, steps, their alternatives, what ended them."""
    found: set[int] = set()
    for artifact in artifacts:
        found.update(artifact.data.get("ids", ()))
        for name in ("logprobs", "prompt_logprobs"):
            for entry in artifact.data.get(name, ()):
                if entry is not None:
                    found.add(entry[0])
                    found.update(token for token, _ in entry[2])
        if (stop := artifact.data.get("stop_token")) is not None:
            found.add(stop)
    return found


def vocabulary(tokenizer: Tokenizer, ids: Iterable[int]) -> dict[str, Any] | None:
    """What ``RecordedTokenizer`` takes, of the tokens ``ids`` and of those that the vocabulary adds to itself.

    None where the tokenizer's decoder is more than a table of bytes.
    """
    table = tokenizer.table
    if table is None:
        return None
    wanted = set(ids) | set(tokenizer.special_ids)
    if len(tokenizer.added_tokens) <= MOST_ADDED:
        wanted.update(tokenizer.added_tokens.values())
    special = tokenizer.special
    return {
        "kind": tokenizer.kind,
        "size": tokenizer.vocab_size,
        "tokens": [_token(token, tokenizer, table) for token in sorted(wanted)],
        "added": {text: token for text, token in tokenizer.added_tokens.items() if token in wanted},
        "special": sorted(tokenizer.special_ids),
        "roles": dict(special.roles),
        "bos": special.bos_token_id,
        "eos": special.eos_token_id,
        "ends": sorted(special.eos_token_ids),
        "opening_repeats": table.opening_repeats,
        "each_byte": table.each_byte,
        "special_breaks": table.special_breaks,
    }


def _token(token: int, tokenizer: Tokenizer, table: ByteTable) -> list[Any]:
    """Its id, its bytes in base64, its spelling, and where they differ its bytes at the beginning of a text."""
    row: list[Any] = [token, _encoded(tokenizer.token_bytes(token)), tokenizer.id_to_token(token)]
    return [*row, _encoded(table.openings[token])] if token in table.openings else row


class RecordedTokenizer(Tokenizer):
    """A tokenizer out of a trace. It knows the tokens of that trace and cannot write others."""

    def __init__(self, recorded: Mapping[str, Any]) -> None:
        size = recorded["size"]
        pieces = [b""] * size
        openings: dict[int, bytes] = {}
        self._spellings: dict[int, str] = {}
        for token, piece, spelling, *opening in recorded["tokens"]:
            if token < size:
                pieces[token] = base64.b64decode(piece)
            if spelling is not None:
                self._spellings[token] = spelling
            if opening:
                openings[token] = base64.b64decode(opening[0])
        self._ids = {spelling: token for token, spelling in self._spellings.items()}
        table = ByteTable(
            pieces,
            openings,
            opening_repeats=recorded["opening_repeats"],
            each_byte=recorded["each_byte"],
            special_breaks=recorded["special_breaks"],
        )
        super().__init__(
            kind=recorded["kind"],
            vocab_size=size,
            table=table,
            special_ids=frozenset(recorded["special"]),
            added_tokens=dict(recorded["added"]),
            special=SpecialTokens(
                roles=dict(recorded["roles"]),
                bos_token_id=recorded["bos"],
                eos_token_id=recorded["eos"],
                eos_token_ids=frozenset(recorded["ends"]),
            ),
        )

    def _encode(self, text: str, parse_special: bool) -> list[int]:
        if text in self.added_tokens:
            return [self.added_tokens[text]]
        raise UnrecordedError(text)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ``ids``; those that are not in the trace are passed over."""
        assert self.table is not None
        return self.table.text(ids, self.special_ids if skip_special_tokens else ())

    def id_to_token(self, token_id: int) -> str | None:
        """The token as the vocabulary spells it, None for one that is not in the trace."""
        return self._spellings.get(token_id)

    def token_to_id(self, token: str) -> int | None:
        """The id of a token, None for one that is not in the trace."""
        return self._ids.get(token)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
