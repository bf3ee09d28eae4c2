"""Tokenizers in Hugging Face form: a directory, or a ``tokenizer.json`` with its companions beside it.

``tokenizer.json`` holds the algorithm, the files beside it (see ``companions``) say which tokens play which role.
Encoding and the reference decode are the ``tokenizers`` library's own, with ``fastokens`` in front where it is provably
the same. The post-processor of ``tokenizer.json`` decides what surrounds a text; ``add_bos_token`` and
``add_eos_token`` of the Llama family, whose files often lack that processor, add what it leaves out.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

from portico.prompting.tokenizers.base import (
    ANY_LENGTH,
    ChatTemplates,
    SpecialTokens,
    Tokenizer,
    TokenizerError,
    unspellable,
)
from portico.prompting.tokenizers.byte_table import table_from_decoder
from portico.prompting.tokenizers.companions import read_companions, token_text
from portico.prompting.tokenizers.fast import FastEncoder
from portico.prompting.tokenizers.parts import in_parts

__all__ = ["HuggingFaceTokenizer", "load_huggingface"]

LONG = 2_000  # ids; to decode fewer holds no other thread up


class HuggingFaceTokenizer(Tokenizer):
    """A ``tokenizers`` pipeline. Made by ``load_huggingface``, or rebuilt from other formats' vocabularies.

    ``prefix_ids`` and ``suffix_ids`` of ``special`` must already say what the pipeline's post-processor adds.
    """

    def __init__(
        self, backend: Backend, *, kind: str, special: SpecialTokens, chat_template: ChatTemplates = None
    ) -> None:
        vocabulary = backend.get_vocab(with_added_tokens=True)
        added = backend.get_added_tokens_decoder()
        tokens = {token_id: token for token, token_id in vocabulary.items()}
        decoder = json.loads(backend.decoder.__getstate__()) if backend.decoder is not None else None
        super().__init__(
            kind=kind,
            vocab_size=max(tokens, default=-1) + 1,
            table=table_from_decoder(decoder, tokens),
            special_ids=frozenset(i for i, token in added.items() if token.special),
            added_tokens={token.content: i for i, token in added.items()},
            special=special,
            chat_template=chat_template,
        )
        self._backend = backend
        self._special_texts = tuple(token.content for token in added.values() if token.special)
        self._plain: Backend | None = None  # the same pipeline, blind to special tokens
        self._plain_lock = threading.Lock()
        samples = tuple(f"a {text}b{text} c" for text in list(self.added_tokens)[:64])
        self._fast = FastEncoder(self._build_fast, self._encode_reference, samples)

    def _build_fast(self) -> Any:
        import fastokens  # type: ignore[import-untyped]  # 10 MB: only where much text is encoded

        return fastokens.Tokenizer.from_json_str(self._backend.to_str())

    def prepare(self) -> None:
        self._renamed  # noqa: B018  (a second or two for a large vocabulary)

    def warm(self) -> None:
        super().warm()
        self._fast.prepare()

    def _encode(self, text: str, parse_special: bool) -> list[int]:
        if self._fast.ready is not None:
            return self._fast.ready(text, parse_special)
        self._fast.count(len(text))
        return self._encode_reference(text, parse_special)

    def _encode_reference(self, text: str, parse_special: bool) -> list[int]:
        backend = self._backend
        if not parse_special and any(special in text for special in self._special_texts):
            backend = self._blind_backend()
        # The batch form is the one that lets other threads run meanwhile.
        ids: list[int] = backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids

    def _blind_backend(self) -> Backend:
        with self._plain_lock:
            if self._plain is None:
                plain = Backend.from_str(self._backend.to_str())
                plain.encode_special_tokens = True
                self._plain = plain
            return self._plain

    def _encode_pieces(self, pieces: Sequence[str | int]) -> list[int]:
        backend, names, ids = self._renamed
        text = "".join(piece if isinstance(piece, str) else names[piece] for piece in pieces)

        def encode(part: str) -> list[int]:
            return [ids.get(i, i) for i in backend.encode_batch_fast([part], add_special_tokens=False)[0].ids]

        return in_parts(text, encode)

    @cached_property
    def _renamed(self) -> tuple[Backend, dict[int, str], dict[int, int]]:
        """The same pipeline with names for its control tokens that no text can spell: the names by id, and which ids
        its added tokens have there."""
        names = dict(zip(self.structure.values(), unspellable(), strict=False))
        added = self._backend.get_added_tokens_decoder()
        for i, token in added.items():
            token.content = names.get(i, token.content)
        model = self._backend.model  # BPE makes only what it has merges for, so it can be shared
        if not isinstance(model, BPE):
            model = self._model_that_spells(names)
        backend = Backend(model)
        if self._backend.normalizer is not None:
            backend.normalizer = self._backend.normalizer
        if self._backend.pre_tokenizer is not None:
            backend.pre_tokenizer = self._backend.pre_tokenizer
        backend.add_tokens([added[i] for i in sorted(added)])
        return backend, names, {backend.token_to_id(token.content) or 0: i for i, token in added.items()}

    def _model_that_spells(self, names: Mapping[int, str]) -> Any:
        """The model with the control tokens among its pieces under their ``names``: it takes any text that is a piece
        for that piece."""
        described = json.loads(self._backend.to_str())
        model = described["model"]
        if isinstance(vocabulary := model["vocab"], list):
            for i, name in names.items():
                if i < len(vocabulary):
                    vocabulary[i][0] = name
        else:
            spelled = {text: name for i, name in names.items() if (text := self._backend.id_to_token(i)) in vocabulary}
            model["vocab"] = {spelled.get(text, text): i for text, i in vocabulary.items()}
            model["unk_token"] = spelled.get(model["unk_token"], model["unk_token"])
        return Backend.from_str(json.dumps({**described, "added_tokens": []})).model

    def _shrinks(self) -> int:
        model, normalizer = self._backend.model, self._backend.normalizer
        all_bytes = isinstance(model, BPE) and (model.byte_fallback or not model.unk_token)
        if self.table is None or not all_bytes:
            return ANY_LENGTH
        described = {"type": "none"} if normalizer is None else json.loads(normalizer.__getstate__())
        steps = {one["type"] for one in described.get("normalizers", [described])} - {"none", "Prepend", "Replace"}
        return ANY_LENGTH if steps - {"NFC"} else 3 if steps else 1

    @property
    def folds(self) -> bool:
        if self._backend.normalizer is None:
            return False
        added = self._backend.get_added_tokens_decoder().values()
        return any(token.normalized and token.content in self.structure for token in added)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        known = self._without(ids, frozenset())
        if len(known) < LONG:
            text: str = self._backend.decode(known, skip_special_tokens=skip_special_tokens)
        else:  # the batch form lets other threads run meanwhile, and costs a thread's wake-up
            (text,) = self._backend.decode_batch([known], skip_special_tokens=skip_special_tokens)
        return text

    def to_json(self) -> str | None:
        text: str = self._backend.to_str()
        return text

    def id_to_token(self, token_id: int) -> str | None:
        return self._backend.id_to_token(token_id) if 0 <= token_id < self.vocab_size else None

    def token_to_id(self, token: str) -> int | None:
        token_id: int | None = self._backend.token_to_id(token)
        return token_id


# -- loading ----------------------------------------------------------------------------------------------------------


def load_huggingface(tokenizer_json: Path) -> HuggingFaceTokenizer:
    """The tokenizer of ``tokenizer_json`` and the files beside it. Raises ``TokenizerError``."""
    companions = read_companions(tokenizer_json.parent)
    config, roles = companions.config, companions.roles
    try:
        backend = Backend.from_file(str(tokenizer_json))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{tokenizer_json.name} is not a tokenizer that this version reads: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    _complete_added_tokens(backend, config, roles)
    bos = backend.token_to_id(roles["bos_token"]) if "bos_token" in roles else None
    eos = backend.token_to_id(roles["eos_token"]) if "eos_token" in roles else None
    prefix, suffix = _surroundings(backend)
    if _is_llama_like(config):
        if config.get("add_bos_token") is True and bos is not None and not prefix:
            prefix = (bos,)
        if config.get("add_eos_token") is True and eos is not None and not suffix:
            suffix = (eos,)
    eos_ids = companions.eos_ids | ({eos} if eos is not None else set())
    special = SpecialTokens(roles, bos, eos, eos_ids, prefix, suffix)
    return HuggingFaceTokenizer(backend, kind="huggingface", special=special, chat_template=companions.chat_template)


def _complete_added_tokens(backend: Backend, config: Mapping[str, Any], roles: Mapping[str, str]) -> None:
    """Add what the companions declare and ``tokenizer.json`` lacks, as ``transformers`` does when it loads."""
    known = {token.content: token.special for token in backend.get_added_tokens_decoder().values()}
    wanted: list[AddedToken] = []
    declared = config.get("added_tokens_decoder")
    if isinstance(declared, dict):
        for _, token in sorted(((int(i), token) for i, token in declared.items()), key=lambda item: item[0]):
            if isinstance(token, dict) and token_text(token) not in known:
                rules = {key: bool(token.get(key, False)) for key in ("single_word", "lstrip", "rstrip", "special")}
                wanted.append(AddedToken(token["content"], normalized=bool(token.get("normalized", False)), **rules))
    named = [*roles.values(), *(token_text(token) or "" for token in config.get("additional_special_tokens") or ())]
    pending = {token.content for token in wanted}
    for text in dict.fromkeys(named):
        if text and text not in pending and text not in known:
            wanted.append(AddedToken(text, special=True, normalized=False))
    if wanted:
        backend.add_tokens(wanted)


def _surroundings(backend: Backend) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the post-processor puts before and after a text."""
    inner = backend.encode("a", add_special_tokens=False).ids
    outer = backend.encode("a", add_special_tokens=True).ids
    extra = len(outer) - len(inner)
    for start in range(extra + 1):
        if outer[start : start + len(inner)] == inner:
            return tuple(outer[:start]), tuple(outer[start + len(inner) :])
    return (), ()


def _is_llama_like(config: Mapping[str, Any]) -> bool:
    name = config.get("tokenizer_class")
    return isinstance(name, str) and name.removesuffix("Fast") in {
        "LlamaTokenizer",
        "CodeLlamaTokenizer",
        "GemmaTokenizer",
        "CohereTokenizer",
    }
