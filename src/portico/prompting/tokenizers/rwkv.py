"""RWKV's "World" tokenizer: at every place the longest token that fits, over bytes.

A vocabulary file has a token a line: its id, the token as a Python literal (text or bytes), its length in bytes. Id 0
is the end of text and has no line. There is no library to ask; the algorithm is a dictionary look-up per length,
longest first, with the lengths known for each first two bytes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from portico.prompting.tokenizers.base import ChatTemplates, SpecialTokens, Tokenizer, TokenizerError
from portico.prompting.tokenizers.byte_table import ByteTable
from portico.prompting.tokenizers.companions import read_companions
from portico.prompting.tokenizers.special_split import SpecialSplitter

__all__ = ["RwkvTokenizer", "load_rwkv", "unescape"]

END_OF_TEXT = "<|endoftext|>"


class RwkvTokenizer(Tokenizer):
    """``pieces`` maps id to bytes; ``control`` are special tokens, text to id, that no bytes stand for."""

    def __init__(
        self,
        pieces: Mapping[int, bytes],
        *,
        control: Mapping[str, int],
        kind: str,
        special: SpecialTokens,
        chat_template: ChatTemplates = None,
    ) -> None:
        size = max((*pieces, *control.values()), default=-1) + 1
        table = [b""] * size
        for token_id, piece in pieces.items():
            table[token_id] = piece
        for text, token_id in control.items():
            table[token_id] = text.encode()
        super().__init__(
            kind=kind,
            vocab_size=size,
            table=ByteTable(table),
            special_ids=frozenset(control.values()),
            added_tokens=dict(control),
            special=special,
            chat_template=chat_template,
        )
        self._ids = {piece: token_id for token_id, piece in pieces.items() if piece}
        lengths: dict[bytes, set[int]] = {}
        for piece in self._ids:
            lengths.setdefault(piece[:2], set()).add(len(piece))
        self._lengths = {
            start: sorted(sizes | lengths.get(start[:1], set()), reverse=True) for start, sizes in lengths.items()
        }
        self._control = {token_id: text for text, token_id in control.items()}
        self._cuts = SpecialSplitter(control)

    def _encode(self, text: str, parse_special: bool) -> list[int]:
        ids: list[int] = []
        for part in self._cuts.split(text) if parse_special else (text,):
            if isinstance(part, int):
                ids.append(part)
            else:
                self._match(part.encode("utf-8", "replace"), ids)
        return ids

    def _match(self, data: bytes, ids: list[int]) -> None:
        known, lengths, at = self._ids, self._lengths, 0
        while at < len(data):
            for length in lengths.get(data[at : at + 2]) or lengths.get(data[at : at + 1]) or ():
                token_id = known.get(data[at : at + length])
                if token_id is not None:
                    ids.append(token_id)
                    at += length
                    break
            else:  # no token for this byte: a vocabulary made by hand
                at += 1

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        assert self.table is not None
        return self.table.text(ids, self.special_ids if skip_special_tokens else ())

    def id_to_token(self, token_id: int) -> str | None:
        if token_id in self._control:
            return self._control[token_id]
        piece = self.token_bytes(token_id)
        return piece.decode("utf-8", "backslashreplace") if piece else None

    def token_to_id(self, token: str) -> int | None:
        found = self.added_tokens.get(token)
        if found is None:
            found = self._ids.get(token.encode("utf-8", "replace"))
        return found


def load_rwkv(path: Path) -> RwkvTokenizer:
    """The vocabulary file at ``path``. Raises ``TokenizerError`` naming the line at fault."""
    pieces: dict[int, bytes] = {}
    # Only line feeds end a line: tokens may hold other line separators.
    for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            first, last = line.index(" "), line.rindex(" ")
            value = ast.literal_eval(line[first:last].strip())
            piece = value.encode() if isinstance(value, str) else bytes(value)
            if len(piece) != int(line[last:]):
                raise ValueError("the token is not as long as the line says")
            pieces[int(line[:first])] = piece
        except (ValueError, SyntaxError, TypeError) as error:
            raise TokenizerError(f"{path.name}, line {number}: not an RWKV vocabulary: {error}") from error
    companions = read_companions(path.parent)
    special = SpecialTokens(
        roles={"eos_token": END_OF_TEXT, **companions.roles}, eos_token_id=0, eos_token_ids=companions.eos_ids | {0}
    )
    return RwkvTokenizer(
        pieces, control={END_OF_TEXT: 0}, kind="rwkv", special=special, chat_template=companions.chat_template
    )


_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPED = {b"t": b"\t", b"n": b"\n", b"r": b"\r"}


def unescape(token: str) -> bytes:
    """The bytes of a token as GGUF files spell it: ``\\t``, ``\\n``, ``\\r``, ``\\xHH``; else the escaped character."""

    def byte(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code[1:], 16)]) if len(code) == 3 else _ESCAPED.get(code, code)

    return _ESCAPE.sub(byte, token.encode("utf-8", "surrogateescape"))
