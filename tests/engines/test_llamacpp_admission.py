"""What the embedded engine must refuse is refused by name."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.engines import EngineInfo
from portico.engines.llamacpp.admission import check_embedding_inputs, check_request
from portico.engines.llamacpp.sampling import _seed
from portico.errors import BadRequestError, ContextLengthError, NotSupportedError
from portico.events import EngineRequest, SamplingParams

INFO = EngineInfo("m", context_length=10, vocab_size=100, capabilities=frozenset({"generate"}))


def check(prompt: list[int] | None = None, request: dict[str, object] | None = None, **rules: object) -> None:
    sampling = SamplingParams(**{"max_tokens": 5, **rules})  # type: ignore[arg-type]
    check_request(EngineRequest("1", [1, 2] if prompt is None else prompt, sampling, **(request or {})), INFO)  # type: ignore[arg-type]


def test_what_is_fine_passes() -> None:
    check()
    check([0, 99] * 4, temperature=0.0, logprobs=20, logit_bias={99: -100.0}, stop_token_ids=frozenset({3}))
    check([1] * 9)
    check([1] * 10, max_tokens=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", -1),
        ("min_tokens", -1),
        ("max_tokens", 10**400),
        ("seed", 1 << 63),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("top_k", 1 << 31),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("frequency_penalty", math.nan),
        ("presence_penalty", math.inf),
        ("logprobs", 21),
        ("logprobs", -1),
        ("prompt_logprobs", 21),
        ("logit_bias", {100: 1.0}),
        ("logit_bias", {1: math.nan}),
        ("allowed_token_ids", ()),
        ("allowed_token_ids", (100,)),
        ("bad_words", ((),)),
        ("bad_words", ((1, 100),)),
        ("stop_token_ids", frozenset({-1})),
    ],
)
def test_a_bad_value_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(BadRequestError, match=field) as caught:
        check(**{field: value})
    assert caught.value.param == field


@pytest.mark.parametrize("prompt", [[], [100], [-1], [True], ["1"], [1.0]])
def test_a_bad_prompt_is_refused(prompt: list[int]) -> None:
    with pytest.raises(BadRequestError, match="prompt"):
        check(prompt)


def test_too_long() -> None:
    with pytest.raises(ContextLengthError, match=r"10 tokens.* 11;"):
        check([1] * 11)
    with pytest.raises(ContextLengthError, match="leave room"):
        check([1] * 10)
    with pytest.raises(ContextLengthError, match=r"input\[1\].* 11 tokens.* 10"):
        check_embedding_inputs([[1], [1] * 11], INFO)


def test_not_supported() -> None:
    with pytest.raises(NotSupportedError):
        check(request={"data_parallel_rank": 1})


@given(st.integers())
def test_seeds_of_any_size_fit(seed: int) -> None:
    assert 0 <= _seed(seed) < 0xFFFFFFFF
    if 0 <= seed < 0xFFFFFFFF:
        assert _seed(seed) == seed
