"""How tokens become bytes: a tokenizer's decoder description turned into a table.

A tokenizer says how its tokens are put together again (a "decoder": ByteLevel, ByteFallback, Metaspace, WordPiece, …).
For nearly all of them that is concatenation in disguise: every token stands for fixed bytes, except that the first
token of a text may lose its leading space. This module reads the description and writes down those bytes, once per
tokenizer; from then on detokenizing is looking things up. Descriptions follow Hugging Face's ``tokenizer.json``, field
``decoder``; for what the steps do, the reference is the ``tokenizers`` library.

A description that is not concatenation (it strips the end of the text, joins with look-ahead, drops repeats) has no
table: ``table_from_decoder`` returns None, and decoding falls back to the reference decoder itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BYTE_LEVEL_ALPHABET", "ByteTable", "byte_of_fallback_token", "table_from_decoder"]


@dataclass(frozen=True, eq=False)
class ByteTable:
    """What each token id adds to the text, in bytes.

    ``pieces[id]`` are the bytes of the token inside a text (``b""`` for an id without a token). ``openings`` holds the
    ids that give other bytes where the text begins; it applies up to and including the first token shown whose
    ``pieces`` bytes are not empty, or, with ``opening_repeats``, until some byte has been given.

    ``each_byte`` tells what bytes that are not UTF-8 become: U+FFFD for every byte (byte-fallback vocabularies), or one
    for each longest broken sequence (byte-level vocabularies; Unicode's recommended practice, section 3.9 of the
    standard). With ``special_breaks`` a special token that is left out still cuts a character whose bytes stand on both
    sides of it; without, the bytes join.
    """

    pieces: Sequence[bytes]
    openings: Mapping[int, bytes] = field(default_factory=dict)
    opening_repeats: bool = False
    each_byte: bool = False
    special_breaks: bool = False

    def text(self, ids: Iterable[int], hidden: Collection[int] = ()) -> str:
        """The decode of a whole sequence: ``ids`` less ``hidden``; ids without a token are passed over."""
        runs: list[bytearray] = [bytearray()]
        opening = bool(self.openings)
        for token_id in ids:
            if token_id in hidden:
                if self.special_breaks:
                    runs.append(bytearray())
                continue
            piece = given = self.pieces[token_id] if 0 <= token_id < len(self.pieces) else b""
            if opening:
                given = self.openings.get(token_id, piece)
                opening = not (given if self.opening_repeats else piece)
            runs[-1] += given
        if self.each_byte:  # a surrogate escape stands for exactly one byte
            return "".join(_ESCAPED.sub("\ufffd", run.decode("utf-8", "surrogateescape")) for run in runs)
        return "".join(run.decode("utf-8", "replace") for run in runs)


_ESCAPED = re.compile("[\udc80-\udcff]")


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for every byte: itself if it is a visible Latin-1 character, else 256 and up."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    alphabet = {chr(byte): byte for byte in visible}
    alphabet.update({chr(256 + i): byte for i, byte in enumerate(hidden)})
    return alphabet


BYTE_LEVEL_ALPHABET: Mapping[str, int] = _byte_level_alphabet()
"""Character -> byte, as byte-level vocabularies spell bytes."""

_SEPARATOR, _FOREIGN = "\U0010fffe", "\U0010ffff"  # noncharacters: in no vocabulary
_TO_LATIN1: dict[int, int | str | None] = {
    **dict.fromkeys(range(256), _FOREIGN),  # a Latin-1 character outside the alphabet spells no byte
    **{ord(character): byte for character, byte in BYTE_LEVEL_ALPHABET.items()},
}


def byte_level_bytes(tokens: Sequence[str]) -> list[bytes]:
    """The bytes that byte-level ``tokens`` spell. A token with any character outside the alphabet stands for itself."""
    spelled = _SEPARATOR.join(tokens).translate(_TO_LATIN1).split(_SEPARATOR)
    out: list[bytes] = []
    for token, latin in zip(tokens, spelled, strict=True):
        try:
            out.append(latin.encode("latin-1"))
        except UnicodeEncodeError:
            out.append(_utf8(token))
    return out


def byte_of_fallback_token(token: str) -> bytes | None:
    """The byte that a byte-fallback token such as ``<0x0A>`` stands for, None for any other token."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return bytes([int(token[3:5], 16)])
        except ValueError:
            return None
    return None


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


# -- reading a description --------------------------------------------------------------------------------------------


def table_from_decoder(decoder: Mapping[str, Any] | None, tokens: Mapping[int, str]) -> ByteTable | None:
    """The byte table that ``decoder`` describes for ``tokens`` (id -> token), or None where it is not concatenation.

    ``decoder`` is the ``decoder`` object of a ``tokenizer.json``; None (the file has none) joins tokens with spaces.
    """
    steps = list(_flatten(decoder)) if decoder is not None else [{"type": "Join"}]
    size = max(tokens, default=-1) + 1
    if [step["type"] for step in steps] in (["ByteLevel"], ["ByteLevel", "Fuse"]):
        pieces = [b""] * size
        for token_id, piece in zip(tokens, byte_level_bytes(list(tokens.values())), strict=True):
            pieces[token_id] = piece
        return ByteTable(pieces)
    rules = _read(steps)
    return rules.apply(tokens, size) if rules is not None else None


def _flatten(decoder: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    if decoder["type"] == "Sequence":
        for inner in decoder["decoders"]:
            yield from _flatten(inner)
    else:
        yield decoder


_Rewrite = Callable[[str], str]


@dataclass
class _Rules:
    """Decoder steps as rewrites of single tokens: ``inside`` the text, and at its ``opening`` where that differs."""

    inside: list[_Rewrite] = field(default_factory=list)
    opening: list[_Rewrite] | None = None
    byte_fallback: bool = False
    opening_strip: str = ""  # one leading character that the whole text loses
    fused: bool = False

    def add(self, inside: _Rewrite, opening: _Rewrite | None = None) -> None:
        if opening is not None and self.opening is None:
            self.opening = list(self.inside)
        if self.opening is not None:
            self.opening.append(opening or inside)
        self.inside.append(inside)

    def apply(self, tokens: Mapping[int, str], size: int) -> ByteTable:
        pieces = [b""] * size
        openings: dict[int, bytes] = {}
        strip = self.opening_strip.encode()
        for token_id, token in tokens.items():
            byte = byte_of_fallback_token(token) if self.byte_fallback else None
            piece = opening = byte or _utf8(_rewritten(token, self.inside))
            if byte is None and self.opening is not None:
                opening = _utf8(_rewritten(token, self.opening))
            if strip:
                opening = opening.removeprefix(strip)
            pieces[token_id] = piece
            if opening != piece:
                openings[token_id] = opening
        return ByteTable(pieces, openings, each_byte=self.byte_fallback)


def _rewritten(token: str, rewrites: Iterable[_Rewrite]) -> str:
    for rewrite in rewrites:
        token = rewrite(token)
    return token


def _read(steps: Sequence[Mapping[str, Any]]) -> _Rules | None:
    """``steps`` as rules, or None where some step needs more than one token at a time."""
    rules = _Rules()
    for step in steps:
        kind = step["type"]
        if kind == "ByteFallback" and not rules.fused:
            rules.byte_fallback = True
        elif kind == "Fuse":
            rules.fused = True
        elif kind == "Strip" and rules.fused:
            # What the whole text loses at its start; at its end, or by more than one character, no single token knows.
            if step["stop"] or step["start"] > 1 or rules.opening_strip:
                return None
            rules.opening_strip = step["content"] if step["start"] else ""
        elif rules.fused or rules.byte_fallback:
            return None  # a rewrite that could also meet characters put together from byte tokens
        elif kind == "Replace" and "String" in step["pattern"]:
            rules.add(_replace(step["pattern"]["String"], step["content"]))
        elif kind == "Strip":
            rules.add(_strip(step["content"], step["start"], step["stop"]))
        elif kind == "Metaspace":
            spaced, dropped = _replace(step["replacement"], " "), _replace(step["replacement"], "")
            rules.add(spaced, dropped if step.get("prepend_scheme", "always") != "never" else None)
        elif kind == "WordPiece":
            rules.add(*_word_piece(step["prefix"], step["cleanup"]))
        elif kind == "Join":
            rules.add(lambda token: " " + token, lambda token: token)
        else:
            return None
    return rules


def _replace(old: str, new: str) -> _Rewrite:
    return lambda token: token.replace(old, new)


def _strip(character: str, start: int, stop: int) -> _Rewrite:
    """At most ``start`` leading and ``stop`` trailing ``character`` of a token go."""

    def strip(token: str) -> str:
        head = min(start, len(token) - len(token.lstrip(character)))
        tail = min(stop, len(token) - len(token.rstrip(character)))
        return token[head : max(head, len(token) - tail)]

    return strip


_TIDIED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


def _word_piece(prefix: str, cleanup: bool) -> tuple[_Rewrite, _Rewrite]:
    """WordPiece: words are set apart by spaces, their continuations carry ``prefix``; ``cleanup`` tidies English."""

    def tidy(text: str) -> str:
        if cleanup:
            for old, new in _TIDIED:
                text = text.replace(old, new)
        return text

    def inside(token: str) -> str:
        return tidy(token.removeprefix(prefix) if token.startswith(prefix) else " " + token)

    return inside, tidy
