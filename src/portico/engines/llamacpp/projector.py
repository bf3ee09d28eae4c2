"""What a model sees and hears with: a ``Projector``, which makes embeddings of media and has the model read them.

A medium becomes a list of tokens and ``Chunk``s: the tokens are the model's own words around it (its beginning and end,
or those between the tiles of a large image), a chunk is embeddings that stand for as many tokens.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator
from ctypes import POINTER, byref, c_int32, c_size_t, pointer
from dataclasses import dataclass

from portico.engines.llamacpp.libmtmd import CHUNK_TEXT, Part, use
from portico.engines.llamacpp.model import Context, Model
from portico.engines.llamacpp.slots import Span
from portico.errors import BadRequestError
from portico.events import Media, Medium

__all__ = ["Chunk", "Projector", "Seen"]


@dataclass(frozen=True, eq=False)
class Chunk:
    """A part of a medium that is computed at once: ``tokens`` embeddings at ``positions`` positions of the model.
    ``number`` is below 0, and the same for equal parts of equal media. ``chunks`` owns what ``address`` points to."""

    address: int
    tokens: int
    positions: int
    number: int
    chunks: _Chunks


@dataclass(frozen=True)
class Seen:
    """A prompt with its media in place: tokens, numbers below 0 where media are, and which are whose."""

    tokens: list[int]
    spans: tuple[Span, ...]


class Projector:
    """The weights of a GGUF file beside ``model``'s. Raises ``LlamaError`` for one that is none, or another model's."""

    def __init__(self, model: Model, path: str, threads: int) -> None:
        self._c, self._model = model.library.c, model
        use(model.library)
        params = self._c.mtmd_context_params_default()
        params.print_timings = False
        params.n_threads = threads
        self._pointer = self._c.mtmd_init_from_file(path.encode(), model.pointer, params)
        if not self._pointer:
            raise model.library.error("llama.cpp cannot use this projector with this model")
        self.sees: bool = self._c.mtmd_support_vision(self._pointer)
        self.hears: bool = self._c.mtmd_support_audio(self._pointer)
        self.audio_rate: int = max(0, self._c.mtmd_get_audio_sample_rate(self._pointer))
        # Whether the parts of an image look at each other both ways, and must be in one batch.
        self.at_once: bool = self._c.mtmd_decode_use_non_causal(self._pointer, None)

    def place(self, media: Media, most_at_once: int) -> Seen:
        """The prompt with its media in it. Any thread may ask. ``most_at_once`` bounds what must be in one batch.

        Raises ``BadRequestError`` for a medium that the model cannot take, or one at the very end.
        """
        tokens: list[int] = []
        spans: list[Span] = []
        at = 0
        for item, place in zip(media.items, media.places, strict=True):
            tokens += media.token_ids[at:place]
            at = place
            for piece in self._pieces(item):
                if isinstance(piece, Chunk):
                    if self.at_once and piece.tokens > most_at_once:
                        raise BadRequestError(f"The {item.kind} is too large for this model; send a smaller one.")
                    spans.append(Span(len(tokens), piece.tokens, piece.positions, piece))
                    tokens += [piece.number] * piece.tokens
                else:
                    tokens += piece
        tokens += media.token_ids[at:]
        if not tokens or tokens[-1] < 0:
            raise BadRequestError("A prompt cannot end with an image or a sound; put text behind it.")
        return Seen(tokens, tuple(spans))

    def compute(self, context: Context, chunk: Chunk, position: int, sequence: int) -> None:
        """Make the embeddings of ``chunk``, and have ``sequence`` read them from ``position`` on."""
        c = self._c
        if c.mtmd_encode_chunk(self._pointer, chunk.address) != 0:
            raise self._model.library.error("llama.cpp cannot encode a medium")
        embeddings = c.mtmd_get_output_embd(self._pointer)
        behind = c_int32()
        code = c.mtmd_helper_decode_image_chunk(
            *(self._pointer, context.pointer, chunk.address, embeddings, position, sequence, context.batch_tokens),
            *(byref(behind), None, None),
        )
        if code != 0:
            raise self._model.library.error(f"llama_decode failed with code {code} on a medium")

    def _pieces(self, item: Medium) -> Iterator[list[int] | Chunk]:
        c = self._c
        chunks = _Chunks(c)
        first, second = item.size
        if item.kind == "image":
            bitmap = c.mtmd_bitmap_init(first, second, item.data or None)
        else:
            bitmap = c.mtmd_bitmap_init_from_audio(first, item.data or None)
        try:
            part = Part(None, bitmap)
            parts = (POINTER(Part) * 1)(pointer(part))
            if c.mtmd_tokenize_from_parts(self._pointer, chunks.address, parts, 1, False) != 0:
                raise BadRequestError(f"The {item.kind} cannot be used by this model.")
        finally:
            c.mtmd_bitmap_free(bitmap)
        for index in range(c.mtmd_input_chunks_size(chunks.address)):
            address = c.mtmd_input_chunks_get(chunks.address, index)
            if c.mtmd_input_chunk_get_type(address) == CHUNK_TEXT:
                size = c_size_t()
                text = c.mtmd_input_chunk_get_tokens_text(address, byref(size))
                yield text[: size.value]
            else:
                named = hashlib.sha256(f"{item.digest} {index}".encode()).digest()
                number = -1 - (int.from_bytes(named[:8], "little") >> 2)
                count, positions = c.mtmd_input_chunk_get_n_tokens(address), c.mtmd_input_chunk_get_n_pos(address)
                yield Chunk(address, count, positions, number, chunks)


class _Chunks:
    """A list of libmtmd's, freed with this object."""

    def __init__(self, c: ctypes.CDLL) -> None:
        self._c, self.address = c, c.mtmd_input_chunks_init()

    def __del__(self) -> None:
        self._c.mtmd_input_chunks_free(self.address)
