"""libllama through ctypes: the one file that knows its struct layouts.

The library is the extension module of the ``xllamacpp`` wheel, which exports llama.cpp's whole C API (llama.h of the
pinned version). Strategy: declare every struct we pass by value exactly as that header does, refuse any other version
of the wheel, and check the default parameters against known sentinels before the first real call, because a wrong
layout does not fail, it corrupts. Above this file nobody sees a pointer: there is a ``Model``, a ``Context``, a
``Batch`` and a ``SamplerChain``, and every return code becomes a ``LlamaError``.

llama.cpp aborts the process where others return an error, so what it asserts is checked here first: a batch never
exceeds the context's batch size, logits are only asked for where a batch marked them.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_float,
    c_int,
    c_int8,
    c_int32,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["PINNED_VERSION", "Batch", "Context", "Library", "LlamaError", "Model", "SamplerChain"]

PINNED_VERSION: Final = "2026.10.11549"  # the wheel whose llama.h the layouts below were taken from

POOLING_NONE, POOLING_MEAN, POOLING_CLS, POOLING_LAST, POOLING_RANK = range(5)
MAX_SEQUENCES: Final = 256  # LLAMA_MAX_SEQ
RANDOM_SEED: Final = 0xFFFFFFFF  # LLAMA_DEFAULT_SEED: "draw one from the system"

_TOKEN_ATTR_CONTROL: Final = 1 << 3
_TOKEN_ATTR_USER_DEFINED: Final = 1 << 4
_LOG_WARN, _LOG_CONTINUE = 3, 5  # ggml_log_level; ERROR is 4
_TYPE_F16: Final = 1
_STATE_ONLY: Final = 1  # LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY: what cannot be cut back, not the attention's cells


class LlamaError(Exception):
    """libllama refused or failed; the message is one line, the last complaint of llama.cpp's log included."""


# -- structs, in the order of llama.h ---------------------------------------------------------------------------------


class _ModelParams(Structure):
    _fields_ = (
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int),
        ("load_mode", c_int),
        ("lazy_mode", c_int),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    )


class _ContextParams(Structure):
    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int),
        ("rope_scaling_type", c_int),
        ("pooling_type", c_int),
        ("attention_type", c_int),
        ("flash_attn_type", c_int),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int),
        ("type_v", c_int),
        ("moe_cache_size", c_size_t),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    )


class _Batch(Structure):
    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


class _LogitBias(Structure):
    _fields_ = (("token", c_int32), ("bias", c_float))


class _SamplerChainParams(Structure):
    _fields_ = (("no_perf", c_bool),)


# What the defaults are in the pinned version. The last boolean of each struct is among them, so a field that was
# inserted anywhere shows.
_MODEL_SENTINELS: Final = {
    "n_gpu_layers": -1,
    "split_mode": 1,
    "main_gpu": 0,
    "kv_overrides": None,
    "vocab_only": False,
    "use_extra_bufts": True,
    "no_alloc": False,
}
_CONTEXT_SENTINELS: Final = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "rope_scaling_type": -1,
    "pooling_type": -1,
    "attention_type": -1,
    "flash_attn_type": -1,
    "yarn_ext_factor": -1.0,
    "cb_eval": None,
    "type_k": _TYPE_F16,
    "type_v": _TYPE_F16,
    "moe_cache_size": 0,
    "abort_callback": None,
    "embeddings": False,
    "offload_kqv": True,
    "swa_full": True,
    "kv_unified": False,
    "samplers": None,
    "n_samplers": 0,
    "ctx_other": None,
}

# -- functions: name -> (result, arguments) ---------------------------------------------------------------------------

_LogCallback = CFUNCTYPE(None, c_int, c_char_p, c_void_p)

_PROTOTYPES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "llama_log_set": (None, (_LogCallback, c_void_p)),
    "llama_backend_init": (None, ()),
    "llama_version": (c_char_p, ()),
    "llama_model_default_params": (_ModelParams, ()),
    "llama_context_default_params": (_ContextParams, ()),
    "llama_sampler_chain_default_params": (_SamplerChainParams, ()),
    "llama_model_load_from_file": (c_void_p, (c_char_p, _ModelParams)),
    "llama_model_get_vocab": (c_void_p, (c_void_p,)),
    "llama_model_n_ctx_train": (c_int32, (c_void_p,)),
    "llama_model_n_embd_out": (c_int32, (c_void_p,)),
    "llama_model_has_encoder": (c_bool, (c_void_p,)),
    "llama_model_n_swa": (c_int32, (c_void_p,)),
    "llama_model_is_recurrent": (c_bool, (c_void_p,)),
    "llama_model_is_hybrid": (c_bool, (c_void_p,)),
    "llama_model_is_diffusion": (c_bool, (c_void_p,)),
    "llama_model_desc": (c_int32, (c_void_p, c_char_p, c_size_t)),
    "llama_model_size": (c_uint64, (c_void_p,)),
    "llama_model_n_params": (c_uint64, (c_void_p,)),
    "llama_vocab_n_tokens": (c_int32, (c_void_p,)),
    "llama_vocab_is_eog": (c_bool, (c_void_p, c_int32)),
    "llama_vocab_eos": (c_int32, (c_void_p,)),
    "llama_vocab_get_attr": (c_int, (c_void_p, c_int32)),
    "llama_token_to_piece": (c_int32, (c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool)),
    "llama_init_from_model": (c_void_p, (c_void_p, _ContextParams)),
    "llama_free": (None, (c_void_p,)),
    "llama_n_ctx": (c_uint32, (c_void_p,)),
    "llama_n_batch": (c_uint32, (c_void_p,)),
    "llama_pooling_type": (c_int, (c_void_p,)),
    "llama_get_memory": (c_void_p, (c_void_p,)),
    "llama_memory_clear": (None, (c_void_p, c_bool)),
    "llama_memory_seq_rm": (c_bool, (c_void_p, c_int32, c_int32, c_int32)),
    "llama_memory_seq_cp": (None, (c_void_p, c_int32, c_int32, c_int32, c_int32)),
    "llama_memory_seq_pos_min": (c_int32, (c_void_p, c_int32)),
    "llama_state_seq_get_size_ext": (c_size_t, (c_void_p, c_int32, c_uint32)),
    "llama_state_seq_get_data_ext": (c_size_t, (c_void_p, c_char_p, c_size_t, c_int32, c_uint32)),
    "llama_state_seq_set_data_ext": (c_size_t, (c_void_p, c_char_p, c_size_t, c_int32, c_uint32)),
    "llama_decode": (c_int32, (c_void_p, _Batch)),
    "llama_get_logits_ith": (c_void_p, (c_void_p, c_int32)),
    "llama_get_embeddings_seq": (c_void_p, (c_void_p, c_int32)),
    "llama_sampler_chain_init": (c_void_p, (_SamplerChainParams,)),
    "llama_sampler_chain_add": (None, (c_void_p, c_void_p)),
    "llama_sampler_sample": (c_int32, (c_void_p, c_void_p, c_int32)),
    "llama_sampler_accept": (None, (c_void_p, c_int32)),
    "llama_sampler_free": (None, (c_void_p,)),
    "llama_sampler_init_greedy": (c_void_p, ()),
    "llama_sampler_init_dist": (c_void_p, (c_uint32,)),
    "llama_sampler_init_top_k": (c_void_p, (c_int32,)),
    "llama_sampler_init_top_p": (c_void_p, (c_float, c_size_t)),
    "llama_sampler_init_min_p": (c_void_p, (c_float, c_size_t)),
    "llama_sampler_init_temp": (c_void_p, (c_float,)),
    "llama_sampler_init_penalties": (c_void_p, (c_int32, c_int32, c_float, c_float, c_float)),
    "llama_sampler_init_logit_bias": (c_void_p, (c_int32, c_int32, POINTER(_LogitBias))),
}


def library_path() -> Path:
    """Where the wheel put the shared object; found without importing the package, which would run its own set-up."""
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        raise LlamaError(f"xllamacpp is not installed; run: pip install xllamacpp=={PINNED_VERSION}")
    found = sorted(Path(spec.origin).parent.glob("xllamacpp*.so"))
    if not found:
        raise LlamaError("this platform's xllamacpp wheel does not export libllama; use Linux or macOS")
    return found[0]


class Library:
    """The loaded library: prototypes set, layouts checked, log captured. Make one per process."""

    def __init__(self) -> None:
        version = importlib.metadata.version("xllamacpp")
        if version != PINNED_VERSION:
            raise LlamaError(f"xllamacpp {version} is installed; this engine needs exactly {PINNED_VERSION}")
        path = library_path()
        try:
            self.c = ctypes.CDLL(str(path))
            for name, (result, arguments) in _PROTOTYPES.items():
                function = getattr(self.c, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise LlamaError(f"{path.name} cannot be used as libllama: {error}") from error
        _check_sentinels("llama_model_params", self.c.llama_model_default_params(), _MODEL_SENTINELS)
        _check_sentinels("llama_context_params", self.c.llama_context_default_params(), _CONTEXT_SENTINELS)

        self.complaints: deque[str] = deque(maxlen=40)  # llama.cpp's warnings and errors, newest last
        self._log_level = 0
        self._log_callback = _LogCallback(self._log)  # kept: libllama holds only the pointer
        self.c.llama_log_set(self._log_callback, None)
        self.c.llama_backend_init()
        self.version: str = self.c.llama_version().decode()

    def _log(self, level: int, text: bytes, _: object) -> None:
        if level != _LOG_CONTINUE:
            self._log_level = level
        line = text.decode(errors="replace").strip()
        if self._log_level >= _LOG_WARN and line:
            self.complaints.append(line)

    def error(self, what: str) -> LlamaError:
        """``what`` with the complaint of llama.cpp that says most: the last one that is not merely 'failed to load'."""
        for line in reversed(self.complaints):
            if "failed to load model" not in line:
                return LlamaError(f"{what}: {line.split(': ', 1)[-1]}")
        return LlamaError(what)


def _check_sentinels(struct: str, defaults: Structure, expected: Mapping[str, object]) -> None:
    for name, value in expected.items():
        got = getattr(defaults, name)
        if got != value:
            raise LlamaError(f"libllama's {struct} is not laid out as expected: {name} is {got!r}, not {value!r}")


class Model:
    """A GGUF file's weights and vocabulary, loaded. Raises ``LlamaError`` for what llama.cpp cannot load."""

    def __init__(self, library: Library, path: str) -> None:
        self.library, c = library, library.c
        self.pointer = c.llama_model_load_from_file(path.encode(), c.llama_model_default_params())
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
        """What is wanted, if the model was trained for it; else the model's own, at most ``default``."""
        if wanted is None:
            return min(self.trained_context, default)
        if not 0 < wanted <= self.trained_context:
            raise LlamaError(f"the context length must be 1 to {self.trained_context} tokens for this model")
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
        self.struct = _Batch(0, self._tokens, None, self._positions, ones, pointers, self._outputs)

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

    def remove(self, sequence: int, start: int) -> None:
        """Forget the tokens of ``sequence`` from position ``start`` on."""
        if not self._c.llama_memory_seq_rm(self._memory, sequence, start, -1):
            raise LlamaError(f"llama.cpp cannot cut sequence {sequence} at {start}")

    def copy(self, source: int, target: int, length: int) -> None:
        """Let ``target`` share the first ``length`` tokens of ``source``; no data moves."""
        self._c.llama_memory_seq_cp(self._memory, source, target, 0, length)

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
        entries = (_LogitBias * len(bias))(*(_LogitBias(token, value) for token, value in bias.items()))
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
