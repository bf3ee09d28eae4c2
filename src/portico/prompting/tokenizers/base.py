"""The one interface behind which every tokenizer stands.

A tokenizer here is immutable once loaded and safe to use from many threads. It knows four things: text to ids, ids to
text (the reference decode, whole sequences), what every token is in bytes, and which tokens are special and why.
Streaming is not its business: ``portico.decoding`` reads the byte table and does that.
"""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from portico.errors import PorticoError
from portico.prompting.tokenizers.byte_table import ByteTable
from portico.prompting.tokenizers.parts import in_parts

__all__ = ["ANY_LENGTH", "MARKUP", "ChatTemplates", "SpecialTokens", "Tokenizer", "TokenizerError", "unspellable"]

ChatTemplates: TypeAlias = str | dict[str, str] | None
"""Template source, or named sources (``default``, ``tool_use``, …) where the model has several."""


ANY_LENGTH = 64  # times; for what drops or merges characters it does not know, in theory without end
MARKUP = re.compile(r"[<\[{(|｜◁【「⟨].+[>\]})|｜▷】」⟩]", re.DOTALL)
_LONE_SURROGATES = re.compile("[\ud800-\udfff]+")


def unspellable() -> Iterator[str]:
    """Names for tokens that nobody can spell: of private-use characters, and different in each process."""
    secret = "".join(chr(0xF0000 + secrets.randbelow(0xFFFE)) for _ in range(4))
    return (secret + chr(0x100000 + i) for i in range(0xFFFE))


class TokenizerError(PorticoError):
    """No tokenizer can be made from the given file or directory; the message says what is wrong and what would do."""

    code = "unknown_tokenizer"


@dataclass(frozen=True)
class SpecialTokens:
    """The roles that special tokens play.

    ``roles`` maps a role as templates name it (``bos_token``, ``eos_token``, ``unk_token``, …) to the token's text.
    ``eos_token_ids`` are all ids that end a generation, ``prefix_ids`` and ``suffix_ids`` what the model expects around
    a text (``add_special_tokens``).
    """

    roles: Mapping[str, str] = field(default_factory=dict)
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    eos_token_ids: frozenset[int] = frozenset()
    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()


class Tokenizer(ABC):
    """Text to token ids and back, with everything else a prompt or a stream needs to know about the vocabulary.

    ``kind`` says where it came from (``huggingface``, ``gguf``, ``sentencepiece``, ``tiktoken``, ``tekken``, ``rwkv``).
    ``table`` gives the bytes of every token, or is None where the decoder is not concatenation. ``special_ids`` are the
    ids that ``skip_special_tokens`` hides; ``added_tokens`` (text -> id) are all tokens matched in text before the
    algorithm proper runs, special or not. ``vocab_size`` is one more than the largest id.
    """

    def __init__(
        self,
        *,
        kind: str,
        vocab_size: int,
        table: ByteTable | None,
        special_ids: frozenset[int],
        added_tokens: Mapping[str, int],
        special: SpecialTokens,
        chat_template: ChatTemplates = None,
    ) -> None:
        self.kind = kind
        self.vocab_size = vocab_size
        self.table = table
        self.special_ids = special_ids
        self.added_tokens = added_tokens
        self.special = special
        self.chat_template = chat_template

    # -- text and ids -------------------------------------------------------------------------------------------------

    def encode(self, text: str, *, add_special_tokens: bool = False, parse_special: bool = True) -> list[int]:
        """The token ids of ``text``.

        ``add_special_tokens`` puts around it what the model expects there (BOS, EOS, [CLS] …). With ``parse_special``
        off, the text of a special token in ``text`` is plain text: what untrusted text needs. Lone surrogates, which
        JSON can smuggle into a string, are U+FFFD.
        """
        if not text.isascii():
            text = _LONE_SURROGATES.sub("\ufffd", text)
        ids = in_parts(text, lambda part: self._encode(part, parse_special))
        if add_special_tokens:
            return [*self.special.prefix_ids, *ids, *self.special.suffix_ids]
        return ids

    def encode_pieces(self, pieces: Sequence[str | int], *, add_special_tokens: bool = False) -> list[int]:
        """The token ids of a text in pieces: ids out of ``structure``, and texts that are text whatever they spell."""
        clean = [_LONE_SURROGATES.sub("\ufffd", piece) if isinstance(piece, str) else piece for piece in pieces]
        ids = self._encode_pieces(clean)
        if add_special_tokens:
            return [*self.special.prefix_ids, *ids, *self.special.suffix_ids]
        return ids

    @abstractmethod
    def _encode(self, text: str, parse_special: bool) -> list[int]: ...

    def _encode_pieces(self, pieces: Sequence[str | int]) -> list[int]:
        """For tokenizers to which the text after a control token is a new text."""
        ids: list[int] = []
        for piece in pieces:
            ids += [piece] if isinstance(piece, int) else in_parts(piece, lambda part: self._encode(part, False))
        return ids

    @property
    def structure(self) -> dict[str, int]:
        """Text -> id of what is found in text before the algorithm proper runs and may mean something to a model: all
        that is marked special or looks like markup. White space and words that were merely added are text."""
        return {
            text: token_id
            for text, token_id in self.added_tokens.items()
            if text.strip() and (token_id in self.special_ids or MARKUP.fullmatch(text))
        }

    @cached_property
    def bytes_per_token(self) -> int:
        """No text of more bytes than this times n can have n tokens or less."""
        longest = max(map(len, self.table.pieces), default=1) if self.table is not None else 1
        return max(longest, 1) * self._shrinks()

    def _shrinks(self) -> int:
        """By how much a text may become shorter before the algorithm proper sees it."""
        return 1 if self.table is not None else ANY_LENGTH

    @property
    def folds(self) -> bool:
        """Whether texts that are not spelled like a token of ``structure`` may be normalised to one."""
        return False

    @abstractmethod
    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The reference decode of a whole sequence; ids without a token are passed over."""

    def prepare(self) -> None:  # noqa: B027 (most have nothing to prepare)
        """Make now, in this thread, what some text would otherwise have to wait for."""

    def warm(self) -> None:
        """Also make what is otherwise made beside the first texts, because it takes memory that nobody may need."""
        self.prepare()

    def to_json(self) -> str | None:
        """The whole tokenizer as a ``tokenizer.json``, None where it has no such form."""
        return None

    # -- single tokens ------------------------------------------------------------------------------------------------

    @abstractmethod
    def id_to_token(self, token_id: int) -> str | None:
        """The token as the vocabulary spells it (``Ġthe``, ``▁the``, ``<0x0A>``), None for an id without a token."""

    @abstractmethod
    def token_to_id(self, token: str) -> int | None:
        """The id of a token as the vocabulary spells it, None where there is no such token."""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes the token stands for inside a text, also if they are part of a character only."""
        if self.table is not None:
            pieces = self.table.pieces
            return pieces[token_id] if 0 <= token_id < len(pieces) else b""
        return self.decode([token_id], skip_special_tokens=False).encode()

    # -- roles --------------------------------------------------------------------------------------------------------

    @property
    def special_tokens(self) -> dict[str, str]:
        """Role -> text, as chat templates want them: ``{"bos_token": "<s>", …}``."""
        return dict(self.special.roles)

    @property
    def bos_token(self) -> str | None:
        return self.special.roles.get("bos_token")

    @property
    def eos_token(self) -> str | None:
        return self.special.roles.get("eos_token")

    @property
    def bos_token_id(self) -> int | None:
        return self.special.bos_token_id

    @property
    def eos_token_id(self) -> int | None:
        return self.special.eos_token_id

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """All ids that end a generation; the engine may know of more."""
        return self.special.eos_token_ids

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind}, {self.vocab_size} tokens>"

    def _without(self, ids: Iterable[int], hidden: frozenset[int]) -> list[int]:
        """``ids`` that have a token, less ``hidden``."""
        size = self.vocab_size
        return [i for i in ids if 0 <= i < size and i not in hidden]
