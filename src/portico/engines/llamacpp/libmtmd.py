"""libmtmd through ctypes: llama.cpp's library for models that see and hear, in the same shared object as libllama.

As in ``libllama``: the struct that is passed by value is declared as mtmd.h of the pinned version does, and checked
against its defaults. What is done with it is in ``projector``.
"""

from __future__ import annotations

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_float,
    c_int,
    c_int32,
    c_size_t,
    c_uint32,
    c_void_p,
)
from typing import Any, Final

from portico.engines.llamacpp.libllama import Library, LlamaError, check_sentinels

__all__ = ["CHUNK_TEXT", "Part", "use"]

CHUNK_TEXT: Final = 0  # mtmd_input_chunk_type


class _Params(Structure):
    _fields_ = (
        ("use_gpu", c_bool),
        ("device", c_void_p),
        ("print_timings", c_bool),
        ("n_threads", c_int),
        ("image_marker", c_char_p),
        ("media_marker", c_char_p),
        ("flash_attn_type", c_int),
        ("warmup", c_bool),
        ("image_min_tokens", c_int),
        ("image_max_tokens", c_int),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("batch_max_tokens", c_int32),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
    )


class Part(Structure):
    """mtmd_input_part: a text or a medium."""

    _fields_ = (("text", c_void_p), ("bitmap", c_void_p))


_SENTINELS: Final = {
    "use_gpu": True,
    "device": None,
    "n_threads": 4,
    "image_marker": None,
    "media_marker": b"<__media__>",
    "flash_attn_type": -1,
    "warmup": True,
    "image_max_tokens": -1,
    "batch_max_tokens": 1024,
    "progress_callback_user_data": None,
}

_LogCallback = CFUNCTYPE(None, c_int, c_char_p, c_void_p)

_PROTOTYPES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "mtmd_context_params_default": (_Params, ()),
    "mtmd_helper_log_set": (None, (c_void_p, c_void_p)),
    "mtmd_init_from_file": (c_void_p, (c_char_p, c_void_p, _Params)),
    "mtmd_support_vision": (c_bool, (c_void_p,)),
    "mtmd_support_audio": (c_bool, (c_void_p,)),
    "mtmd_get_audio_sample_rate": (c_int, (c_void_p,)),
    "mtmd_decode_use_non_causal": (c_bool, (c_void_p, c_void_p)),
    "mtmd_bitmap_init": (c_void_p, (c_uint32, c_uint32, c_char_p)),
    "mtmd_bitmap_init_from_audio": (c_void_p, (c_size_t, c_char_p)),
    "mtmd_bitmap_free": (None, (c_void_p,)),
    "mtmd_input_chunks_init": (c_void_p, ()),
    "mtmd_input_chunks_size": (c_size_t, (c_void_p,)),
    "mtmd_input_chunks_get": (c_void_p, (c_void_p, c_size_t)),
    "mtmd_input_chunks_free": (None, (c_void_p,)),
    "mtmd_input_chunk_get_type": (c_int, (c_void_p,)),
    "mtmd_input_chunk_get_tokens_text": (POINTER(c_int32), (c_void_p, POINTER(c_size_t))),
    "mtmd_input_chunk_get_n_tokens": (c_size_t, (c_void_p,)),
    "mtmd_input_chunk_get_n_pos": (c_int32, (c_void_p,)),
    "mtmd_tokenize_from_parts": (c_int32, (c_void_p, c_void_p, POINTER(POINTER(Part)), c_size_t, c_bool)),
    "mtmd_encode_chunk": (c_int32, (c_void_p, c_void_p)),
    "mtmd_get_output_embd": (POINTER(c_float), (c_void_p,)),
    "mtmd_helper_decode_image_chunk": (
        c_int32,
        (
            *(c_void_p, c_void_p, c_void_p, POINTER(c_float), c_int32, c_int32, c_int32, POINTER(c_int32)),
            *(c_void_p, c_void_p),
        ),
    ),
}


def use(library: Library) -> None:
    """Set the prototypes in a loaded library, check the layout, send its log where libllama's goes."""
    try:
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(library.c, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        raise LlamaError(f"this build of llama.cpp cannot see or hear: {error}") from error
    check_sentinels("mtmd_context_params", library.c.mtmd_context_params_default(), _SENTINELS)
    library.c.mtmd_helper_log_set(library.log_callback, None)
