"""SentencePiece models: ``tokenizer.model``, Mistral's ``tokenizer.model.v*``, and vocabularies in GGUF files.

The ``sentencepiece`` library does the work. This module adds what it leaves out: special tokens found in text, and
the byte table. A GGUF file carries the same model taken apart, so it is put together again here (``model_bytes``, a
protocol buffer of a few fields: sentencepiece_model.proto of that project) and takes the same way.

How pieces become text, from the library: a "▁" is a space, ``<0x0A>`` a byte, the unknown piece " ⁇ ", control pieces
nothing; where the model puts a space before every text, the first piece loses it again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from portico.prompting.tokenizers.base import (
    ANY_LENGTH,
    MARKUP,
    ChatTemplates,
    SpecialTokens,
    Tokenizer,
    TokenizerError,
    unspellable,
)
from portico.prompting.tokenizers.byte_table import ByteTable, byte_of_fallback_token
from portico.prompting.tokenizers.companions import read_companions
from portico.prompting.tokenizers.parts import in_parts
from portico.prompting.tokenizers.special_split import SpecialSplitter

try:
    from sentencepiece import SentencePieceProcessor
except ImportError as missing:  # pragma: no cover
    raise TokenizerError("this tokenizer needs the sentencepiece library: pip install sentencepiece") from missing

__all__ = [
    "NORMAL",
    "Options",
    "SentencePieceTokenizer",
    "load_sentencepiece",
    "model_bytes",
    "processor_from",
]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # piece types; GGUF uses the same numbers
UNIGRAM, BPE = 1, 2  # model types
_SPACE = "▁"


@dataclass(frozen=True)
class Options:
    """How text is prepared and put together again: flags of the model's normalizer and trainer.

    With ``control_breaks``, as in the library, a control piece ends a run of byte pieces even where it shows nothing.
    A model with a ``denormalizer``, or whose words end rather than begin with their space, has no byte table.
    """

    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    unknown_surface: str = " \u2047 "
    control_breaks: bool = True
    tabular: bool = True


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model with its special tokens.

    ``cuts`` are the tokens (text -> id) found in text before the model sees it; of those, ``special_ids`` are left as
    text under ``parse_special=False``. Those in ``rstrip`` swallow the white space after them.
    """

    def __init__(
        self,
        processor: SentencePieceProcessor,
        options: Options,
        *,
        kind: str,
        special: SpecialTokens,
        special_ids: frozenset[int],
        cuts: Mapping[str, int],
        rstrip: frozenset[int] = frozenset(),
        chat_template: ChatTemplates = None,
    ) -> None:
        super().__init__(
            kind=kind,
            vocab_size=processor.get_piece_size(),
            table=_table(processor, options) if options.tabular else None,
            special_ids=special_ids,
            added_tokens=dict(cuts),
            special=special,
            chat_template=chat_template,
        )
        self._processor = processor
        self._all_cuts = SpecialSplitter(cuts, rstrip)
        self._plain_cuts = SpecialSplitter({text: i for text, i in cuts.items() if i not in special_ids}, rstrip)
        self._word_cuts = SpecialSplitter({text: i for text, i in cuts.items() if text not in self.structure}, rstrip)
        self._removes = options.remove_extra_whitespaces
        self._cut_ids, self._rstrip = frozenset(cuts.values()), rstrip

    def _encode(self, text: str, parse_special: bool) -> list[int]:
        ids: list[int] = []
        for part in (self._all_cuts if parse_special else self._plain_cuts).split(text):
            if isinstance(part, int):
                ids.append(part)
            else:
                ids += self._processor.encode(part, out_type=int)
        return ids

    def _shrinks(self) -> int:
        bytes_known = any(self._processor.is_byte(list(range(min(self.vocab_size, 1000)))))
        return 3 if self.table is not None and bytes_known and not self._removes else ANY_LENGTH  # 3: NFKC and the like

    @property
    def structure(self) -> dict[str, int]:
        return {**super().structure, **self._defined}

    def warm(self) -> None:
        self._renamed  # noqa: B018  (looking at it makes it)

    def _encode_pieces(self, pieces: Sequence[str | int]) -> list[int]:
        processor, names = self._renamed
        ids: list[int] = []
        text, last = "", None  # what is not encoded yet, and the token before it

        def encode(text: str) -> None:
            for part in self._word_cuts.split(text):
                ids.extend([part] if isinstance(part, int) else in_parts(part, processor.encode))

        for piece in pieces:
            if isinstance(piece, str):
                text += piece.lstrip() if not text and last in self._rstrip else piece
            elif piece in names and piece not in self._cut_ids:  # the library finds it inside a text
                text += names[piece]
            else:
                encode(text)
                ids.append(piece)
                text, last = "", piece
        encode(text)
        return ids

    @cached_property
    def _defined(self) -> dict[str, int]:
        """The user-defined pieces that are structure: the library finds them in any text."""
        spelled = enumerate(_pieces(self._processor.serialized_model_proto()))
        return {text: i for i, (text, kind) in spelled if kind == USER_DEFINED and MARKUP.fullmatch(text)}

    @cached_property
    def _renamed(self) -> tuple[SentencePieceProcessor, dict[int, str]]:
        """The same model with names for those that no text can spell, and the names by id."""
        names = dict(zip(self._defined.values(), unspellable(), strict=False))
        if not names:
            return self._processor, names
        spelled = {text: names[i] for text, i in self._defined.items()}
        return processor_from(_renamed(self._processor.serialized_model_proto(), spelled), self.kind), names

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        if self.table is not None:
            return self.table.text(ids, self.special_ids if skip_special_tokens else ())
        text: str = self._processor.decode([i for i in ids if 0 <= i < self.vocab_size])
        return text

    def id_to_token(self, token_id: int) -> str | None:
        return self._processor.id_to_piece(token_id) if 0 <= token_id < self.vocab_size else None

    def token_to_id(self, token: str) -> int | None:
        token_id: int = self._processor.piece_to_id(token)
        # The library answers with the unknown piece where it knows none.
        return token_id if self.id_to_token(token_id) == token else None


def _table(processor: Any, options: Options) -> ByteTable:
    ids = list(range(processor.get_piece_size()))
    pieces: list[bytes] = []
    openings: dict[int, bytes] = {}
    strips = options.add_dummy_prefix or options.remove_extra_whitespaces
    spelled = zip(ids, processor.id_to_piece(ids), processor.is_byte(ids), processor.is_control(ids), strict=True)
    for token_id, piece, is_byte, is_control in spelled:
        if is_byte:
            pieces.append(byte_of_fallback_token(piece) or b"")
            continue
        pieces.append(piece.replace(_SPACE, " ").encode())
        if strips and piece.startswith(_SPACE) and not is_control:
            openings[token_id] = pieces[-1][1:]
    if (unknown := processor.unk_id()) >= 0:
        pieces[unknown] = options.unknown_surface.encode()
        openings.pop(unknown, None)
    return ByteTable(
        pieces,
        openings,
        opening_repeats=options.remove_extra_whitespaces,
        each_byte=True,
        special_breaks=options.control_breaks,
    )


# -- a model file -----------------------------------------------------------------------------------------------------


def load_sentencepiece(path: Path) -> SentencePieceTokenizer:
    """The SentencePiece model in ``path``; roles and templates from the companion files beside it."""
    data = path.read_bytes()
    processor = processor_from(data, path.name)
    ids = list(range(processor.get_piece_size()))
    pieces: list[str] = processor.id_to_piece(ids)
    control = {
        piece: i for i, piece, is_control in zip(ids, pieces, processor.is_control(ids), strict=True) if is_control
    }

    companions = read_companions(path.parent)
    roles = dict(companions.roles)
    builtin = {"bos_token": processor.bos_id(), "eos_token": processor.eos_id(), "unk_token": processor.unk_id()}
    for role, token_id in builtin.items():
        if token_id >= 0:
            roles.setdefault(role, pieces[token_id])
    bos, eos = control.get(roles.get("bos_token", "")), control.get(roles.get("eos_token", ""))
    add_bos = companions.config.get("add_bos_token", True) is True and bos is not None
    add_eos = companions.config.get("add_eos_token", False) is True and eos is not None
    special = SpecialTokens(
        roles=roles,
        bos_token_id=bos,
        eos_token_id=eos,
        eos_token_ids=companions.eos_ids | ({eos} if eos is not None else set()),
        prefix_ids=(bos,) if add_bos and bos is not None else (),
        suffix_ids=(eos,) if add_eos and eos is not None else (),
    )
    return SentencePieceTokenizer(
        processor,
        read_options(data),
        kind="sentencepiece",
        special=special,
        special_ids=frozenset(control.values()),
        cuts=control,
        chat_template=companions.chat_template,
    )


def processor_from(model: bytes, name: str) -> SentencePieceProcessor:
    """The library's processor for a serialized model. Raises ``TokenizerError`` naming the file."""
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except Exception as error:  # RuntimeError, or a plain one, by version
        raise TokenizerError(f"{name} is not a SentencePiece model: {error}") from error
    return processor


# -- the protocol buffer: sentencepiece_model.proto, the few fields that matter ---------------------------------------

_PIECES, _TRAINER, _NORMALIZER, _DENORMALIZER = 1, 2, 3, 5
_PIECE_TEXT, _PIECE_SCORE, _PIECE_TYPE = 1, 2, 3
_MODEL_TYPE, _SUFFIX_WHITESPACE, _BYTE_FALLBACK, _UNK_ID, _BOS_ID, _EOS_ID, _PAD_ID = 3, 24, 35, 40, 41, 42, 43
_UNK_SURFACE, _UNK_PIECE, _BOS_PIECE, _EOS_PIECE, _PAD_PIECE = 44, 45, 46, 47, 48
_CHARSMAP, _DUMMY_PREFIX, _REMOVE_EXTRA, _ESCAPE = 2, 3, 4, 5


def read_options(model: bytes) -> Options:
    """The flags of a serialized model."""
    trainer, normalizer, denormalizer = b"", b"", b""
    for number, value in _fields(model):
        if isinstance(value, bytes):
            trainer = value if number == _TRAINER else trainer
            normalizer = value if number == _NORMALIZER else normalizer
            denormalizer = value if number == _DENORMALIZER else denormalizer
    flags, training = dict(_fields(normalizer)), dict(_fields(trainer))
    surface = training.get(_UNK_SURFACE)
    return Options(
        add_dummy_prefix=bool(flags.get(_DUMMY_PREFIX, True)),
        remove_extra_whitespaces=bool(flags.get(_REMOVE_EXTRA, True)),
        unknown_surface=surface.decode("utf-8", "replace") if isinstance(surface, bytes) else " \u2047 ",
        tabular=not dict(_fields(denormalizer)).get(_CHARSMAP) and not training.get(_SUFFIX_WHITESPACE),
    )


def model_bytes(
    pieces: Iterable[tuple[str, float, int]],
    *,
    model_type: int,
    options: Options,
    byte_fallback: bool,
    ids: Mapping[str, int],
    charsmap: bytes = b"",
) -> bytes:
    """A serialized model from ``(piece, score, type)`` in id order.

    ``ids`` says which piece is ``unk``, ``bos``, ``eos`` and ``pad``; ``charsmap`` is the compiled normalization.
    """
    out = bytearray()
    spelled: list[str] = []
    for text, score, kind in pieces:
        spelled.append(text)
        piece = _message(_PIECE_TEXT, text.encode("utf-8", "replace"))
        piece += bytes([_PIECE_SCORE << 3 | 5]) + struct.pack("<f", score) + _number(_PIECE_TYPE, kind)
        out += _message(_PIECES, piece)
    trainer = _number(_MODEL_TYPE, model_type) + _number(_BYTE_FALLBACK, byte_fallback)
    roles = {"unk": (_UNK_ID, _UNK_PIECE), "bos": (_BOS_ID, _BOS_PIECE), "eos": (_EOS_ID, _EOS_PIECE)}
    for role, (id_field, piece_field) in {**roles, "pad": (_PAD_ID, _PAD_PIECE)}.items():
        token_id = ids.get(role, -1)
        trainer += _number(id_field, token_id)
        if token_id >= 0:
            trainer += _message(piece_field, spelled[token_id].encode("utf-8", "replace"))
    normalizer = _number(_DUMMY_PREFIX, options.add_dummy_prefix)
    normalizer += _number(_REMOVE_EXTRA, options.remove_extra_whitespaces) + _number(_ESCAPE, True)
    if charsmap:
        normalizer += _message(_CHARSMAP, charsmap)
    return bytes(out + _message(_TRAINER, trainer) + _message(_NORMALIZER, normalizer))


def _pieces(model: bytes) -> Iterator[tuple[str, int]]:
    """Text and type of each piece of a serialized model."""
    for number, value in _fields(model):
        if number == _PIECES and isinstance(value, bytes):
            piece = dict(_fields(value))
            text, kind = piece.get(_PIECE_TEXT, b""), piece.get(_PIECE_TYPE, NORMAL)
            yield text.decode("utf-8", "replace") if isinstance(text, bytes) else "", int(kind)


def _renamed(model: bytes, names: Mapping[str, str]) -> bytes:
    """A serialized model in which pieces have other texts."""
    out = bytearray()
    for number, value in _fields(model):
        assert isinstance(value, bytes)  # all fields of a model are messages
        if number == _PIECES:
            piece = dict(_fields(value))
            text, score, kind = (
                piece.get(_PIECE_TEXT, b""),
                piece.get(_PIECE_SCORE, b""),
                piece.get(_PIECE_TYPE, NORMAL),
            )
            assert isinstance(text, bytes)
            if (name := names.get(text.decode("utf-8", "replace"))) is not None:
                assert isinstance(score, bytes)
                assert isinstance(kind, int)
                value = _message(_PIECE_TEXT, name.encode()) + bytes([_PIECE_SCORE << 3 | 5]) + score
                value += _number(_PIECE_TYPE, kind)
        out += _message(number, value)
    return bytes(out)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are sign-extended to 64 bits
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(int(value))


def _message(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field number and value of each field, fixed-width ones as bytes. The library has accepted ``data`` before."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or varint()
        yield key >> 3, data[at : at + size]
        at += size
