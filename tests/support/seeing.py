"""A pair of GGUF files that can see, constructed: ``python -m support.seeing DIR`` writes ``seeing.gguf`` and
``seeing-mmproj.gguf``.

The projector (of an architecture without an encoder: Gemma 4's unified one) maps a patch of pure red, green or blue to
an embedding of its own, by weights that are computed for it. The model has one layer of two heads. The first looks at
patches, the farther back the more, and writes their colours where the head of the vocabulary reads them; the second
looks at the colours that were named already, and takes them out. So it names the colours of a conversation's images
in the order in which they stand, each once, and then ends its turn: ``red green ``. It reads nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt

from support.tiny_models import MERGES, TOKENS

__all__ = ["COLOURS", "CONTEXT", "TEMPLATE", "write_pair"]

COLOURS: Final = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
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

_CONTROL: Final = ["<|im_start|>", "<|im_end|>", "<|image>", "<image|>"]
_TOKENS: Final = [*TOKENS[:-2], *(f"{colour}Ġ" for colour in COLOURS), *_CONTROL]
_END: Final = _TOKENS.index("<|im_end|>")


def write_pair(directory: Path) -> tuple[Path, Path]:
    """The model and its projector."""
    model, projector = directory / "seeing.gguf", directory / "seeing-mmproj.gguf"
    _write(gguf.GGUFWriter(model, "llama"), _model_facts, _model_tensors())
    _write(gguf.GGUFWriter(projector, "clip"), _projector_facts, _projector_tensors())
    return model, projector


def _write(writer: gguf.GGUFWriter, facts: Any, tensors: dict[str, Array]) -> None:
    facts(writer)
    for name, values in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# -- the model ---------------------------------------------------------------------------------------------------------


def _model_facts(writer: gguf.GGUFWriter) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)
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


def _model_tensors() -> dict[str, Array]:
    words = [_TOKENS.index(f"{colour}Ġ") for colour in COLOURS]
    embedding = np.zeros((len(_TOKENS), WIDTH))
    embedding[:, ANY] = 1
    for named, word in zip(NAMED, words, strict=True):
        embedding[word, [named, WORD]] = 1
    q, k, v = (np.zeros((HEADS * HEAD, WIDTH)) for _ in range(3))
    o = np.zeros((WIDTH, HEADS * HEAD))
    for head, key in enumerate((IMAGE, WORD)):
        q[head * HEAD + 2 * STILL, ANY] = 10  # only at what has the key
        k[head * HEAD + 2 * STILL, key] = 10
    q[2 * SLOW + 1, ANY] = -1.8  # the first head's score grows with the distance
    k[2 * SLOW, IMAGE] = 1.8
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
    return {
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


def _projector_facts(writer: gguf.GGUFWriter) -> None:
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "gemma4uv")
    writer.add_uint32("clip.vision.image_size", 64)
    writer.add_uint32("clip.vision.patch_size", PATCH)
    writer.add_uint32("clip.vision.projector.scale_factor", 1)
    writer.add_uint32("clip.vision.embedding_length", WIDTH)
    writer.add_uint32("clip.vision.feed_forward_length", WIDTH)
    writer.add_uint32("clip.vision.block_count", 0)
    writer.add_uint32("clip.vision.projection_dim", WIDTH)
    writer.add_uint32("clip.vision.attention.head_count", 1)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_array("clip.vision.image_mean", [0.0, 0.0, 0.0])
    writer.add_array("clip.vision.image_std", [1.0, 1.0, 1.0])


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
    }


def _norm(rows: Array) -> Array:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)


if __name__ == "__main__":
    print(*write_pair(Path(sys.argv[1])), sep="\n")
