"""The tokenizer inside a GGUF file, rebuilt from its metadata (keys ``tokenizer.ggml.*``).

``tokenizer.ggml.model`` names the algorithm:

    gpt2     byte-level BPE, cut by the pre-tokenizer that ``tokenizer.ggml.pre`` names -> ``tokenizers``
    gemma4   BPE over characters with byte fallback                                    -> ``tokenizers``
    bert     WordPiece, its pieces spelled with a leading space instead of "##"        -> ``tokenizers``
    llama    SentencePiece BPE                                                         -> ``sentencepiece``
    t5       SentencePiece Unigram                                                     -> ``sentencepiece``
    rwkv     greedy longest match over bytes                                           -> ``rwkv``

The reference is llama.cpp, whose defaults apply where the file is silent. Like it, this adds no Unicode normalization
to gpt2 vocabularies: the file does not say whether the model wants any. Where its patterns are approximations of those
in the models' own files, the models' own are used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from portico.models.gguf import read_gguf
from portico.prompting.tokenizers.base import ChatTemplates, SpecialTokens, Tokenizer, TokenizerError
from portico.prompting.tokenizers.huggingface import HuggingFaceTokenizer
from portico.prompting.tokenizers.pre_tokenizers import PRE_TOKENIZERS

__all__ = ["load_gguf"]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # tokenizer.ggml.token_type

_ENDS_OF_TURN = frozenset(
    {
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|calls|>",
        "<|flush|>",
        "<end_of_turn>",
        "<turn|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<EOT>",
        "_<EOT>",
        "<end_of_utterance>",
        "<｜end▁of▁sentence｜>",
    }
)


def load_gguf(path: Path) -> Tokenizer:
    """The tokenizer of the GGUF file at ``path``. Raises ``TokenizerError``, or ``GGUFError`` for a broken file."""
    metadata = read_gguf(path).metadata
    model = metadata.get("tokenizer.ggml.model")
    builder = _BUILDERS.get(model) if isinstance(model, str) else None
    if builder is None:
        known = ", ".join(_BUILDERS)
        raise TokenizerError(
            f"{path.name}: tokenizer.ggml.model is {model!r}; known are {known}. "
            "Point to the model's original tokenizer files instead."
        )
    return builder(_Vocabulary.of(metadata, path.name))


@dataclass(frozen=True)
class _Vocabulary:
    """The tokens of a file with their types, and its other tokenizer keys."""

    name: str
    metadata: Mapping[str, Any]
    tokens: Sequence[str]
    types: Sequence[int]

    @classmethod
    def of(cls, metadata: Mapping[str, Any], name: str) -> _Vocabulary:
        tokens = metadata.get("tokenizer.ggml.tokens")
        if not isinstance(tokens, list) or not tokens or not isinstance(tokens[0], str):
            raise TokenizerError(f"{name}: tokenizer.ggml.tokens is missing; the file has no vocabulary")
        types = metadata.get("tokenizer.ggml.token_type")
        types = [NORMAL] * len(tokens) if types is None else [int(kind) for kind in types]
        if len(types) != len(tokens):
            raise TokenizerError(f"{name}: {len(tokens)} tokens but {len(types)} token types")
        for i, token in enumerate(tokens):  # ends of turn that a converter forgot to mark
            if types[i] in (NORMAL, USER_DEFINED) and token in _ENDS_OF_TURN:
                types[i] = CONTROL
        return cls(name, metadata, tokens, types)

    def get(self, key: str, default: Any = None) -> Any:
        return self.metadata.get(f"tokenizer.ggml.{key}", default)

    def id(self, role: str, default: int | None = None) -> int | None:
        """The token id of a role such as ``bos``, None where the file has none or a wrong one."""
        value = self.get(f"{role}_token_id", default)
        return int(value) if value is not None and 0 <= value < len(self.tokens) else None

    def of_type(self, *kinds: int) -> dict[str, int]:
        """Text -> id of the tokens of some type."""
        wanted = frozenset(kinds)
        return {self.tokens[i]: i for i, kind in enumerate(self.types) if kind in wanted and self.tokens[i]}

    @property
    def chat_template(self) -> ChatTemplates:
        default = self.metadata.get("tokenizer.chat_template")
        prefix = "tokenizer.chat_template."
        named = {key.removeprefix(prefix): value for key, value in self.metadata.items() if key.startswith(prefix)}
        if named and isinstance(default, str):
            return {"default": default, **named}
        return named or default

    def special(
        self, *, add_bos: bool, add_eos: bool, defaults: Mapping[str, int] | None = None, sep: bool = False
    ) -> SpecialTokens:
        """The roles; ``add_bos`` and ``add_eos`` count where the file does not say, ``sep`` ends with it instead."""
        ids: dict[str, int | None] = {}
        for role, key in {
            "bos": "bos",
            "eos": "eos",
            "unk": "unknown",
            "sep": "seperator",  # spelled so in the format
            "pad": "padding",
            "cls": "cls",
            "mask": "mask",
        }.items():
            ids[role] = self.id(key, (defaults or {}).get(role))
        if sep and ids["bos"] is None:
            ids["bos"] = ids["cls"]
        end = ids["sep"] if sep and ids["sep"] is not None else ids["eos"]
        ends = {self.id("eos"), self.id("eot"), self.id("eom"), ids["eos"]} - {None}
        texts = self.of_type(CONTROL)
        ends |= {texts[text] for text in _ENDS_OF_TURN & texts.keys()}
        if {"<|return|>", "<|call|>"} <= texts.keys() or {"<|flush|>", "<|calls|>"} <= texts.keys():
            ends -= {texts.get("<|end|>")}  # there it ends a message, and another may follow
        prefix = ids["bos"] if self.get("add_bos_token", add_bos) else None
        suffix = end if self.get("add_eos_token", add_eos) or (sep and self.get("add_sep_token", True)) else None
        return SpecialTokens(
            roles={f"{role}_token": self.tokens[i] for role, i in ids.items() if i is not None},
            bos_token_id=ids["bos"],
            eos_token_id=ids["eos"],
            eos_token_ids=frozenset(i for i in ends if i is not None),
            prefix_ids=() if prefix is None else (prefix,),
            suffix_ids=() if suffix is None else (suffix,),
        )


# -- through the tokenizers library -----------------------------------------------------------------------------------


def _byte_level_bpe(vocabulary: _Vocabulary) -> Tokenizer:
    name = vocabulary.get("pre", "default")
    if name in _CHARACTER_BPE:
        return _character_bpe(vocabulary)
    pre = PRE_TOKENIZERS.get(name)
    if pre is None:
        raise TokenizerError(
            f"{vocabulary.name}: tokenizer.ggml.pre is {name!r}, which is not known here. "
            "Point to the model's original tokenizer files instead."
        )
    backend = Backend(_bpe(vocabulary, ignore_merges=pre.ignore_merges))
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in pre.patterns]
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    return _finished(backend, vocabulary, vocabulary.special(add_bos=pre.add_bos, add_eos=False))


_CHARACTER_BPE = {"gemma4": True, "granite-embed-multi-311m": True, "sarvam-moe": False}  # pre -> add_bos by default


def _character_bpe(vocabulary: _Vocabulary) -> Tokenizer:
    backend = Backend(_bpe(vocabulary, byte_fallback=True, fuse_unk=True, unk_token=_unknown(vocabulary)))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\n]+|[\n]+"), "isolated")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    add_bos = _CHARACTER_BPE.get(vocabulary.get("pre"), True)
    return _finished(backend, vocabulary, vocabulary.special(add_bos=add_bos, add_eos=False))


def _bpe(vocabulary: _Vocabulary, **options: Any) -> models.BPE:
    merges = vocabulary.get("merges")
    if not isinstance(merges, list):
        raise TokenizerError(f"{vocabulary.name}: tokenizer.ggml.merges is missing")
    ids = {token: i for i, token in enumerate(vocabulary.tokens) if token and _is_text(token)}
    pairs = [(merge[:cut], merge[cut + 1 :]) for merge in merges if (cut := merge.find(" ", 1)) > 0]
    try:
        return models.BPE(vocab=ids, merges=pairs, **options)
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{vocabulary.name}: its merges do not fit its tokens: {error}") from error


def _word_piece(vocabulary: _Vocabulary) -> Tokenizer:
    ids: dict[str, int] = {}
    for i, token in enumerate(vocabulary.tokens):
        if vocabulary.types[i] != NORMAL:
            ids[token] = i
        elif token.startswith("▁"):
            ids[token[1:]] = i
        else:
            ids["##" + token] = i
    special = vocabulary.special(
        add_bos=True, add_eos=False, defaults={"cls": 101, "unk": 100, "sep": 102, "pad": 0, "mask": 103}, sep=True
    )
    backend = Backend(models.WordPiece(ids, unk_token=special.roles.get("unk_token", "[UNK]")))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=vocabulary.get("normalizer.lowercase", True),
        strip_accents=vocabulary.get("normalizer.strip_accents"),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return _finished(backend, vocabulary, special)


def _finished(backend: Backend, vocabulary: _Vocabulary, special: SpecialTokens) -> Tokenizer:
    for kinds, is_special in (((CONTROL, UNKNOWN), True), ((USER_DEFINED,), False)):
        texts = [text for text in vocabulary.of_type(*kinds) if _is_text(text)]
        backend.add_tokens([AddedToken(text, special=is_special, normalized=False) for text in texts])
    return HuggingFaceTokenizer(backend, kind="gguf", special=special, chat_template=vocabulary.chat_template)


def _unknown(vocabulary: _Vocabulary) -> str | None:
    token_id = vocabulary.id("unknown")
    return vocabulary.tokens[token_id] if token_id is not None else None


_SURROGATE = re.compile("[\ud800-\udfff]")  # what stands for a byte that was not UTF-8


def _is_text(token: str) -> bool:
    """Whether ``token`` was UTF-8 in the file; what was not cannot be handed to the libraries."""
    return token.isascii() or _SURROGATE.search(token) is None


# -- through SentencePiece --------------------------------------------------------------------------------------------


def _sentencepiece_bpe(vocabulary: _Vocabulary) -> Tokenizer:
    special = vocabulary.special(add_bos=True, add_eos=False, defaults={"bos": 1, "eos": 2, "unk": 0})
    return _sentencepiece(vocabulary, special, unigram=False, prefix=True)


def _sentencepiece_unigram(vocabulary: _Vocabulary) -> Tokenizer:
    special = vocabulary.special(add_bos=False, add_eos=True, defaults={"eos": 1, "unk": 2, "pad": 0})
    return _sentencepiece(vocabulary, special, unigram=True, prefix=False)


def _sentencepiece(vocabulary: _Vocabulary, special: SpecialTokens, *, unigram: bool, prefix: bool) -> Tokenizer:
    from portico.prompting.tokenizers import sentencepiece as sp

    scores = vocabulary.get("scores")
    if scores is None or len(scores) != len(vocabulary.tokens):
        raise TokenizerError(f"{vocabulary.name}: tokenizer.ggml.scores is missing or too short")
    unknown = vocabulary.id("unknown", 2 if unigram else 0)
    pieces: dict[str, tuple[float, int]] = {}
    for i, token in enumerate(vocabulary.tokens):
        kind = vocabulary.types[i]
        if i == unknown:
            kind = UNKNOWN
        elif kind == UNKNOWN or not UNKNOWN <= kind <= BYTE:
            kind = NORMAL
        if not token or token in pieces or not _is_text(token):
            token, kind = f"\x00{i}", UNUSED  # the library wants every piece, and every one different
        pieces[token] = (float(scores[i]), kind)
    charsmap = vocabulary.get("precompiled_charsmap")
    options = sp.Options(
        add_dummy_prefix=bool(vocabulary.get("add_space_prefix", prefix)),
        remove_extra_whitespaces=bool(vocabulary.get("remove_extra_whitespaces", False)),
        control_breaks=False,
    )
    ids = {"unk": unknown, "bos": special.bos_token_id, "eos": special.eos_token_id}
    model = sp.model_bytes(
        [(token, score, kind) for token, (score, kind) in pieces.items()],
        model_type=sp.UNIGRAM if unigram else sp.BPE,
        options=options,
        byte_fallback=BYTE in vocabulary.types,
        ids={role: i for role, i in ids.items() if i is not None},
        charsmap=bytes(bytearray(int(byte) & 0xFF for byte in charsmap)) if charsmap is not None else b"",
    )
    hidden = vocabulary.of_type(CONTROL, UNKNOWN)
    cuts = vocabulary.of_type(CONTROL, UNKNOWN, USER_DEFINED)
    return sp.SentencePieceTokenizer(
        sp.processor_from(model, vocabulary.name),
        options,
        kind="gguf",
        special=special,
        special_ids=frozenset(hidden.values()),
        cuts=cuts,
        rstrip=_phi3_rstrip(vocabulary, cuts),
        chat_template=vocabulary.chat_template,
    )


def _phi3_rstrip(vocabulary: _Vocabulary, cuts: Mapping[str, int]) -> frozenset[int]:
    """Phi-3's role markers swallow the line end after them; the format has no field for that, the name tells."""
    name = str(vocabulary.metadata.get("general.name", "")).lower()
    if "phi-3" not in name and "phi3" not in name:
        return frozenset()
    return frozenset(i for text, i in cuts.items() if text not in ("<unk>", "<s>", "<|endoftext|>"))


def _rwkv(vocabulary: _Vocabulary) -> Tokenizer:
    from portico.prompting.tokenizers.rwkv import RwkvTokenizer, unescape

    control = vocabulary.of_type(CONTROL, UNKNOWN)
    pieces = {i: unescape(token) for i, token in enumerate(vocabulary.tokens) if i not in control.values()}
    special = vocabulary.special(add_bos=False, add_eos=False)
    return RwkvTokenizer(pieces, control=control, kind="gguf", special=special, chat_template=vocabulary.chat_template)


_BUILDERS = {
    "gpt2": _byte_level_bpe,
    "gemma4": _character_bpe,
    "bert": _word_piece,
    "llama": _sentencepiece_bpe,
    "t5": _sentencepiece_unigram,
    "rwkv": _rwkv,
}
