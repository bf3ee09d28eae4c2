"""A tiny real tokenizer, a model over it, and every event sequence that parsing can produce."""

from __future__ import annotations

import json
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from portico.constraints import Vocabulary
from portico.events import CallArguments, CallEnd, CallStart, Content, Event, Finish, Reasoning, TokenLogprob
from portico.generation import Delta, Model
from portico.prompting import ChatTemplate, Prompter, load_tokenizer

TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>"


@lru_cache(maxsize=1)
def tiny_tokenizer() -> Any:
    """Byte-level, one token per byte, and some special tokens: every text can be written, and a gap in one."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ("<|end|>", "<think>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special])
    with tempfile.TemporaryDirectory() as directory:
        tokenizer.save(str(Path(directory) / "tokenizer.json"))
        (Path(directory) / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
        return load_tokenizer(directory)


def tiny_vocabulary() -> Vocabulary:
    """The same as grammars know it."""
    tokenizer = tiny_tokenizer()
    pieces = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    return Vocabulary(pieces, sorted(tokenizer.special_ids), tokenizer.eos_token_id or 0)


def tiny_model(**changes: Any) -> Model:
    tokenizer = tiny_tokenizer()
    facts: dict[str, Any] = {
        "name": "tiny",
        "created": 1_700_000_000,
        "tokenizer": tokenizer,
        "prompter": Prompter(tokenizer, ChatTemplate(TEMPLATE, tokenizer.special_tokens)),
        "context_length": 4096,
        "vocab_size": tokenizer.vocab_size,
        "capabilities": frozenset({"generate", "logprobs"}),
        "fingerprint": "fp_tiny",
    }
    return Model(**{**facts, **changes})


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@st.composite
def answers(draw: st.DrawFn, *, calls: bool = True, logprobs: bool = False) -> list[Delta]:
    """The deltas of one choice: any order of events that parsing can produce, cut into steps at random."""
    events: list[Event] = []
    if draw(st.booleans()):
        events += [Reasoning(text) for text in draw(st.lists(TEXTS, max_size=3))]
    count = 0
    for _ in range(draw(st.integers(0, 4))):
        if calls and draw(st.booleans()):
            events.append(CallStart(count, f"call_{count}", draw(st.sampled_from(["get_weather", "f"]))))
            value = json.dumps(draw(st.dictionaries(TEXTS, TEXTS, max_size=2)), ensure_ascii=False)
            cut = draw(st.integers(0, len(value)))
            events += [CallArguments(count, piece) for piece in (value[:cut], value[cut:]) if piece]
            events.append(CallEnd(count))
            count += 1
        else:
            events += [Content(text) for text in draw(st.lists(TEXTS, max_size=3))]
    deltas = []
    while events:
        size = draw(st.integers(1, 3))
        taken, events = events[:size], events[size:]
        deltas.append(_delta(draw, taken, logprobs))
    last = _delta(draw, [], logprobs)
    last.finish = Finish(draw(st.sampled_from(["stop", "length"])) if not count else "tool_calls")
    if last.finish.reason == "stop" and draw(st.booleans()):
        last.stop_reason = draw(st.sampled_from(["END", 7]))
    return [*deltas, last]


def _delta(draw: st.DrawFn, events: list[Event], logprobs: bool) -> Delta:
    ids = draw(st.lists(st.integers(0, 255), max_size=3))
    entries = None
    if logprobs:
        entries = [TokenLogprob(i, -0.5, ((i, -0.5), ((i + 1) % 256, -1.5))) for i in ids]
    return Delta(0, events, ids, entries)
