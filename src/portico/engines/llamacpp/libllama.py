"""libllama through ctypes: the one file that knows its struct layouts.

The library is the extension module of the ``xllamacpp`` wheel, which exports llama.cpp's whole C API (llama.h of the
pinned version). Strategy: declare every struct we pass by value exactly as that header does, refuse any other version
of the wheel, and check the default parameters against known sentinels before the first real call, because a wrong
layout does not fail, it corrupts. What is done with it is in ``model``.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
from collections import deque
from collections.abc import Mapping
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

__all__ = ["PINNED_VERSION", "BatchStruct", "Library", "LlamaError", "LogitBias", "check_sentinels"]

PINNED_VERSION: Final = "2026.10.11549"  # the wheel whose llama.h the layouts below were taken from


_LOG_WARN, _LOG_CONTINUE = 3, 5  # ggml_log_level; ERROR is 4
_TYPE_F16: Final = 1


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


class BatchStruct(Structure):
    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


class LogitBias(Structure):
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
    "llama_supports_gpu_offload": (c_bool, ()),
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
    "llama_adapter_lora_init": (c_void_p, (c_void_p, c_char_p)),
    "llama_adapter_lora_free": (None, (c_void_p,)),
    "llama_adapter_get_alora_n_invocation_tokens": (c_uint64, (c_void_p,)),
    "llama_init_from_model": (c_void_p, (c_void_p, _ContextParams)),
    "llama_free": (None, (c_void_p,)),
    "llama_n_ctx": (c_uint32, (c_void_p,)),
    "llama_n_batch": (c_uint32, (c_void_p,)),
    "llama_set_adapters_lora": (c_int32, (c_void_p, POINTER(c_void_p), c_size_t, POINTER(c_float))),
    "llama_pooling_type": (c_int, (c_void_p,)),
    "llama_get_memory": (c_void_p, (c_void_p,)),
    "llama_memory_clear": (None, (c_void_p, c_bool)),
    "llama_memory_seq_rm": (c_bool, (c_void_p, c_int32, c_int32, c_int32)),
    "llama_memory_seq_cp": (None, (c_void_p, c_int32, c_int32, c_int32, c_int32)),
    "llama_memory_seq_pos_min": (c_int32, (c_void_p, c_int32)),
    "llama_state_seq_get_size_ext": (c_size_t, (c_void_p, c_int32, c_uint32)),
    "llama_state_seq_get_data_ext": (c_size_t, (c_void_p, c_char_p, c_size_t, c_int32, c_uint32)),
    "llama_state_seq_set_data_ext": (c_size_t, (c_void_p, c_char_p, c_size_t, c_int32, c_uint32)),
    "llama_decode": (c_int32, (c_void_p, BatchStruct)),
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
    "llama_sampler_init_logit_bias": (c_void_p, (c_int32, c_int32, POINTER(LogitBias))),
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


def advice(error: Exception) -> str:
    """What helps where the wheel's library cannot be loaded."""
    if "GLIBC" in str(error):
        return "it was built for a newer C library than this system's: use a newer system or an image, or --engine vllm"
    return f"it may be another machine's: run pip install --force-reinstall --no-cache-dir xllamacpp=={PINNED_VERSION}"


class Library:
    """The loaded library: prototypes set, layouts checked, log captured. Make one per process."""

    def __init__(self) -> None:
        path = library_path()
        version = importlib.metadata.version("xllamacpp")
        if version != PINNED_VERSION:
            raise LlamaError(f"xllamacpp {version} is installed; this engine needs exactly {PINNED_VERSION}")
        try:
            self.c = ctypes.CDLL(str(path))
            for name, (result, arguments) in _PROTOTYPES.items():
                function = getattr(self.c, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise LlamaError(f"{path.name} cannot be used as libllama: {error}; {advice(error)}") from error
        check_sentinels("llama_model_params", self.c.llama_model_default_params(), _MODEL_SENTINELS)
        check_sentinels("llama_context_params", self.c.llama_context_default_params(), _CONTEXT_SENTINELS)

        self.complaints: deque[str] = deque(maxlen=40)  # llama.cpp's warnings and errors, newest last
        self._log_level = 0
        self.log_callback = _LogCallback(self._log)  # kept: libllama holds only the pointer
        self.c.llama_log_set(self.log_callback, None)
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
                unknown = "unknown model architecture" in line
                hint = "; another file of the model, or --engine vllm, may serve it" if unknown else ""
                return LlamaError(f"{what}: {line.split(': ', 1)[-1]}{hint}")
        return LlamaError(what)


def check_sentinels(struct: str, defaults: Structure, expected: Mapping[str, object]) -> None:
    for name, value in expected.items():
        got = getattr(defaults, name)
        if got != value:
            raise LlamaError(f"libllama's {struct} is not laid out as expected: {name} is {got!r}, not {value!r}")
