"""Grammars that hold the sampler to a language: llguidance over the model's own vocabulary.

Compiling happens off the decode loop and ends in a ready matcher or a ``GrammarError`` with the reason. llguidance's
own limits bound it and every mask, so no grammar can stop the engine; a first step is taken as part of compiling,
because that is where most that is too complex shows. A grammar that several requests carry (n choices, one client's
schema) is compiled once and copied.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Final

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from portico.engines.llamacpp.model import Model

__all__ = ["Grammar", "GrammarCompiler", "GrammarError"]

_KEPT: Final = 64  # compiled grammars
_SPECIAL: Final = b"\xff"  # llguidance's mark for a control token, which no text can spell


class GrammarError(Exception):
    """The grammar cannot be compiled, or has become too complex; the message says why, for the client."""


class Grammar:
    """One request's place in its grammar."""

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self._matcher = matcher
        self._bits = np.zeros((vocab_size + 31) // 32, dtype=np.int32)
        self._vocab_size = vocab_size

    def mask(self, logits: npt.NDArray[np.float32]) -> None:
        """Set to -inf what the grammar does not allow next. End tokens are allowed where the grammar may end."""
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        forbidden = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._vocab_size] == 0
        np.copyto(logits, -np.inf, where=forbidden)

    def advance(self, token: int) -> None:
        """Take the sampled token."""
        self._matcher.consume_token(token)
        self._check()

    def takes(self, tokens: Sequence[int]) -> bool:
        """Whether all of these may come next, one after the other."""
        return bool(self._matcher.validate_tokens(list(tokens)) == len(tokens))

    def try_step(self, end_tokens: frozenset[int]) -> None:
        """Take any token that the grammar allows, to see whether it can."""
        self._check()
        logits = np.zeros(self._vocab_size, dtype=np.float32)
        self.mask(logits)
        token = next((int(token) for token in np.flatnonzero(logits == 0) if token not in end_tokens), None)
        if token is not None:
            self.advance(token)

    @property
    def complete(self) -> bool:
        """True where the grammar may end."""
        return self._matcher.is_accepting()

    @property
    def exhausted(self) -> bool:
        """True where nothing but the end can follow."""
        return self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GrammarError(self._matcher.get_error().removesuffix("<non-verbose/>").strip())


class GrammarCompiler:
    """Compiles for one model. ``compile`` may be called from several threads."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._lock = Lock()
        self._tokenizer: LLTokenizer | None = None  # built when the first grammar comes: it costs memory
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()

    def compile(self, lark: str) -> Grammar:
        """A fresh ``Grammar`` for a grammar in llguidance's Lark dialect. Raises ``GrammarError``."""
        with self._lock:
            matcher = self._compiled.get(lark)
            tokenizer = self._tokenizer = self._tokenizer or self._make_tokenizer()
        if matcher is None:
            matcher = LLMatcher(tokenizer, lark, log_level=0, limits=LLParserLimits(verbose_errors=False))
            Grammar(matcher.deep_copy(), self._model.vocab_size).try_step(self._model.end_tokens)
        with self._lock:
            self._compiled[lark] = matcher
            self._compiled.move_to_end(lark)
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
            return Grammar(matcher.deep_copy(), self._model.vocab_size)

    def _make_tokenizer(self) -> LLTokenizer:
        pieces, control = self._model.token_bytes()
        tokenizer: LLTokenizer = LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]  # missing in its stub
            tokens=[_SPECIAL + piece if token in control else piece for token, piece in enumerate(pieces)],
            vocab_ptr=self._model.vocab,
            tokenize_fptr=self._model.tokenize_function(),
            eos_token=sorted(self._model.end_tokens) or self._model.eos_token(),
            slices=None,
        )
        return tokenizer
