"""Vocabularies for the tiktoken library, and its rank files; Mistral's form of them is read by ``tekken``.

A rank file has a token a line, base64 and rank; it says nothing of how text is cut into words nor of special tokens.
Those come from the families below, told apart by how many ranks there are, and from ``added_tokens_decoder`` in a
``tokenizer_config.json`` beside it.

Encoding is the library's own. Decoding is joining bytes, for which nobody needs it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from portico.errors import BadRequestError
from portico.prompting.tokenizers.base import ChatTemplates, SpecialTokens, Tokenizer, TokenizerError
from portico.prompting.tokenizers.byte_table import ByteTable
from portico.prompting.tokenizers.companions import read_companions, token_text
from portico.prompting.tokenizers.pre_tokenizers import CL100K, GPT2, KIMI, O200K, QWEN

__all__ = ["TiktokenTokenizer", "load_tiktoken"]


class TiktokenTokenizer(Tokenizer):
    """``ranks`` maps bytes to rank; a token's id is its rank plus ``offset``. ``tokens`` maps special text to id."""

    def __init__(
        self,
        ranks: Mapping[bytes, int],
        tokens: Mapping[str, int],
        *,
        pattern: str,
        kind: str,
        special: SpecialTokens,
        offset: int = 0,
        special_breaks: bool = False,
        chat_template: ChatTemplates = None,
    ) -> None:
        try:
            import tiktoken
        except ImportError as missing:
            raise TokenizerError("this tokenizer needs the tiktoken library: pip install tiktoken") from missing

        rank_end = max(ranks.values(), default=-1) + 1
        size = max(rank_end + offset, max(tokens.values(), default=-1) + 1)
        pieces = [b""] * size
        for piece, rank in ranks.items():
            pieces[rank + offset] = piece
        for text, token_id in tokens.items():
            pieces[token_id] = text.encode()
        super().__init__(
            kind=kind,
            vocab_size=size,
            table=ByteTable(pieces, special_breaks=special_breaks),
            special_ids=frozenset(tokens.values()),
            added_tokens=dict(tokens),
            special=special,
            chat_template=chat_template,
        )
        self._ranks = ranks
        self._offset = offset
        self._rank_end = rank_end
        self._texts = {token_id: text for text, token_id in tokens.items()}
        try:
            # Special tokens stand after the ranks there; with an offset they are moved, and moved back after encoding.
            shift = rank_end if offset else 0
            self._encoding = tiktoken.Encoding(
                name=kind,
                pat_str=pattern,
                mergeable_ranks=dict(ranks),
                special_tokens={text: token_id + shift for text, token_id in tokens.items()},
            )
        except Exception as error:  # ValueError for a pattern, others for ranks
            raise TokenizerError(f"tiktoken does not take this vocabulary: {error}") from error

    def _encode(self, text: str, parse_special: bool) -> list[int]:
        try:
            if parse_special and self._texts:
                ids = self._encoding.encode(text, allowed_special="all")
            else:
                ids = self._encoding.encode_ordinary(text)
        except BaseException as error:  # its pattern gave up on millions of spaces; Rust's panics are no Exceptions
            if isinstance(error, ValueError) or type(error).__name__ == "PanicException":
                raise BadRequestError("The text cannot be tokenized: shorten its runs of white space.") from error
            raise
        offset, end = self._offset, self._rank_end
        return [i + offset if i < end else i - end for i in ids] if offset else ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        assert self.table is not None
        return self.table.text(ids, self.special_ids if skip_special_tokens else ())

    def id_to_token(self, token_id: int) -> str | None:
        if token_id in self._texts:
            return self._texts[token_id]
        piece = self.token_bytes(token_id)
        return piece.decode("utf-8", "backslashreplace") if piece else None

    def token_to_id(self, token: str) -> int | None:
        found = self.added_tokens.get(token)
        if found is None and (rank := self._ranks.get(token.encode("utf-8", "replace"))) is not None:
            found = rank + self._offset
        return found


# -- rank files -------------------------------------------------------------------------------------------------------


class _Family(NamedTuple):
    """Special tokens are numbered from ``first`` on, or stand at the ids of ``at``."""

    pattern: str
    first: int = 0
    numbered: tuple[str, ...] = ()
    at: Mapping[str, int] = {}
    bos: str | None = None
    ends: tuple[str, ...] = ("<|endoftext|>",)

    def tokens(self) -> dict[str, int]:
        return {**{text: self.first + i for i, text in enumerate(self.numbered)}, **self.at}


def _reserved(name: str, first: int, count: int) -> tuple[str, ...]:
    return tuple(f"<|{name}_{i}|>" for i in range(first, first + count))


_FAMILIES: Mapping[int, _Family] = {
    # GPT-2 and GPT-3 (r50k), Whisper English; Codex (p50k); Whisper multilingual; GPT-4 (cl100k); GPT-4o (o200k)
    50_256: _Family(GPT2, 50_256, ("<|endoftext|>",)),
    50_257: _Family(GPT2, 50_257, ("<|endoftext|>", "<|startoftranscript|>")),
    50_280: _Family(GPT2, at={"<|endoftext|>": 50_256}),
    100_256: _Family(
        CL100K,
        100_257,
        ("<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
        {"<|endofprompt|>": 100_276},
    ),
    199_998: _Family(O200K, at={"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018}),
    # Llama 3
    128_000: _Family(
        CL100K,
        128_000,
        (
            "<|begin_of_text|>",
            "<|end_of_text|>",
            *_reserved("reserved_special_token", 0, 2),
            "<|finetune_right_pad_id|>",
            "<|step_id|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eom_id|>",
            "<|eot_id|>",
            "<|python_tag|>",
            "<|image|>",
            *_reserved("reserved_special_token", 2, 244),
        ),
        bos="<|begin_of_text|>",
        ends=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
    ),
    # Llama 4, the tokens of text models
    200_000: _Family(
        O200K,
        200_000,
        (
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|fim_prefix|>",
            "<|fim_middle|>",
            "<|fim_suffix|>",
            "<|header_start|>",
            "<|header_end|>",
            "<|eom|>",
            "<|eot|>",
            "<|step|>",
            *_reserved("text_post_train_reserved_special_token", 0, 6),
            "<|python_start|>",
            "<|python_end|>",
            "<|finetune_right_pad|>",
        ),
        bos="<|begin_of_text|>",
        ends=("<|end_of_text|>", "<|eom|>", "<|eot|>"),
    ),
    # Qwen 1
    151_643: _Family(
        QWEN,
        151_643,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *_reserved("extra", 0, 205)),
        ends=("<|im_end|>", "<|endoftext|>"),
    ),
    # GLM-4 and Kimi K2: special tokens from tokenizer_config.json
    151_329: _Family(CL100K, 151_329, ("<|endoftext|>",)),
    163_584: _Family(KIMI, 163_584, ("[BOS]", "[EOS]"), bos="[BOS]", ends=("[EOS]",)),
}


def load_tiktoken(
    path: Path, *, pattern: str | None = None, special_tokens: Mapping[str, int] | None = None
) -> TiktokenTokenizer:
    """The rank file at ``path``; ``pattern`` and ``special_tokens`` (text -> id) where it is of no known family.

    Raises ``TokenizerError`` for a line that is not base64 and rank, and for an unknown family without a pattern.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line:
            continue
        try:
            token, rank = line.split()
            token = token.rstrip(b"=")  # "=" alone is how Whisper's files write an empty token
            ranks[base64.b64decode(token + b"=" * (-len(token) % 4), validate=True)] = int(rank)
        except ValueError as error:
            raise TokenizerError(f"{path.name}, line {number}: not base64 and a rank: {error}") from error
    family = _FAMILIES.get(len(ranks))
    if pattern is None:
        if family is None:
            raise TokenizerError(
                f"{path.name} has {len(ranks)} ranks, which is no known family: a rank file does not say how text is "
                "cut into words. Use the model's tokenizer.json, or load_tiktoken(path, pattern=…, special_tokens=…)."
            )
        pattern = family.pattern
    companions = read_companions(path.parent)
    tokens = dict(special_tokens) if special_tokens is not None else family.tokens() if family is not None else {}
    declared = companions.config.get("added_tokens_decoder")
    if special_tokens is None and isinstance(declared, dict):
        taken = {int(i) for i in declared}
        tokens = {text: i for text, i in tokens.items() if i not in taken}
        tokens |= {text: int(i) for i, token in declared.items() if (text := token_text(token)) is not None}

    roles = dict(companions.roles)
    if family is not None and family.bos is not None:
        roles.setdefault("bos_token", family.bos)
    ends = [tokens[text] for text in (family.ends if family is not None else ()) if text in tokens]
    texts = {token_id: text for text, token_id in tokens.items()}
    if ends:
        roles.setdefault("eos_token", texts[ends[0]])
    bos, eos = tokens.get(roles.get("bos_token", "")), tokens.get(roles.get("eos_token", ""))
    special = SpecialTokens(
        roles=roles,
        bos_token_id=bos,
        eos_token_id=eos,
        eos_token_ids=companions.eos_ids | set(ends) | ({eos} if eos is not None else set()),
        prefix_ids=(bos,) if bos is not None and family is not None and family.first in (128_000, 200_000) else (),
    )
    return TiktokenTokenizer(
        ranks, tokens, pattern=pattern, kind="tiktoken", special=special, chat_template=companions.chat_template
    )
