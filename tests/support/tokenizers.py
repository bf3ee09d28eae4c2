"""Tiny tokenizers of every kind, made on the spot, and the shared corpus unpacked once."""

from __future__ import annotations

import atexit
import base64
import gzip
import io
import json
import random
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from portico.prompting.tokenizers import Tokenizer as PorticoTokenizer
from portico.prompting.tokenizers import load_tokenizer
from portico.prompting.tokenizers.byte_table import BYTE_LEVEL_ALPHABET
from support.shared import shared_path

LINES = [
    "the quick brown fox jumps over the lazy dog, and the dog doesn't mind",
    "She said: \u201cI don't know.\u201d Then she knew; they've been there!",
    "na\u00efve caf\u00e9 cr\u00e8me br\u00fbl\u00e9e, \u00c5ngstr\u00f6m, stra\u00dfe",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8 \u4e2d\u6587 \ud55c\uad6d\uc5b4",
    "x = [i for i in range(10)]  # 3.14159\n\n\treturn x",
    "\U0001f680\U0001f30d \u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440",
] * 3
SPECIALS = ["<s>", "</s>", "<unk>", "<|tool|>"]
ADDED = "<think>"  # added, but not special


# -- Hugging Face -----------------------------------------------------------------------------------------------------


def _saved(tokenizer: Tokenizer, path: Path, **config: Any) -> Path:
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIALS])
    tokenizer.add_tokens([AddedToken(ADDED, normalized=False)])
    path.mkdir()
    tokenizer.save(str(path / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **config}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


def byte_level(path: Path) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=SPECIALS, initial_alphabet=list(BYTE_LEVEL_ALPHABET), show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return _saved(tokenizer, path)


def _byte_fallback(path: Path, *, llama: bool) -> Path:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    replace = normalizers.Replace(" ", "\u2581")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), replace]) if llama else replace
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=[*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))],
        limit_alphabet=60,
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    content = json.loads(tokenizer.to_str())  # the byte tokens are in the model; as added tokens they would be text
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if llama else steps)
    return _saved(tokenizer, path)


def llama_like(path: Path) -> Path:
    return _byte_fallback(path, llama=True)


def gemma_like(path: Path) -> Path:
    return _byte_fallback(path, llama=False)


def metaspace_unigram(path: Path) -> Path:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    return _saved(tokenizer, path)


def word_piece(path: Path) -> Path:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        LINES, trainers.WordPieceTrainer(vocab_size=300, special_tokens=SPECIALS, show_progress=False)
    )
    return _saved(tokenizer, path)


def no_decoder(path: Path) -> Path:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(vocab_size=200, special_tokens=SPECIALS, show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    return _saved(tokenizer, path)


def word_ends(path: Path) -> Path:
    """BPE whose words end with a mark, as in CLIP: the decoder looks ahead, so there is no byte table."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIALS, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return _saved(tokenizer, path)


def rewritten_bytes(path: Path) -> Path:
    """Byte-level, but rewritten by a second step: partial characters, and no byte table."""
    source = byte_level(path.with_name(path.name + "-source"))
    content = json.loads((source / "tokenizer.json").read_text())
    second = {"type": "Replace", "pattern": {"Regex": "\u2003+"}, "content": ""}
    content["decoder"] = {"type": "Sequence", "decoders": [content["decoder"], second]}
    path.mkdir()
    (path / "tokenizer.json").write_text(json.dumps(content))
    return path


HUGGING_FACE: dict[str, Callable[[Path], Path]] = {
    "byte_level": byte_level,
    "llama_like": llama_like,
    "gemma_like": gemma_like,
    "metaspace_unigram": metaspace_unigram,
    "word_piece": word_piece,
    "no_decoder": no_decoder,
    "word_ends": word_ends,
    "rewritten_bytes": rewritten_bytes,
}


# -- SentencePiece ----------------------------------------------------------------------------------------------------


def _sentencepiece(path: Path, **options: Any) -> Path:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 4),
        model_writer=model,
        character_coverage=0.98,
        control_symbols=["[INST]", "[/INST]"],
        minloglevel=2,
        hard_vocab_limit=False,
        **options,
    )
    path.mkdir()
    (path / "tokenizer.model").write_bytes(model.getvalue())
    return path


def sp_bpe(path: Path) -> Path:
    return _sentencepiece(
        path,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
    )


def sp_unigram(path: Path) -> Path:
    return _sentencepiece(path, model_type="unigram", vocab_size=120)


SENTENCEPIECE: dict[str, Callable[[Path], Path]] = {"sp_bpe": sp_bpe, "sp_unigram": sp_unigram}


# -- byte vocabularies of other makers --------------------------------------------------------------------------------


def _byte_pieces() -> list[bytes]:
    words = sorted({word for line in LINES for word in line.split()})
    merged = [" the", "the", " th", "th", "he", " d", "do", "og", "dog", " dog", *words]
    pieces = [bytes([byte]) for byte in range(256)]
    for text in merged:  # every prefix first, so that byte pair encoding can reach the whole
        data = text.encode()
        pieces += [data[:end] for end in range(2, len(data) + 1)]
    return list(dict.fromkeys(pieces))


def tiktoken_file(path: Path) -> Path:
    path.mkdir()
    file = path / "small.tiktoken"
    file.write_bytes(b"".join(base64.b64encode(piece) + b" %d\n" % i for i, piece in enumerate(_byte_pieces())))
    return file


def tekken(path: Path) -> Path:
    pieces = _byte_pieces()
    named = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    content = {
        "config": {
            "pattern": r"[^\s]+|\s+",
            "num_vocab_tokens": len(pieces),
            "default_vocab_size": len(pieces) + 10,
            "default_num_special_tokens": 10,
            "version": "v13",
        },
        "vocab": [
            {"rank": i, "token_bytes": base64.b64encode(piece).decode(), "token_str": None}
            for i, piece in enumerate(pieces)
        ],
        "special_tokens": [{"rank": i, "token_str": text, "is_control": True} for i, text in enumerate(named)],
    }
    path.mkdir()
    (path / "tekken.json").write_text(json.dumps(content))
    return path


def rwkv(path: Path) -> Path:
    lines = []
    for i, piece in enumerate(_byte_pieces(), start=1):
        try:
            spelled = repr(piece.decode())
        except UnicodeDecodeError:
            spelled = repr(piece)
        lines.append(f"{i} {spelled} {len(piece)}\n")
    path.mkdir()
    (path / "rwkv_vocab.txt").write_text("".join(lines), encoding="utf-8", newline="\n")
    return path


BYTES: dict[str, Callable[[Path], Path]] = {"tekken": tekken, "rwkv": rwkv}


# -- GGUF -------------------------------------------------------------------------------------------------------------


def write_gguf(
    path: Path,
    model: str,
    tokens: Sequence[str],
    *,
    pre: str | None = None,
    types: Sequence[int] | None = None,
    scores: Sequence[float] | None = None,
    merges: Sequence[str] | None = None,
    architecture: str = "llama",
    **keys: Any,
) -> Path:
    """A GGUF file with a vocabulary and nothing else; ``keys`` are further ``tokenizer.ggml`` keys."""
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_tokenizer_model(model)
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(list(tokens))
    if scores is not None:
        writer.add_token_scores(list(scores))
    if types is not None:
        writer.add_token_types(list(types))
    if merges is not None:
        writer.add_token_merges(list(merges))
    for key, value in keys.items():
        key = f"tokenizer.ggml.{key}"
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, bytes):
            writer.add_key_value(key, list(value), gguf.GGUFValueType.ARRAY, sub_type=gguf.GGUFValueType.UINT8)
        else:
            writer.add_string(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_from_tokenizer_json(path: Path, tokenizer_json: Path, *, model: str, pre: str | None, **keys: Any) -> Path:
    """The BPE vocabulary of a ``tokenizer.json`` as a GGUF file."""
    content = json.loads(tokenizer_json.read_bytes())
    vocabulary: dict[str, int] = content["model"]["vocab"]
    added = {token["id"]: token for token in content["added_tokens"]}
    by_id = {i: token for token, i in vocabulary.items()} | {i: token["content"] for i, token in added.items()}
    tokens = [by_id.get(i, f"[PAD{i}]") for i in range(max(by_id) + 1)]
    types = [_type(token, i in by_id, added.get(i)) for i, token in enumerate(tokens)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]
    return write_gguf(path, model, tokens, pre=pre, types=types, merges=merges, **keys)


def _type(token: str, known: bool, added: dict[str, Any] | None) -> int:
    if added is not None:
        return 3 if added["special"] else 4
    if token.startswith("<0x") and len(token) == 6:
        return 6
    return 1 if known else 5


def gguf_from_sentencepiece(path: Path, model_file: Path, *, model: str = "llama", **keys: Any) -> Path:
    """A SentencePiece model as a GGUF file."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
    ids = list(range(processor.get_piece_size()))
    types = [1] * len(ids)
    for kind, flags in (
        (2, processor.is_unknown(ids)),
        (3, processor.is_control(ids)),
        (5, processor.is_unused(ids)),
        (6, processor.is_byte(ids)),
    ):
        types = [kind if flag else before for flag, before in zip(flags, types, strict=True)]
    pieces, scores = processor.id_to_piece(ids), processor.get_score(ids)
    return write_gguf(path, model, pieces, types=types, scores=scores, unknown_token_id=0, **keys)


# -- the shared corpus ------------------------------------------------------------------------------------------------


@cache
def unpacked() -> Path:
    """The real tokenizers: a directory each. Unpacked once for all tests of a run, removed at its end."""
    archive = shared_path("corpus/tokenizers.tar.xz")
    scratch = tempfile.TemporaryDirectory(prefix="portico-tokenizers-")
    atexit.register(scratch.cleanup)
    with tarfile.open(archive) as tar:
        tar.extractall(scratch.name, filter="data")
    return Path(scratch.name)


@cache
def real(name: str) -> PorticoTokenizer:
    """The real tokenizer ``name``, loaded once."""
    return load_tokenizer(unpacked() / name)


@cache
def golden_rows() -> dict[str, list[dict[str, Any]]]:
    """Token streams with their reference decode, by tokenizer."""
    rows: dict[str, list[dict[str, Any]]] = {}
    with gzip.open(shared_path("corpus/golden_detok.jsonl.gz"), "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            rows.setdefault(row["tokenizer"], []).append(row)
    return rows


CORPUS_NAMES = [
    "all_minilm_l6_v2",
    "deepseek_v3",
    "gpt_oss",
    "llama2",
    "mistral_nemo",
    "qwen3",
    "rwkv_world",
    "smollm2",
    "sp_botchan_unigram",
    "sp_kyoto_unigram",
    "sp_mistral_v3",
    "tekken_240718",
    "tt_qwen",
    "tt_whisper_multilingual",
    "xlmr_unigram",
    "yi",
]


def cut(ids: Sequence[int], step: int, chance: random.Random) -> list[list[int]]:
    """``ids`` in pieces of ``step``; 0 is random lengths."""
    pieces: list[list[int]] = []
    start = 0
    while start < len(ids):
        length = step or chance.randint(1, 7)
        pieces.append(list(ids[start : start + length]))
        start += length
    return pieces
