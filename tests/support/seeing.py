"""A pair of GGUF files that can see and hear, constructed: ``python -m support.seeing DIR`` writes ``seeing.gguf`` and
``seeing-mmproj.gguf``.

The projector (of an architecture without an encoder: Gemma 4's unified one) maps a patch of pure red, green or blue to
an embedding of its own, by weights that are computed for it. The model has one layer of two heads. The first looks at
patches, the farther back the more, and writes their colours where the head of the vocabulary reads them; the second
looks at the colours that were named already, and takes them out. So it names the colours of a conversation's images
in the order in which they stand, each once, and then ends its turn: ``red green ``. It reads nothing else. A tone is a
colour, too: the projector finds three of them in a sound, whatever their loudness.

There is a second pair, whose positions are those of a grid (M-RoPE, as Qwen2-VL has it): all of an image stands at one
position of the first kind, and takes fewer positions than embeddings. It names an image's colours in no certain order.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt

from support.tiny_models import MERGES, TOKENS

__all__ = ["COLOURS", "CONTEXT", "RATE", "TEMPLATE", "TONES", "write_pair"]

COLOURS: Final = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
TONES: Final = {"red": 250, "green": 500, "blue": 1000}  # Hz; whole periods in a frame
RATE: Final = 16_000  # samples a second
FRAME: Final = 640  # samples to a token
CONTEXT: Final = 4096  # tokens
PATCH: Final = 8  # pixels a side
TEMPLATE: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

WIDTH, HEAD, HEADS = 32, 16, 2
# dimensions of the residual stream
SEEN, IMAGE, ANY, NAMED, OUT, WORD = (0, 1, 2), 3, 4, (5, 6, 7), (8, 9, 10), 11
FREQUENCY: Final = 1e6
SLOW, STILL = 4, 7  # pairs of a head: one turns by a thousandth for each token, one hardly at all

Array = npt.NDArray[np.float32]

_CONTROL: Final = ["<|im_start|>", "<|im_end|>", "<|image>", "<image|>", "<|audio>", "<audio|>"]
_TOKENS: Final = [*TOKENS[:-2], *(f"{colour}Ġ" for colour in COLOURS), *_CONTROL]
_END: Final = _TOKENS.index("<|im_end|>")


def write_pair(directory: Path, *, grid: bool = False) -> tuple[Path, Path]:
    """The model and its projector; with ``grid`` those of the second pair."""
    name = "seeing-grid" if grid else "seeing"
    model, projector = directory / f"{name}.gguf", directory / f"{name}-mmproj.gguf"
    _write(gguf.GGUFWriter(model, "qwen2vl" if grid else "llama"), _model_facts, _model_tensors(grid), grid)
    tensors = _grid_tensors() if grid else _projector_tensors()
    _write(gguf.GGUFWriter(projector, "clip"), _projector_facts, tensors, grid)
    return model, projector


def _write(writer: gguf.GGUFWriter, facts: Any, tensors: dict[str, Array], grid: bool) -> None:
    facts(writer, grid)
    for name, values in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# -- the model ---------------------------------------------------------------------------------------------------------


def _model_facts(writer: gguf.GGUFWriter, grid: bool) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)
    if grid:
        writer.add_rope_dimension_sections([STILL - 1, 1, 1, 0])
    writer.add_rope_freq_base(FREQUENCY)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(_TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(_TOKENS)
    control = len(_CONTROL)
    writer.add_token_types([gguf.TokenType.NORMAL] * (len(_TOKENS) - control) + [gguf.TokenType.CONTROL] * control)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(_END - 1)
    writer.add_eos_token_id(_END)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _model_tensors(grid: bool) -> dict[str, Array]:
    words = [_TOKENS.index(f"{colour}Ġ") for colour in COLOURS]
    embedding = np.zeros((len(_TOKENS), WIDTH))
    embedding[:, ANY] = 1
    for named, word in zip(NAMED, words, strict=True):
        embedding[word, [named, WORD]] = 1
    q, k, v = (np.zeros((HEADS * HEAD, WIDTH)) for _ in range(3))
    o = np.zeros((WIDTH, HEADS * HEAD))
    # A pair that turns together is two neighbours, or one of each half.
    still, slow, other = (STILL, SLOW, SLOW + HEAD // 2) if grid else (2 * STILL, 2 * SLOW, 2 * SLOW + 1)
    for head, key in enumerate((IMAGE, WORD)):
        q[head * HEAD + still, ANY] = 10  # only at what has the key
        k[head * HEAD + still, key] = 10
    q[other, ANY] = -1.8  # the first head's score grows with the distance
    k[slow, IMAGE] = 1.8
    for n, (seen, named, out) in enumerate(zip(SEEN, NAMED, OUT, strict=True)):
        v[n, seen] = 1
        o[out, n] = 1
        v[HEAD + n, named] = 1
        o[out, HEAD + n] = -1000
    head = np.zeros((len(_TOKENS), WIDTH))
    for out, word in zip(OUT, words, strict=True):
        head[word, out] = 1e5
    head[_END, ANY] = 100  # if no colour is left
    zero = np.zeros((WIDTH, WIDTH))
    biases = {f"blk.0.attn_{name}.bias": np.zeros(WIDTH) for name in "qkv"} if grid else {}
    return {
        **biases,
        "token_embd.weight": embedding,
        "output_norm.weight": np.ones(WIDTH),
        "output.weight": head,
        "blk.0.attn_norm.weight": np.ones(WIDTH),
        "blk.0.attn_q.weight": q,
        "blk.0.attn_k.weight": k,
        "blk.0.attn_v.weight": v,
        "blk.0.attn_output.weight": o,
        "blk.0.ffn_norm.weight": np.ones(WIDTH),
        "blk.0.ffn_gate.weight": zero,
        "blk.0.ffn_up.weight": zero,
        "blk.0.ffn_down.weight": zero,
    }


# -- the projector -----------------------------------------------------------------------------------------------------


def _projector_facts(writer: gguf.GGUFWriter, grid: bool) -> None:
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.vision.projector_type", "qwen2vl_merger" if grid else "gemma4uv")
    writer.add_uint32("clip.vision.image_size", 64)
    writer.add_uint32("clip.vision.patch_size", PATCH)
    writer.add_uint32("clip.vision.projector.scale_factor", 1)
    writer.add_uint32("clip.vision.embedding_length", WIDTH)
    writer.add_uint32("clip.vision.feed_forward_length", WIDTH)
    writer.add_uint32("clip.vision.block_count", int(grid))
    writer.add_uint32("clip.vision.projection_dim", WIDTH)
    writer.add_uint32("clip.vision.attention.head_count", 1)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_array("clip.vision.image_mean", [0.0, 0.0, 0.0])
    writer.add_array("clip.vision.image_std", [1.0, 1.0, 1.0])
    if grid:
        return
    writer.add_bool("clip.has_audio_encoder", True)
    writer.add_string("clip.audio.projector_type", "gemma4ua")
    writer.add_uint32("clip.audio.num_mel_bins", FRAME)
    writer.add_uint32("clip.audio.embedding_length", FRAME)
    writer.add_uint32("clip.audio.feed_forward_length", WIDTH)
    writer.add_uint32("clip.audio.block_count", 0)
    writer.add_uint32("clip.audio.projection_dim", WIDTH)
    writer.add_uint32("clip.audio.attention.head_count", 1)
    writer.add_float32("clip.audio.attention.layer_norm_epsilon", 1e-6)


def _projector_tensors() -> dict[str, Array]:
    """The steps before the last are fixed; the last is solved for what shall come out for the three colours. What is
    grey comes out as all of them."""
    area = PATCH * PATCH
    patches = np.zeros((WIDTH, 3 * area))
    for n in range(3):
        patches[n, n * area : (n + 1) * area] = 1 / area
    bias = np.linspace(-0.5, 0.5, WIDTH)
    kinds = np.repeat(np.eye(3), area, axis=1)
    inside = _norm(_norm(_norm(kinds) @ patches.T + bias))
    inside /= np.sqrt((inside**2).mean(axis=1, keepdims=True) + 1e-6)
    wanted = np.zeros((3, WIDTH))
    wanted[:, [IMAGE, ANY]] = 1
    wanted[[0, 1, 2], SEEN] = 1
    return {
        "v.patch_embd.weight": patches,
        "v.patch_embd.bias": bias,
        "v.position_embd.weight": np.zeros((2, 1024, WIDTH)),
        "v.patch_norm.1.weight": np.ones(3 * area),
        "v.patch_norm.1.bias": np.zeros(3 * area),
        "v.patch_norm.2.weight": np.ones(WIDTH),
        "v.patch_norm.2.bias": np.zeros(WIDTH),
        "v.patch_norm.3.weight": np.ones(WIDTH),
        "v.patch_norm.3.bias": np.zeros(WIDTH),
        "mm.input_projection.weight": (np.linalg.pinv(inside) @ wanted).T,
        "mm.a.input_projection.weight": wanted.T @ _tones() / FRAME,
    }


def _tones() -> Array:
    """A frame of each, as loud as the projector makes every frame."""
    times = np.arange(FRAME) / RATE
    return np.sqrt(2) * np.sin(2 * np.pi * np.outer(list(TONES.values()), times))


def _grid_tensors() -> dict[str, Array]:
    """Four patches become one embedding: the mean of each colour, and a constant, through a GELU that is nearly the
    identity for what is large."""
    kernels = np.zeros((WIDTH, 3, PATCH, PATCH))
    merge, bias, out = np.zeros((WIDTH, 4 * WIDTH)), np.zeros(WIDTH), np.zeros((WIDTH, WIDTH))
    for n in range(3):
        kernels[n, n] = 1 / PATCH**2
        merge[n, n::WIDTH] = 10 / 4
        out[n, n] = 1 / 10
    bias[3] = 10
    out[[IMAGE, ANY], 3] = 1 / 10
    layer: dict[str, Array] = {}  # that adds nothing; without one llama.cpp misses its positions
    for norm in ("ln1", "ln2"):
        layer |= {f"v.blk.0.{norm}.weight": np.ones(WIDTH), f"v.blk.0.{norm}.bias": np.zeros(WIDTH)}
    for linear in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_up", "ffn_down"):
        layer |= {f"v.blk.0.{linear}.weight": np.zeros((WIDTH, WIDTH)), f"v.blk.0.{linear}.bias": np.zeros(WIDTH)}
    return {
        **layer,
        "v.patch_embd.weight": kernels,
        "v.patch_embd.weight.1": np.zeros_like(kernels),
        "mm.0.weight": merge,
        "mm.0.bias": bias,
        "mm.2.weight": out,
        "mm.2.bias": np.zeros(WIDTH),
    }


def _norm(rows: Array) -> Array:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)


if __name__ == "__main__":
    print(*write_pair(Path(sys.argv[1])), *write_pair(Path(sys.argv[1]), grid=True), sep="\n")
