"""What people set in llama.cpp, as its own command line calls it. Left alone, all of it is llama.cpp's to choose."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

__all__ = ["CACHE_TYPES", "FLASH_ATTENTION", "ROPE_SCALINGS", "CacheType", "RopeScaling", "Switch", "Tuning"]

CacheType: TypeAlias = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "iq4_nl", "q4_1", "q4_0"]
RopeScaling: TypeAlias = Literal["none", "linear", "yarn"]
Switch: TypeAlias = Literal["auto", "on", "off"]

# By the numbers of ggml.h and llama.h.
CACHE_TYPES: Final[dict[str, int]] = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "iq4_nl": 20,
    "bf16": 30,
}
FLASH_ATTENTION: Final[dict[str, int]] = {"auto": -1, "off": 0, "on": 1}
ROPE_SCALINGS: Final[dict[str, int]] = {"none": 0, "linear": 1, "yarn": 2}


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """``gpu_layers`` None: all that fit where there is a GPU. ``cache_type`` is of keys and values. ``rope_scale``
    times the context that the model was trained for is what it can have."""

    gpu_layers: int | None = None
    main_gpu: int = 0
    cache_type: CacheType = "f16"
    flash_attention: Switch = "auto"
    rope_scaling: RopeScaling | None = None
    rope_scale: float = 1.0
    rope_freq_base: float | None = None
