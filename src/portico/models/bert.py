"""A sentence-transformers BERT checkpoint as a GGUF file that llama.cpp can run.

In: a directory with ``config.json``, ``model.safetensors``, ``tokenizer.json``, ``pooling.json`` and ``modules.json``.
Out: one GGUF file of architecture ``bert`` with the weights, the WordPiece vocabulary and the pooling, named and laid
out as llama.cpp's own converter does it. Matrices become float16; position and type embeddings, biases and norms stay
float32, because llama.cpp adds those element by element.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from portico.models.errors import PullError
from portico.models.wheel import Progress

__all__ = ["NORMALIZE_KEY", "convert", "read_safetensors", "unpadded_tokenizer"]

NORMALIZE_KEY = "bert.normalize_embeddings"
"""Metadata key of our own: true when the checkpoint ends in an L2 normalisation. GGUF has no standard key for that."""

_NUMPY_TYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64}
_NOT_WEIGHTS = ("embeddings.position_ids", "pooler.")  # a constant range, and a head that sentence embeddings skip
_ADDED_ELEMENTWISE = ("embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight")
_WORD_START = "\u2581"


def convert(checkpoint: Path, target: Path, *, name: str, licence: str, progress: Progress) -> None:
    """Write the checkpoint in the directory ``checkpoint`` to the GGUF file ``target``.

    Raises ``PullError`` for a checkpoint that is not an absolute-position BERT encoder with mean or CLS pooling.
    """
    config = json.loads((checkpoint / "config.json").read_bytes())
    if config.get("model_type") != "bert" or config.get("position_embedding_type", "absolute") != "absolute":
        raise PullError("only BERT encoders with absolute position embeddings can be converted")
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.BERT])
    writer.add_name(name)
    writer.add_license(licence.lower())
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(_pooling(json.loads((checkpoint / "pooling.json").read_bytes())))
    modules = json.loads((checkpoint / "modules.json").read_bytes())
    writer.add_bool(NORMALIZE_KEY, any(module["type"].endswith(".Normalize") for module in modules))
    _add_vocabulary(writer, json.loads((checkpoint / "tokenizer.json").read_bytes()), config["type_vocab_size"])

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config["num_hidden_layers"])
    weights = checkpoint / "model.safetensors"
    done, total = 0, weights.stat().st_size
    for source_name, tensor in read_safetensors(weights):
        done += tensor.nbytes
        progress("converting", done, total)
        if source_name.startswith(_NOT_WEIGHTS):
            continue
        target_name = names.get_name(source_name, try_suffixes=(".weight", ".bias"))
        if target_name is None:
            raise PullError(f"the checkpoint has a tensor that a BERT encoder does not: {source_name}")
        is_matrix = tensor.ndim > 1 and source_name not in _ADDED_ELEMENTWISE
        writer.add_tensor(target_name, tensor.astype(np.float16 if is_matrix else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _pooling(config: dict[str, Any]) -> gguf.PoolingType:
    modes = {key for key, on in config.items() if key.startswith("pooling_mode_") and on}
    if modes == {"pooling_mode_mean_tokens"}:
        return gguf.PoolingType.MEAN
    if modes == {"pooling_mode_cls_token"}:
        return gguf.PoolingType.CLS
    raise PullError("the checkpoint pools in a way that llama.cpp does not know")


def _add_vocabulary(writer: gguf.GGUFWriter, tokenizer: dict[str, Any], type_count: int) -> None:
    """WordPiece as llama.cpp wants it: the mark is on tokens that start a word, not on those that continue one."""
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    pieces = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    prefix = tokenizer["model"]["continuing_subword_prefix"]

    def spelling(piece: str) -> str:
        if piece in special:
            return piece
        return piece[len(prefix) :] if piece.startswith(prefix) else _WORD_START + piece

    writer.add_tokenizer_model("bert")
    writer.add_token_type_count(type_count)
    writer.add_token_list([spelling(piece) for piece, _ in pieces])
    writer.add_token_types(
        [gguf.TokenType.CONTROL if piece in special else gguf.TokenType.NORMAL for piece, _ in pieces]
    )
    writer.add_bos_token_id(special["[CLS]"])
    writer.add_eos_token_id(special["[SEP]"])
    writer.add_unk_token_id(special["[UNK]"])
    writer.add_sep_token_id(special["[SEP]"])
    writer.add_pad_token_id(special["[PAD]"])
    writer.add_mask_token_id(special["[MASK]"])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)


def unpadded_tokenizer(source: bytes) -> bytes:
    """A ``tokenizer.json`` without its padding and truncation, which are a training batch's and not the model's."""
    return json.dumps({**json.loads(source), "truncation": None, "padding": None}, ensure_ascii=False).encode()


def read_safetensors(path: Path) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """The tensors of a safetensors file, in file order, mapped and not read.

    The format (https://github.com/huggingface/safetensors): eight bytes of header length, little-endian; a JSON header
    of ``{name: {dtype, shape, data_offsets}}`` with offsets from the end of the header; the data.
    """
    data = np.memmap(path, dtype=np.uint8, mode="r")
    header_end = 8 + int(data[:8].view("<u8")[0])
    header = json.loads(data[8:header_end].tobytes())
    header.pop("__metadata__", None)
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = (header_end + offset for offset in entry["data_offsets"])
        if entry["dtype"] not in _NUMPY_TYPES:
            raise PullError(f"{path.name}: tensor {name} has element type {entry['dtype']}, which is not supported")
        yield name, data[start:end].view(_NUMPY_TYPES[entry["dtype"]]).reshape(entry["shape"])
