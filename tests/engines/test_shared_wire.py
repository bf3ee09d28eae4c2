"""Frames survive any cut, and messages survive the trip."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from portico.engines.shared import wire
from portico.errors import BadRequestError
from portico.events import Constraint, EngineOutput, EngineRequest, SamplingParams, TokenLogprob

MESSAGES: list[wire.ToHub | wire.FromHub] = [
    wire.Submit(
        1,
        EngineRequest(
            "1",
            [1, 2, 3],
            SamplingParams(
                max_tokens=5,
                logit_bias={7: -1.5},
                allowed_token_ids=(1, 2),
                bad_words=((1, 2), (3,)),
                stop_token_ids=frozenset({4}),
                seed=1 << 40,
            ),
            constraint=Constraint('start: "a"', {"type": "x"}),
            cache_salt="s",
            generated=[5, 6],
        ),
    ),
    wire.Abort(1),
    wire.Embed(2, [[1], [2, 3]]),
    wire.FlushCache(3),
    wire.Ping(),
    wire.Facts({"model": "m", "context_length": 10}, True),
    wire.Health(True),
    wire.Done(1),
    wire.Done(2, b"\x00\x00\x80\x3f", [1, 2]),
    wire.failure(wire.NOBODY, BadRequestError("no", param="prompt")),
    wire.Pong(),
    wire.step(
        [
            EngineOutput("1", [5], [TokenLogprob(5, -0.5, ((5, -0.5), (6, -math.inf)))], cached_tokens=3),
            EngineOutput("3", [7]),
            EngineOutput("2", [], finish_reason="stop", stop_token=2, prompt_logprobs=[None, TokenLogprob(1, -1.0)]),
        ]
    ),
]


@given(st.lists(st.sampled_from(MESSAGES), max_size=8), st.lists(st.integers(1, 400), min_size=1))
def test_any_cut_of_the_stream_gives_the_same_messages(messages: list[wire.ToHub], cuts: list[int]) -> None:
    stream = b"".join(map(wire.encode, messages))
    reader, frames, at, turn = wire.FrameReader(), [], 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        frames += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    to_hub = (wire.Submit, wire.Abort, wire.Embed, wire.FlushCache, wire.Ping)
    decoded = [
        (wire.to_hub if isinstance(message, to_hub) else wire.from_hub).decode(frame)
        for message, frame in zip(messages, frames, strict=True)
    ]
    assert decoded == messages
