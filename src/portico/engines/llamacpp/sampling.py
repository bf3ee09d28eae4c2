"""The next token of one request, by its rules, from the logits that its row of the batch gave.

libllama's samplers do the sampling: penalties, top-k, temperature, min-p, top-p and the draw, in that order, each only
if the request wants it. What they cannot do is done on the logits before, in libllama's own buffer: what is forbidden
(by the grammar, ``allowed_token_ids``, ``bad_words``, or an end before ``min_tokens``) becomes -inf. Logprobs are taken
before anything is changed. Where just the most likely token is wanted it is found by one pass over the logits, a tenth
of what it takes to list candidates; a request that draws by no other rule never brings its logits into Python. The ids
that close a thought whose budget is used up are not sampled at all; no other rule is asked.

Penalties count as the clients expect them: repetition looks at the prompt and the answer, frequency and presence at
the answer alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from portico.engines.llamacpp.grammar import Grammar
from portico.engines.llamacpp.model import RANDOM_SEED, Context, Model, SamplerChain
from portico.engines.llamacpp.thinking import Thoughts
from portico.engines.resuming import continued_seed
from portico.events import EngineOutput, EngineRequest, FinishReason, SamplingParams, TokenLogprob

__all__ = ["Sampler", "Scores"]

GREEDY_BELOW: Final = 1e-5  # temperatures under this one would overflow, and mean greedy
NEGLIGIBLE: Final = 1e-8  # tokens less likely than this, relative to the most likely, are left out of the draw

_SMALLEST: Final = 1e-37  # of a single-precision number

Logits = npt.NDArray[np.float32]


class Scores:
    """The log-softmax of a row of logits, as much of it as is asked for: of the ``top`` most likely, or of ``ids``."""

    def __init__(self, logits: Logits, top: int, ids: Sequence[int] = ()) -> None:
        highest = logits.max()
        self._logits = logits
        self._normaliser = float(highest) + float(np.log(np.exp(logits - highest).sum(dtype=np.float64)))
        self.top: tuple[tuple[int, float], ...] = ()
        if ids:
            self.top = tuple((token, float(logits[token]) - self._normaliser) for token in ids)
        elif top:
            best = np.argpartition(logits, -top)[-top:]
            best = best[np.argsort(-logits[best], kind="stable")]
            self.top = tuple((int(token), float(logits[token]) - self._normaliser) for token in best)

    def of(self, token: int) -> TokenLogprob:
        """The token's natural-log probability. Its logit must not have been changed."""
        return TokenLogprob(token, float(self._logits[token]) - self._normaliser, self.top)


class Sampler:
    """One request's rules and what they have given so far. ``close()`` frees libllama's part."""

    def __init__(self, model: Model, request: EngineRequest, context_length: int, grammar: Grammar | None) -> None:
        rules = request.sampling
        self._request_id, self._rules, self._grammar = request.request_id, rules, grammar
        self._limit = min(rules.max_tokens, context_length - len(request.token_ids))
        # A grammar decides when the answer is complete, so its end is an end even where others are ignored.
        ignore_end = rules.ignore_eos and grammar is None
        self._ends = rules.stop_token_ids if ignore_end else rules.stop_token_ids | model.end_tokens
        self._allowed = None if rules.allowed_token_ids is None else np.unique(np.array(rules.allowed_token_ids))
        self._reads_logits = bool(rules.logprobs is not None or grammar or rules.allowed_token_ids or rules.bad_words)
        self._thoughts = None if rules.thought is None else Thoughts(rules.thought, model.piece)
        self._close = () if rules.thought is None else rules.thought.close
        self._chain = None if _is_plain_greedy(rules) else _chain(model, request, self._limit)
        self.generated: list[int] = []
        for token in request.generated:
            self._forced()
            self._accept(token)
            self._take(token)

    def close(self) -> None:
        if self._chain is not None:
            self._chain.close()

    def next(self, context: Context, index: int) -> EngineOutput:
        """Sample from batch index ``index``. The output's finish reason says whether there is a next time.

        Raises ``GrammarError`` when the grammar has become too complex to go on.
        """
        output = EngineOutput(self._request_id, (), finish_reason=self._end())
        if output.finish_reason is not None:
            return output
        scores = None
        forced = self._forced()
        if self._reads_logits or len(self.generated) < self._rules.min_tokens:
            logits = context.logits(index)
            if self._rules.logprobs is not None:
                scores = Scores(logits, self._rules.logprobs, self._rules.logprob_ids)
                output.logprobs = ()
            if forced is None:
                self._forbid(logits)
                if logits.max() == -np.inf:
                    return self._end_for_lack(output)
        if forced is not None:
            token = forced
            self._accept(token)
        elif self._chain is not None:
            token = self._chain.sample(context, index)
        else:
            token = int(context.logits(index).argmax())
        if token in self._ends and forced is None:
            output.finish_reason, output.stop_token = "stop", token
            return output
        self._take(token)
        output.token_ids = (token,)
        if scores is not None:
            output.logprobs = (scores.of(token),)
        output.finish_reason = self._end()
        return output

    def _accept(self, token: int) -> None:
        """The token was not sampled; the samplers that count tokens count it."""
        if self._chain is not None:
            self._chain.accept(token)

    def _take(self, token: int) -> None:
        """The token is the next of the answer."""
        if self._thoughts is not None:
            self._thoughts.take(token)
        self.generated.append(token)
        if self._grammar is not None:
            self._grammar.advance(token)

    def _end(self) -> FinishReason | None:
        """Why nothing can follow what has been generated, if so."""
        if self._grammar is not None and self._grammar.exhausted:
            return "stop"
        return "length" if len(self.generated) >= self._limit else None

    def _forced(self) -> int | None:
        """The token that closes a thought, if one has to come now."""
        if self._thoughts is None:
            return None
        token = self._thoughts.must()
        begins = token is not None and not self._thoughts.closing
        if self._thoughts.over or (begins and self._grammar and not self._grammar.takes(self._close)):
            self._thoughts = None  # what the grammar will not have closed is no thought to it
            return None
        return token

    def _forbid(self, logits: Logits) -> None:
        rules = self._rules
        if self._allowed is not None:
            kept = logits[self._allowed]
            logits.fill(-np.inf)
            logits[self._allowed] = kept
        if self._grammar is not None:
            self._grammar.mask(logits)
        for *start, last in rules.bad_words:
            if not start or self.generated[-len(start) :] == start:
                logits[last] = -np.inf
        if len(self.generated) < rules.min_tokens:
            logits[list(self._ends)] = -np.inf

    def _end_for_lack(self, output: EngineOutput) -> EngineOutput:
        """Nothing may follow: the end of a complete grammar, or rules that contradict each other."""
        if self._grammar is not None and self._grammar.complete:
            output.finish_reason = "stop"
        else:
            output.finish_reason = "error"
            output.error = "No token satisfies all rules of this request together (grammar, allowed and banned tokens)."
        return output


def _is_plain_greedy(rules: SamplingParams) -> bool:
    """Whether the most likely token is the next one, without bias or penalty."""
    changed = rules.logit_bias or rules.frequency_penalty or rules.presence_penalty or rules.repetition_penalty != 1.0
    return rules.temperature < GREEDY_BELOW and not changed


def _chain(model: Model, request: EngineRequest, limit: int) -> SamplerChain:
    """The samplers that the request needs. Top-k keeps the order, so it comes early, where it saves the others work."""
    rules = request.sampling
    chain = SamplerChain(model.library)
    if rules.logit_bias:
        chain.logit_bias(model.vocab_size, dict(rules.logit_bias))
    if rules.repetition_penalty != 1.0:
        seen = set(request.token_ids)
        chain.penalties(model.vocab_size, len(seen) + limit, repetition=rules.repetition_penalty, seen=seen)
    if rules.frequency_penalty or rules.presence_penalty:
        chain.penalties(
            model.vocab_size, max(1, limit), frequency=rules.frequency_penalty, presence=rules.presence_penalty
        )
    if rules.temperature < GREEDY_BELOW:
        chain.greedy()
        return chain
    if rules.top_k:
        chain.top_k(rules.top_k)
    elif (floor := NEGLIGIBLE**rules.temperature) > _SMALLEST:
        chain.min_p(floor)  # saves two thirds of the time that the samplers below would spend on the whole vocabulary
    if rules.temperature != 1.0:
        chain.temperature(rules.temperature)
    if rules.min_p:
        chain.min_p(rules.min_p)
    if rules.top_p < 1.0:
        chain.top_p(rules.top_p)
    chain.draw(_seed(continued_seed(rules.seed, len(request.generated))))
    return chain


def _seed(seed: int | None) -> int:
    """A seed of any size as libllama's 32 bits, never the value that means 'draw one'."""
    if seed is None:
        return RANDOM_SEED
    seed = abs(seed)
    folded = 0
    while seed:
        folded, seed = folded ^ (seed & 0xFFFFFFFF), seed >> 32
    return folded if folded != RANDOM_SEED else 0
