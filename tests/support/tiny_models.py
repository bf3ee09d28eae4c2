"""Tiny GGUF models of the architectures that people run, with random weights: ``python -m support.tiny_models DIR``.

Each is a page of its own: hyperparameters as llama.cpp reads them from the file, and the tensors of a layer by name and
shape. The vocabulary is a real one of its kind: GPT-2's byte-level BPE with a few merges and two control tokens. A
file is some hundred kilobytes, loads in milliseconds, and means nothing by what it says. What it says is decided
clearly, though: the head is scaled so that likely tokens differ by more than kernels round.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

__all__ = ["ARCHITECTURES", "CONTEXT", "END", "MERGES", "TOKENS", "VOCABULARY", "write"]

CONTEXT: Final = 512  # tokens
WIDTH, HEADS, KV_HEADS, HEAD, HIDDEN = 64, 4, 2, 16, 96
CONV, STATE, INNER, GROUPS, SSM_HEADS = 4, 16, 128, 1, 8
EXPERTS, USED = 8, 4
DECIDED: Final = 6.0  # standard deviation of the logits

Shapes = Iterator[tuple[str, tuple[int, ...]]]


# -- the vocabulary ----------------------------------------------------------------------------------------------------


def _vocabulary() -> tuple[list[str], list[str]]:
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(byte) for byte in itself] + [chr(0x100 + n) for n in range(256 - len(itself))]
    merges = ["t h", "th e", "i n", "a n", "an d", "Ġ the", "Ġ and", "e r", "o n", "Ġ in", "r e", "Ġ a", "i s", "Ġ is"]
    return [*letters, *(merge.replace(" ", "") for merge in merges), "<|im_start|>", "<|im_end|>"], merges


TOKENS, MERGES = _vocabulary()
VOCABULARY: Final = len(TOKENS)
END: Final = VOCABULARY - 1


# -- layers ------------------------------------------------------------------------------------------------------------


def norms(*names: str, width: int = WIDTH) -> Shapes:
    yield from ((f"{name}.weight", (width,)) for name in names)


def attention(*, bias: bool = False, normed: int = 0, gated: bool = False, kv_heads: int = KV_HEADS) -> Shapes:
    """``normed``: the width over which queries' and keys' norms go."""
    for name, width in (("q", HEADS * HEAD * (1 + gated)), ("k", kv_heads * HEAD), ("v", kv_heads * HEAD)):
        yield f"attn_{name}.weight", (width, WIDTH)
        if bias:
            yield f"attn_{name}.bias", (width,)
    yield "attn_output.weight", (WIDTH, HEADS * HEAD)
    if normed:
        yield "attn_q_norm.weight", (normed,)
        yield "attn_k_norm.weight", (normed,)


def mlp(*, gate: bool = True) -> Shapes:
    if gate:
        yield "ffn_gate.weight", (HIDDEN, WIDTH)
    yield "ffn_up.weight", (HIDDEN, WIDTH)
    yield "ffn_down.weight", (WIDTH, HIDDEN)


def experts() -> Shapes:
    yield "ffn_gate_inp.weight", (EXPERTS, WIDTH)
    yield "ffn_gate_exps.weight", (EXPERTS, HIDDEN, WIDTH)
    yield "ffn_up_exps.weight", (EXPERTS, HIDDEN, WIDTH)
    yield "ffn_down_exps.weight", (EXPERTS, WIDTH, HIDDEN)


def mamba() -> Shapes:
    rank = WIDTH // 16
    yield "ssm_in.weight", (2 * INNER, WIDTH)
    yield "ssm_conv1d.weight", (INNER, CONV)
    yield "ssm_conv1d.bias", (INNER,)
    yield "ssm_x.weight", (rank + 2 * STATE, INNER)
    yield "ssm_dt.weight", (INNER, rank)
    yield "ssm_dt.bias", (INNER,)
    yield "ssm_a", (INNER, STATE)
    yield "ssm_d", (INNER,)
    yield "ssm_out.weight", (WIDTH, INNER)


def mamba2(*, norm: bool = True) -> Shapes:
    convolved = INNER + 2 * GROUPS * STATE
    yield "ssm_in.weight", (2 * INNER + 2 * GROUPS * STATE + SSM_HEADS, WIDTH)
    yield "ssm_conv1d.weight", (convolved, CONV)
    yield "ssm_conv1d.bias", (convolved,)
    yield "ssm_dt.bias", (SSM_HEADS,)
    yield "ssm_a", (SSM_HEADS, 1)
    yield "ssm_d", (SSM_HEADS, 1)
    if norm:
        yield "ssm_norm.weight", (GROUPS, INNER // GROUPS)
    yield "ssm_out.weight", (WIDTH, INNER)


def delta_net() -> Shapes:
    """Qwen 3.5's linear attention: as many heads for keys as for values, of STATE wide."""
    keys = GROUPS * 2 * STATE
    values = GROUPS * 2 * STATE
    yield "attn_qkv.weight", (2 * keys + values, WIDTH)
    yield "attn_gate.weight", (values, WIDTH)
    yield "ssm_conv1d.weight", (2 * keys + values, CONV)
    yield "ssm_dt.bias", (GROUPS * 2,)
    yield "ssm_a", (GROUPS * 2,)
    yield "ssm_beta.weight", (GROUPS * 2, WIDTH)
    yield "ssm_alpha.weight", (GROUPS * 2, WIDTH)
    yield "ssm_norm.weight", (STATE,)
    yield "ssm_out.weight", (WIDTH, values)


def short_convolution() -> Shapes:
    yield "shortconv.conv.weight", (WIDTH, CONV - 1)
    yield "shortconv.in_proj.weight", (3 * WIDTH, WIDTH)
    yield "shortconv.out_proj.weight", (WIDTH, WIDTH)


# -- architectures -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Architecture:
    """``layer(number)`` gives the tensors of a layer. ``facts`` are keys behind the architecture's name. ``gain`` makes
    layers louder: with a tied head every token is followed by itself where they do not drown it."""

    name: str
    layer: Callable[[int], Shapes]
    layers: int = 2
    tied: bool = False
    gain: float = 1.0
    output_norm: str = "output_norm"
    facts: dict[str, Any] = field(default_factory=dict)


def _dense(number: int) -> Shapes:
    yield from norms("attn_norm", "ffn_norm")
    yield from attention()
    yield from mlp()


def _qwen2(number: int) -> Shapes:
    yield from norms("attn_norm", "ffn_norm")
    yield from attention(bias=True)
    yield from mlp()


def _qwen3(number: int) -> Shapes:
    yield from norms("attn_norm", "ffn_norm")
    yield from attention(normed=HEAD)
    yield from mlp()


def _gemma3(number: int) -> Shapes:
    yield from norms("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")
    yield from attention(normed=HEAD)
    yield from mlp()


def _mixtral(number: int) -> Shapes:
    yield from norms("attn_norm", "ffn_norm")
    yield from attention()
    yield from experts()


def _qwen3moe(number: int) -> Shapes:
    yield from norms("attn_norm", "ffn_norm")
    yield from attention(normed=HEAD)
    yield from experts()


def _olmoe(number: int) -> Shapes:
    yield from norms("attn_norm", "ffn_norm")
    yield from attention(normed=HEADS * HEAD, kv_heads=HEADS)
    yield from experts()


def _mamba(number: int) -> Shapes:
    yield from norms("attn_norm")
    yield from mamba()


def _mamba2(number: int) -> Shapes:
    yield from norms("attn_norm")
    yield from mamba2()


def _granite_hybrid(number: int) -> Shapes:
    yield from norms("attn_norm", "ffn_norm")
    yield from attention() if number % 2 else mamba2()
    yield from mlp()


def _falcon_h1(number: int) -> Shapes:
    yield from norms("attn_norm")
    yield "ffn_norm", (WIDTH,)  # without a suffix in real files too
    yield from attention()
    yield from mamba2()
    yield from mlp()


def _lfm2(number: int) -> Shapes:
    yield from norms("attn_norm", "ffn_norm")
    yield from attention(normed=HEAD) if number % 2 else short_convolution()
    yield from mlp()


def _qwen35(number: int) -> Shapes:
    yield from norms("attn_norm", "post_attention_norm")
    yield from attention(normed=HEAD, gated=True) if number % 4 == 3 else delta_net()
    yield from mlp()


ENDS_OF_BRANCHES: Final = ("attn_output", "ffn_down", "ssm_out", "shortconv.out", "post_")

HEADED: Final = {
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV_HEADS,
    "attention.key_length": HEAD,
    "attention.value_length": HEAD,
    "rope.dimension_count": HEAD,
}
SSM: Final = {"ssm.conv_kernel": CONV, "ssm.state_size": STATE, "ssm.inner_size": INNER}
SSM2: Final = {**SSM, "ssm.group_count": GROUPS, "ssm.time_step_rank": SSM_HEADS}
OF_EXPERTS: Final = {"expert_count": EXPERTS, "expert_used_count": USED, "expert_feed_forward_length": HIDDEN}
ALTERNATING: Final = {**HEADED, "attention.head_count_kv": [0, KV_HEADS]}

ARCHITECTURES: Final = {
    "llama": Architecture("llama", _dense, facts=HEADED),
    "llama-tied": Architecture("llama", _dense, tied=True, gain=4.0, facts=HEADED),
    "qwen2": Architecture("qwen2", _qwen2, facts=HEADED),
    "qwen3": Architecture("qwen3", _qwen3, tied=True, gain=4.0, facts=HEADED),
    "gemma3": Architecture("gemma3", _gemma3, 7, tied=True, gain=8.0, facts={**HEADED, "attention.sliding_window": 32}),
    "mixtral": Architecture("llama", _mixtral, facts={**HEADED, **OF_EXPERTS}),
    "qwen3moe": Architecture("qwen3moe", _qwen3moe, facts={**HEADED, **OF_EXPERTS}),
    "olmoe": Architecture("olmoe", _olmoe, facts={**HEADED, **OF_EXPERTS, "attention.head_count_kv": HEADS}),
    "mamba": Architecture("mamba", _mamba, tied=True, gain=4.0, facts={**SSM, "ssm.time_step_rank": WIDTH // 16}),
    "mamba2": Architecture("mamba2", _mamba2, facts=SSM2),
    "granite-hybrid": Architecture("granitehybrid", _granite_hybrid, facts={**ALTERNATING, **SSM2}),
    "falcon-h1": Architecture("falcon-h1", _falcon_h1, facts={**HEADED, **SSM2}),
    "lfm2": Architecture(
        "lfm2",
        _lfm2,
        tied=True,
        gain=4.0,
        output_norm="token_embd_norm",
        facts={**ALTERNATING, "shortconv.l_cache": CONV - 1},
    ),
    "qwen35": Architecture(
        "qwen35",
        _qwen35,
        4,
        facts={
            **HEADED,
            "ssm.conv_kernel": CONV,
            "ssm.state_size": STATE,
            "ssm.inner_size": 2 * STATE,
            "ssm.group_count": 2,
            "ssm.time_step_rank": 2,
            "full_attention_interval": 4,
            "rope.dimension_sections": [4, 2, 2, 0],
        },
    ),
}


# -- files -------------------------------------------------------------------------------------------------------------


def write(name: str, path: Path, *, seed: int = 1, part: int = 0) -> Path:
    """Write the architecture ``name`` of ``ARCHITECTURES`` as a GGUF file, or with ``part`` as several, of so many
    tensors each; returns the first."""
    one, random = ARCHITECTURES[name], np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, one.name, split_max_tensors=part)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(one.layers)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    for key, value in one.facts.items():
        add = writer.add_array if isinstance(value, list) else writer.add_uint32
        add(f"{one.name}.{key}", value)
    if "attention.head_count" not in one.facts:
        writer.add_head_count(0)
    _write_vocabulary(writer)
    _add(writer, random, "token_embd.weight", (VOCABULARY, WIDTH))
    _add(writer, random, f"{one.output_norm}.weight", (WIDTH,))
    if not one.tied:
        _add(writer, random, "output.weight", (VOCABULARY, WIDTH))
    for number in range(one.layers):
        for tensor, shape in one.layer(number):
            gain = one.gain if tensor.startswith(ENDS_OF_BRANCHES) else 1.0
            _add(writer, random, f"blk.{number}.{tensor}", shape, gain)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return min(path.parent.glob(f"{path.stem}-00001-of-*.gguf")) if part else path


def write_adapter(model: Path, path: Path, *, seed: int = 1, rank: int = 4, after: Sequence[int] = ()) -> Path:
    """Write a LoRA adapter of every matrix in the blocks of ``model``, which changes what it says; with ``after`` one
    that works only after these tokens."""
    random = np.random.default_rng(seed)
    read = gguf.GGUFReader(model)
    writer = gguf.GGUFWriter(path, bytes(read.fields["general.architecture"].parts[-1]).decode())
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0 * rank)
    if after:
        writer.add_key_value(
            "adapter.alora.invocation_tokens", list(after), gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32
        )
    for tensor in read.tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) == 2:
            width, height = map(int, tensor.shape)
            for end, shape, gain in (("lora_a", (rank, width), width**-0.5), ("lora_b", (height, rank), 0.5)):
                values = gain * random.standard_normal(shape)
                writer.add_tensor(f"{tensor.name}.{end}", values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_vocabulary(writer: gguf.GGUFWriter) -> None:
    control = VOCABULARY - 2
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.NORMAL] * control + [gguf.TokenType.CONTROL] * 2)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(control)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(False)


def _add(
    writer: gguf.GGUFWriter, random: np.random.Generator, name: str, shape: tuple[int, ...], gain: float = 1
) -> None:
    """Norms near one, state matrices negative, everything else so that variances stay what they are."""
    values = random.standard_normal(shape).astype(np.float32)
    if "norm" in name:
        values = gain * (1 + values / 10)
    elif name.endswith("ssm_a"):
        values = -np.exp(values / 2).astype(np.float32)
    elif "gate_inp" in name:
        values *= 4 / np.sqrt(shape[-1])  # decided too: whoever is just chosen, or just not, hardly counts
    elif name.endswith(".bias"):
        values /= 10
    elif name in ("output.weight", "token_embd.weight"):
        values *= DECIDED / np.sqrt(WIDTH)
    else:
        values *= gain / np.sqrt(shape[-1])
    writer.add_tensor(name, values)


if __name__ == "__main__":
    for one in ARCHITECTURES:
        print(write(one, Path(sys.argv[1]) / f"{one}.gguf"))
