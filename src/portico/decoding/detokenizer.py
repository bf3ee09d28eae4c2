"""Token ids in, text out: as early as it can be known, never a broken character, never taken back.

Strategy: every token stands for fixed bytes (see ``vocabulary``), so a stream of tokens is a stream of bytes, and text
is what an incremental UTF-8 decoder makes of it. Rules:

* At any moment the text given is a prefix of the final text. What is held back is the beginning of a character still
  incomplete: at most 3 bytes.
* ``close()`` gives what is still held: U+FFFD, as the reference decoder writes an incomplete character.
* Where the reference would take text back (a byte-fallback decoder turns a whole run of byte tokens into U+FFFD once
  one of them is bad), the characters already given stay, and bad bytes become U+FFFD.
* A prompt that ends inside a character lends its bytes: a character completed by the answer is given whole, one left
  incomplete is the prompt's own and not given at all.
* The first token of a text may lose its leading space; with a prompt before it, it is not the first.

A vocabulary without a byte table goes through its reference decoder instead (see ``window``), by the same rules.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence

from portico.decoding.vocabulary import View, Vocabulary, view
from portico.decoding.window import WindowDecoder

__all__ = ["Detokenizer"]

_decode = codecs.utf_8_decode  # (bytes, errors, final) -> (text, bytes used); stateless, and in C


class Detokenizer:
    """One stream of tokens becoming text.

    ``visible`` names special tokens (text or id) that show even under ``skip_special_tokens``; ``prompt_ids`` are the
    tokens before the stream (all, or at least the last few): they give no text but set the scene.
    """

    __slots__ = ("_errors", "_opening", "_owed", "_pending", "_pieces", "_view", "_window")

    def __init__(
        self,
        tokenizer: Vocabulary,
        skip_special_tokens: bool = True,
        visible: Collection[str | int] = (),
        prompt_ids: Sequence[int] = (),
    ) -> None:
        self._view: View = view(tokenizer, skip_special_tokens, visible)
        self._pending = b""  # the beginning of a character, at most 3 bytes
        self._owed = 0  # how many U+FFFD that beginning amounts to by itself, where the prompt left it
        self._opening = bool(self._view.openings)
        self._errors = self._view.errors
        self._window: WindowDecoder | None = None
        if self._view.pieces is None:
            self._window = WindowDecoder(tokenizer, self._view.hidden, prompt_ids)
            self._pieces: list[bytes] = []
        else:
            self._pieces = self._view.pieces
            if prompt_ids:
                self._prime(prompt_ids)

    def feed(self, ids: Sequence[int]) -> str:
        """The text that ``ids`` (not negative; ids without a token count as nothing) make known. May be empty."""
        if self._opening or self._owed or self._window is not None:
            return self._feed_with_care(ids)
        try:
            if len(ids) == 1:
                data = self._pieces[ids[0]]
            else:
                pieces = self._pieces
                data = b"".join([pieces[i] for i in ids])
        except IndexError:
            data = self._bytes(ids)
        if self._pending:
            data = self._pending + data
        text, used = _decode(data, self._errors, False)
        self._pending = data[used:]
        return text

    def close(self) -> str:
        """The rest of the text. The stream is over."""
        if self._window is not None:
            return self._window.close()
        text, _ = _decode(self._pending, self._errors, True)
        self._pending = b""
        return self._settle(text)

    @property
    def held(self) -> bytes:
        """The bytes held back: the beginning of a character. Empty where there is no byte table."""
        return self._pending

    # -- the less travelled ways --------------------------------------------------------------------------------------

    def _feed_with_care(self, ids: Sequence[int]) -> str:
        if self._window is not None:
            return self._window.feed(ids)
        data = self._pending + self._bytes(ids)
        text, used = _decode(data, self._errors, False)
        self._pending = data[used:]
        return self._settle(text)

    def _bytes(self, ids: Sequence[int]) -> bytes:
        pieces, size = self._pieces, len(self._pieces)
        start = 0
        data = b""
        while self._opening and start < len(ids):
            token_id = ids[start]
            start += 1
            piece = pieces[token_id] if token_id < size else b""
            if token_id in self._view.hidden:
                data += piece
                continue
            given = self._view.openings.get(token_id, piece)
            self._opening = not (given if self._view.opening_repeats else piece)
            data += given
        return data + b"".join([pieces[i] for i in ids[start:] if i < size])

    def _settle(self, text: str) -> str:
        """``text`` less what the prompt already amounted to, if it begins with that."""
        if text and self._owed:
            text = text.removeprefix("\ufffd" * self._owed)
            self._owed = 0
        return text

    def _prime(self, prompt_ids: Sequence[int]) -> None:
        start = 0
        while self._opening and start < len(prompt_ids):
            self._bytes(prompt_ids[start : start + 1])
            start += 1
        # A character has at most 4 bytes, and only its first is 0xC0 or more: three bytes show whether one is open.
        size = len(self._pieces)
        tail = b""
        for token_id in reversed(prompt_ids):
            tail = (self._pieces[token_id] if token_id < size else b"") + tail
            if len(tail) >= 3:
                break
        tail = tail[-3:]
        lead = next((i for i, byte in enumerate(tail) if byte >= 0xC0), len(tail))
        _, used = _decode(tail[lead:], self._errors, False)
        self._pending = tail[lead + used :]
        self._owed = len(_decode(self._pending, self._errors, True)[0])
