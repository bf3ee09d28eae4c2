"""What libllama has, as objects: a ``Model`` and its ``Adapter``s, a ``Context`` with its cache, a ``Batch``, a
``SamplerChain``.

Above this file nobody sees a pointer, and every return code is a ``LlamaError``. llama.cpp aborts the process where
others return an error, so what it asserts is checked here first: a batch never exceeds the context's batch size, logits
are only asked for where a batch marked them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from ctypes import POINTER, c_float, c_int8, c_int32, c_void_p
from typing import Final

import numpy as np
import numpy.typing as npt

from portico.engines.llamacpp.libllama import BatchStruct, Library, LlamaError, LogitBias
from portico.engines.llamacpp.tuning import CACHE_TYPES, FLASH_ATTENTION, ROPE_SCALINGS, Tuning

__all__ = ["Adapter", "Batch", "Context", "Model", "SamplerChain"]

POOLING_NONE, POOLING_MEAN, POOLING_CLS, POOLING_LAST, POOLING_RANK = range(5)
MAX_SEQUENCES: Final = 256  # LLAMA_MAX_SEQ
RANDOM_SEED: Final = 0xFFFFFFFF  # LLAMA_DEFAULT_SEED: "draw one from the system"

_TOKEN_ATTR_CONTROL: Final = 1 << 3
_TOKEN_ATTR_USER_DEFINED: Final = 1 << 4
_STATE_ONLY: Final = 1  # LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY: what cannot be cut back, not the attention's cells


class Model:
    """A GGUF file's weights and vocabulary, loaded. Raises ``LlamaError`` for what llama.cpp cannot load."""

    def __init__(self, library: Library, path: str, tuning: Tuning | None = None) -> None:
        self.library, c = library, library.c
        self.tuning = tuning = tuning or Tuning()
        params = c.llama_model_default_params()
        if tuning.gpu_layers is not None:
            if tuning.gpu_layers and not c.llama_supports_gpu_offload():
                raise LlamaError("--gpu-layers needs a GPU that this build of llama.cpp can use; there is none")
            params.n_gpu_layers = tuning.gpu_layers
        params.main_gpu = tuning.main_gpu
        self.pointer = c.llama_model_load_from_file(path.encode(), params)
        if not self.pointer:
            raise library.error("llama.cpp cannot load this file")
        self.vocab = c.llama_model_get_vocab(self.pointer)
        self.vocab_size: int = c.llama_vocab_n_tokens(self.vocab)
        self.trained_context: int = c.llama_model_n_ctx_train(self.pointer)
        self.embedding_size: int = c.llama_model_n_embd_out(self.pointer)
        self.has_encoder: bool = c.llama_model_has_encoder(self.pointer)
        self.is_diffusion: bool = c.llama_model_is_diffusion(self.pointer)
        # Every token that ends generation: end of sequence, of turn, of message.
        self.end_tokens = frozenset(
            token for token in range(self.vocab_size) if c.llama_vocab_is_eog(self.vocab, token)
        )
        # A recurrent state cannot be cut back to a prefix.
        self.has_state: bool = c.llama_model_is_recurrent(self.pointer) or c.llama_model_is_hybrid(self.pointer)
        self.window: int = c.llama_model_n_swa(self.pointer)  # tokens; 0 where attention looks back without an end

    def context_length(self, wanted: int | None, default: int) -> int:
        """What is wanted, if the model was trained for it, or is stretched to it; else the model's own, at most
        ``default``."""
        most = int(self.trained_context * self.tuning.rope_scale)
        if wanted is None:
            return min(most, default)
        if not 0 < wanted <= most:
            raise LlamaError(f"the context length must be 1 to {most} tokens for this model")
        return wanted

    def description(self) -> dict[str, object]:
        """For people: architecture, size and quantisation."""
        buffer = ctypes.create_string_buffer(256)
        self.library.c.llama_model_desc(self.pointer, buffer, len(buffer))
        return {
            "description": buffer.value.decode(errors="replace"),
            "parameters": self.library.c.llama_model_n_params(self.pointer),
            "weight_bytes": self.library.c.llama_model_size(self.pointer),
            "libllama": self.library.version,
        }

    def eos_token(self) -> int:
        """The end-of-sequence token, or -1."""
        return int(self.library.c.llama_vocab_eos(self.vocab))

    def piece(self, token: int) -> bytes:
        """The bytes of one token; of a special token, its name."""
        c, size = self.library.c, 256
        buffer = ctypes.create_string_buffer(size)
        length = c.llama_token_to_piece(self.vocab, token, buffer, size, 0, True)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = c.llama_token_to_piece(self.vocab, token, buffer, -length, 0, True)
        return buffer.raw[:length]

    def token_bytes(self) -> tuple[list[bytes], frozenset[int]]:
        """The bytes of every token in id order, and which of them are control tokens."""
        pieces, control = [], set()
        for token in range(self.vocab_size):
            piece = self.piece(token)
            attributes = self.library.c.llama_vocab_get_attr(self.vocab, token)
            if attributes & _TOKEN_ATTR_CONTROL or (
                attributes & _TOKEN_ATTR_USER_DEFINED and piece.startswith(b"<") and piece.endswith(b">")
            ):
                control.add(token)
            pieces.append(piece)
        return pieces, frozenset(control)

    def tokenize_function(self) -> int:
        """The address of ``llama_tokenize``, for native callers."""
        return int(ctypes.cast(self.library.c.llama_tokenize, c_void_p).value or 0)


class Adapter:
    """A LoRA adapter of ``model``, loaded out of a GGUF file. Raises ``LlamaError`` for what does not fit the model."""

    def __init__(self, model: Model, path: str) -> None:
        self._c = model.library.c
        self.pointer = self._c.llama_adapter_lora_init(model.pointer, path.encode())
        if not self.pointer:
            raise model.library.error("llama.cpp cannot load this adapter")
        if self._c.llama_adapter_get_alora_n_invocation_tokens(self.pointer):
            self.close()
            raise LlamaError("this adapter works only after certain tokens (aLoRA), which is not supported")

    def close(self) -> None:
        """No context may have it."""
        self._c.llama_adapter_lora_free(self.pointer)


class Batch:
    """The tokens of one decode call, in arrays that never move. ``capacity`` is the context's batch size."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.size = capacity, 0
        self._tokens = (c_int32 * capacity)()
        self._positions = (c_int32 * capacity)()
        self._sequences = (c_int32 * capacity)()
        self._outputs = (c_int8 * capacity)()
        ones = (c_int32 * capacity)(*([1] * capacity))
        first = ctypes.addressof(self._sequences)
        pointers = (POINTER(c_int32) * capacity)(
            *(ctypes.cast(first + 4 * i, POINTER(c_int32)) for i in range(capacity))
        )
        self._keep = (ones, pointers)
        self.struct = BatchStruct(0, self._tokens, None, self._positions, ones, pointers, self._outputs)

    def clear(self) -> None:
        self.size = 0

    def add(self, tokens: Sequence[int], position: int, sequence: int, outputs: int) -> int:
        """Append ``tokens`` of one sequence from ``position`` on; the last ``outputs`` of them get logits.

        Returns the batch index of the first output.
        """
        start, count = self.size, len(tokens)
        end = start + count
        if end > self.capacity:
            raise LlamaError(f"a batch of {end} tokens exceeds the capacity of {self.capacity}")
        self._tokens[start:end] = list(tokens)
        self._positions[start:end] = list(range(position, position + count))
        self._sequences[start:end] = [sequence] * count
        self._outputs[start:end] = [*([0] * (count - outputs)), *([1] * outputs)]
        self.size = self.struct.n_tokens = end
        return end - outputs


class Context:
    """A model's KV cache (``cells`` tokens, shared by all sequences) and the decode call.

    With ``embeddings`` it gives pooled embeddings instead of logits. ``outputs`` bounds the logit rows of one batch.
    """

    def __init__(
        self,
        model: Model,
        *,
        cells: int,
        batch_tokens: int,
        sequences: int,
        outputs: int,
        threads: int,
        embeddings: bool = False,
        pooling: int | None = None,
    ) -> None:
        self.model, self._c = model, model.library.c
        params = self._c.llama_context_default_params()
        params.n_ctx = cells
        params.n_batch = params.n_ubatch = batch_tokens
        params.n_seq_max = sequences
        params.n_outputs_max = outputs
        params.n_threads = params.n_threads_batch = threads
        params.embeddings = embeddings
        params.kv_unified = True
        tuning = model.tuning
        params.type_k = params.type_v = CACHE_TYPES[tuning.cache_type]
        params.flash_attn_type = FLASH_ATTENTION[tuning.flash_attention]
        if tuning.rope_scaling is not None:
            params.rope_scaling_type = ROPE_SCALINGS[tuning.rope_scaling]
        if tuning.rope_scale != 1.0:
            params.rope_freq_scale = 1.0 / tuning.rope_scale
        if tuning.rope_freq_base is not None:
            params.rope_freq_base = tuning.rope_freq_base
        if pooling is not None:
            params.pooling_type = pooling
        self.pointer = self._c.llama_init_from_model(model.pointer, params)
        if not self.pointer:
            raise model.library.error("llama.cpp cannot make a context for this model")
        self.cells: int = self._c.llama_n_ctx(self.pointer)
        self.batch_tokens: int = self._c.llama_n_batch(self.pointer)
        self.pooling: int = self._c.llama_pooling_type(self.pointer)
        self._memory = self._c.llama_get_memory(self.pointer)
        self._row_type: type[ctypes.Array[c_float]] = c_float * model.vocab_size
        self._adapter: Adapter | None = None

    @property
    def has_memory(self) -> bool:
        """False for encoder-only models, which keep nothing between calls."""
        return bool(self._memory)

    def close(self) -> None:
        self._c.llama_free(self.pointer)

    def decode(self, batch: Batch) -> None:
        """Compute one batch. Raises ``LlamaError`` for any return code but 0; what the cache holds is then unknown."""
        if not 0 < batch.size <= self.batch_tokens:
            raise LlamaError(f"a batch of {batch.size} tokens does not fit the limit of {self.batch_tokens}")
        code = self._c.llama_decode(self.pointer, batch.struct)
        if code != 0:
            raise self.model.library.error(f"llama_decode failed with code {code}")

    def adapt(self, adapter: Adapter | None) -> None:
        """Compute with this adapter from now on. Another one than before costs the next batch some milliseconds."""
        if adapter is not self._adapter:
            self._adapter = adapter
            pointers = (c_void_p * 1)(adapter.pointer if adapter is not None else None)
            self._c.llama_set_adapters_lora(self.pointer, pointers, int(adapter is not None), (c_float * 1)(1.0))

    def remove(self, sequence: int, start: int) -> None:
        """Forget the tokens of ``sequence`` from position ``start`` on."""
        if not self._c.llama_memory_seq_rm(self._memory, sequence, start, -1):
            raise LlamaError(f"llama.cpp cannot cut sequence {sequence} at {start}")

    def copy(self, source: int, target: int, end: int) -> None:
        """Let ``target`` share what ``source`` holds before position ``end``; no data moves."""
        self._c.llama_memory_seq_cp(self._memory, source, target, 0, end)

    def first_position(self, sequence: int) -> int:
        """The first position that ``sequence`` still holds everywhere, -1 if it holds none."""
        return int(self._c.llama_memory_seq_pos_min(self._memory, sequence))

    def state(self, sequence: int) -> bytes:
        """A copy of the recurrent state of ``sequence``."""
        size = self._c.llama_state_seq_get_size_ext(self.pointer, sequence, _STATE_ONLY)
        buffer = ctypes.create_string_buffer(size)
        if self._c.llama_state_seq_get_data_ext(self.pointer, buffer, size, sequence, _STATE_ONLY) != size:
            raise LlamaError(f"llama.cpp cannot copy the state of sequence {sequence}")
        return buffer.raw

    def restore(self, sequence: int, state: bytes) -> None:
        """Give ``sequence`` a state that was copied."""
        if not self._c.llama_state_seq_set_data_ext(self.pointer, state, len(state), sequence, _STATE_ONLY):
            raise self.model.library.error(f"llama.cpp cannot restore the state of sequence {sequence}")

    def clear(self) -> None:
        if self._memory:
            self._c.llama_memory_clear(self._memory, False)

    def logits(self, index: int) -> npt.NDArray[np.float32]:
        """The logits at batch index ``index``: a writable view into libllama's buffer, valid until the next decode."""
        address = self._c.llama_get_logits_ith(self.pointer, index)
        if not address:
            raise LlamaError(f"no logits at batch index {index}")
        row: npt.NDArray[np.float32] = np.frombuffer(memoryview(self._row_type.from_address(address)), dtype=np.float32)
        return row

    def embedding(self, sequence: int) -> npt.NDArray[np.float32]:
        """A copy of the pooled embedding of ``sequence`` in the batch just decoded."""
        address = self._c.llama_get_embeddings_seq(self.pointer, sequence)
        if not address:
            raise LlamaError(f"no embedding for sequence {sequence}")
        row = (c_float * self.model.embedding_size).from_address(address)
        vector: npt.NDArray[np.float32] = np.frombuffer(memoryview(row), dtype=np.float32).copy()
        return vector


class SamplerChain:
    """libllama's samplers in the order they were added; the last one picks. ``close()`` frees them."""

    def __init__(self, library: Library) -> None:
        self._c = library.c
        self.pointer = self._c.llama_sampler_chain_init(self._c.llama_sampler_chain_default_params())

    def greedy(self) -> None:
        self._add(self._c.llama_sampler_init_greedy())

    def draw(self, seed: int) -> None:
        self._add(self._c.llama_sampler_init_dist(seed))

    def top_k(self, k: int) -> None:
        self._add(self._c.llama_sampler_init_top_k(k))

    def top_p(self, p: float) -> None:
        self._add(self._c.llama_sampler_init_top_p(p, 1))

    def min_p(self, p: float) -> None:
        self._add(self._c.llama_sampler_init_min_p(p, 1))

    def temperature(self, temperature: float) -> None:
        self._add(self._c.llama_sampler_init_temp(temperature))

    def logit_bias(self, vocab_size: int, bias: dict[int, float]) -> None:
        entries = (LogitBias * len(bias))(*(LogitBias(token, value) for token, value in bias.items()))
        self._add(self._c.llama_sampler_init_logit_bias(vocab_size, len(bias), entries))

    def penalties(
        self,
        vocab_size: int,
        window: int,
        *,
        repetition: float = 1.0,
        frequency: float = 0.0,
        presence: float = 0.0,
        seen: Iterable[int] = (),
    ) -> None:
        """Penalise the last ``window`` tokens; ``seen`` counts as already generated."""
        sampler = self._c.llama_sampler_init_penalties(vocab_size, window, repetition, frequency, presence)
        for token in seen:
            self._c.llama_sampler_accept(sampler, token)
        self._add(sampler)

    def _add(self, sampler: int) -> None:
        self._c.llama_sampler_chain_add(self.pointer, sampler)

    def sample(self, context: Context, index: int) -> int:
        """Pick a token from the logits at batch index ``index`` (which must have been marked as output)."""
        return int(self._c.llama_sampler_sample(self.pointer, context.pointer, index))

    def accept(self, token: int) -> None:
        """A token that was not picked here; the samplers that count tokens count it."""
        self._c.llama_sampler_accept(self.pointer, token)

    def close(self) -> None:
        if self.pointer:
            self._c.llama_sampler_free(self.pointer)
            self.pointer = None
