"""What the embedded engine generates, on the real model: every sampling rule, logprobs, prefixes, grammars."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from portico.engines.llamacpp import LlamaCppEngine, engine
from portico.errors import BadRequestError, ContextLengthError, NotSupportedError
from portico.events import EngineRequest, SamplingParams
from portico.prompting import Tokenizer, load_tokenizer
from support.certain import SURE
from support.llamacpp import Client

pytestmark = pytest.mark.asyncio(loop_scope="module")

END = 2  # <|im_end|>


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Tokenizer:
    return load_tokenizer(smollm2_path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(smollm2_path: Path) -> AsyncIterator[Client]:
    engine = LlamaCppEngine(smollm2_path, model_id="smollm2", context_length=4096, max_sequences=8)
    async with Client(engine) as running:
        yield running


@pytest.fixture(scope="module")
def ask(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    """A user's message as the model's chat prompt."""
    return lambda text: list(tokenizer.encode(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"))


Ask = Callable[[str], list[int]]


@pytest.fixture(scope="module")
def question(ask: Ask) -> list[int]:
    """One that the model has no doubt about."""
    return ask("What is the capital of France?")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def capital(client: Client, question: list[int]) -> list[int]:
    """Its answer, which is the same however it is computed: no token of it is a close call."""
    answer = await client.run(question, logprobs=2)
    assert min(answer.margins) > SURE
    return answer.ids


async def test_known_answer(client: Client, question: list[int], capital: list[int], tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(capital) == "The capital of France is Paris."
    answer = await client.run(question, logprobs=0)
    assert answer.ids == capital
    assert answer.finish == "stop"
    assert answer.last.stop_token == END
    assert [one.token_id for one in answer.logprobs] == capital


async def test_info(client: Client) -> None:
    info = client.engine.info
    assert info.model == "smollm2"
    assert info.context_length == 4096
    assert info.vocab_size == 49152
    assert END in info.eos_token_ids
    assert {"generate", "logprobs", "prompt_logprobs", "constraints", "priority"} <= info.capabilities


async def test_asked_again_alone_the_answer_is_the_same(client: Client, tokenizer: Tokenizer) -> None:
    """The second time the prompt is cached; that must not show in the answer."""
    prompt = list(tokenizer.encode("Repeat: " + "🚀" * 30))
    assert len(prompt) > 64
    first = await client.run(prompt, max_tokens=60, ignore_eos=True, logprobs=2)
    assert min(first.margins) > SURE
    second = await client.run(prompt, max_tokens=60, ignore_eos=True)
    assert first.first.cached_tokens == 0 or first.first.cached_tokens < len(prompt) - 1
    assert second.first.cached_tokens == len(prompt) - 1
    assert first.ids == second.ids


async def test_tokens_of_broken_characters_are_not_lost(client: Client, ask: Ask, tokenizer: Tokenizer) -> None:
    """Byte-level tokens of emoji and CJK: every id arrives, and together they are the text."""
    answer = await client.run(ask("Hi"), lark='start: "🦜🌍日本語"', max_tokens=40)
    assert answer.finish == "stop"
    assert len(answer.ids) > 5
    assert tokenizer.decode(answer.ids) == "🦜🌍日本語"


async def test_concurrent_requests_share_steps(client: Client, ask: Ask) -> None:
    at = len(client.steps)
    subjects = ["rain", "bread", "chess", "Rome", "cats", "glass", "music", "stars"]
    answers = [await client.submit(ask(f"Tell me about {s}."), max_tokens=24, ignore_eos=True) for s in subjects]
    for answer in answers:
        await client.finished(answer)
        assert len(answer.ids) == 24
        assert answer.finish == "length"
    steps = client.steps[at:]
    assert max(len(step) for step in steps) == 8
    assert all(len(step) == len(set(step)) for step in steps)
    assert len({tuple(answer.ids) for answer in answers}) == 8


async def test_a_long_prompt_does_not_stall_the_others(client: Client, ask: Ask) -> None:
    short = await client.submit(ask("Count to a thousand."), max_tokens=400, ignore_eos=True)
    await short.begun.wait()
    long = await client.submit([7 + i % 900 for i in range(360)], max_tokens=1)
    before = len(short.ids)
    await client.finished(long)
    during = len(short.ids) - before
    client.engine.abort(short.request_id)
    assert during >= 4


async def test_seeds(client: Client, ask: Ask) -> None:
    """So hot that the model's opinion does not count, and with it what its arithmetic depends on: the seed does."""
    prompt = ask("Invent a name for a ship.")
    rules = {"temperature": 1e6, "max_tokens": 12, "ignore_eos": True}
    one = await client.run(prompt, seed=7, **rules)
    same = await client.run(prompt, seed=7, **rules)
    other = await client.run(prompt, seed=8, **rules)
    large = await client.run(prompt, seed=(1 << 63) - 1, **rules)
    free = [await client.run(prompt, **rules) for _ in range(2)]
    assert one.ids == same.ids
    assert len({tuple(a.ids) for a in (one, other, large, *free)}) == 5


@pytest.mark.parametrize("rule", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-9}])
async def test_rules_that_leave_one_token_are_greedy(
    client: Client, question: list[int], capital: list[int], rule: dict[str, float]
) -> None:
    answer = await client.run(question, **{"temperature": 1.3, **rule})
    assert answer.ids == capital


async def test_truncation_keeps_its_promise(client: Client, ask: Ask) -> None:
    """A hot sample under top-k or min-p stays inside the set that the logprobs show."""
    prompt = ask("Say anything.")
    for seed in range(3):
        for rules in ({"top_k": 3}, {"min_p": 0.2, "temperature": 1.0}, {"top_p": 0.5, "temperature": 1.0}):
            answer = await client.run(
                prompt, logprobs=20, max_tokens=8, ignore_eos=True, seed=seed, **{"temperature": 5.0, **rules}
            )
            for one in answer.logprobs:
                ranked = [token for token, _ in one.top]
                if "top_k" in rules:
                    assert one.token_id in ranked[:3]
                elif "min_p" in rules:
                    assert one.logprob >= one.top[0][1] + math.log(0.2) - 1e-4
                else:
                    above = sum(math.exp(logprob) for _, logprob in one.top if logprob > one.logprob)
                    assert above < 0.5 + 1e-4


async def test_logit_bias(client: Client, question: list[int], capital: list[int]) -> None:
    prompt = question
    pushed = await client.run(prompt, logit_bias={1234: 100.0}, max_tokens=3)
    assert pushed.ids == [1234] * 3
    banned = await client.run(prompt, logit_bias={capital[0]: -100.0}, max_tokens=3)
    assert capital[0] not in banned.ids


async def test_penalties(client: Client, ask: Ask) -> None:
    prompt = ask("Repeat the word yes: yes yes yes yes yes yes yes yes")
    yes = prompt[-8]
    assert prompt.count(yes) > 1
    bias = {"logit_bias": {yes: 100.0}}
    plain = await client.run(prompt, max_tokens=30, ignore_eos=True, **bias)
    assert plain.ids == [yes] * 30
    for rule in ("frequency_penalty", "presence_penalty"):
        answer = await client.run(prompt, max_tokens=30, ignore_eos=True, **bias, **{rule: 1000.0})
        assert len(set(answer.ids)) == 30
        assert answer.ids[0] == yes, "the prompt does not count"
    repeated = await client.run(prompt, max_tokens=30, ignore_eos=True, repetition_penalty=1e6)
    assert len(set(repeated.ids)) == 30
    assert not set(repeated.ids) & set(prompt), "the prompt counts"


async def test_allowed_token_ids(client: Client, ask: Ask) -> None:
    allowed = (100, 200, 300)
    answer = await client.run(ask("Hi"), allowed_token_ids=allowed, temperature=50.0, max_tokens=20)
    assert set(answer.ids) <= set(allowed)
    assert len(set(answer.ids)) > 1


async def test_bad_words(client: Client, question: list[int], capital: list[int]) -> None:
    prompt = question
    pair = (capital[1], capital[2])
    answer = await client.run(prompt, bad_words=(pair,))
    assert answer.ids[:2] == capital[:2], "the first token of a bad word alone is fine"
    assert pair not in list(zip(answer.ids, answer.ids[1:], strict=False))
    elsewhere = await client.run(prompt, bad_words=((9999, capital[2]), (capital[0], capital[2])))
    assert elsewhere.ids == capital, "the last token of a bad word alone is fine too"
    single = await client.run(prompt, bad_words=((capital[5],),))
    assert capital[5] not in single.ids


async def test_stop_tokens(client: Client, question: list[int], capital: list[int]) -> None:
    answer = await client.run(question, stop_token_ids=frozenset({capital[3]}), logprobs=1)
    assert answer.ids == capital[:3]
    assert answer.last.stop_token == capital[3]
    assert answer.finish == "stop"
    assert len(answer.logprobs) == 3


async def test_end_token_rules(client: Client, ask: Ask) -> None:
    rush = {"logit_bias": {END: 100.0}}
    at_once = await client.run(ask("Hi"), **rush)
    assert (at_once.ids, at_once.finish, at_once.last.stop_token) == ([], "stop", END)
    held = await client.run(ask("Hi"), min_tokens=5, **rush)
    assert len(held.ids) == 5
    assert held.last.stop_token == END
    ignored = await client.run(ask("Hi"), ignore_eos=True, max_tokens=4, **rush)
    assert (ignored.ids, ignored.finish, ignored.last.stop_token) == ([END] * 4, "length", None)


async def test_max_tokens(client: Client, question: list[int], capital: list[int]) -> None:
    one = await client.run(question, max_tokens=1)
    assert (one.ids, one.finish) == (capital[:1], "length")
    none = await client.run(question, max_tokens=0)
    assert (none.ids, none.finish) == ([], "length")


async def test_context_end_is_length(smollm2_path: Path) -> None:
    async with Client(LlamaCppEngine(smollm2_path, model_id="m", context_length=128, max_sequences=1)) as client:
        answer = await client.run([7 + i % 900 for i in range(122)], max_tokens=100, ignore_eos=True)
        assert (len(answer.ids), answer.finish) == (6, "length")
        full = await client.run([7 + i % 900 for i in range(127)], max_tokens=100, ignore_eos=True)
        assert (len(full.ids), full.finish) == (1, "length")


@pytest.mark.slow
async def test_more_is_asked_than_the_cache_holds(smollm2_path: Path) -> None:
    """Prefixes are dropped, then a running sequence is preempted and recomputed; nobody fails, nothing is mixed up."""
    engine = LlamaCppEngine(smollm2_path, model_id="m", context_length=200, max_sequences=2, cache_tokens=200)
    async with Client(engine) as client:
        assert engine.info.metadata["cache_tokens"] == 256  # libllama rounds up
        await client.run([5] * 100, max_tokens=1)
        answers = [
            await client.submit([base + i for i in range(90)], max_tokens=100, logit_bias={base: 100.0})
            for base in (100, 2000)
        ]
        for answer, base in zip(answers, (100, 2000), strict=True):
            await client.finished(answer)
            assert answer.ids == [base] * 100
        alone = [step for step in client.steps[1:] if len(step) == 1]
        assert len(alone) > 50, "both cannot have been in the cache to the end"


async def test_logprobs_are_of_the_raw_distribution(client: Client, ask: Ask) -> None:
    prompt = ask("Name a colour.")
    plain = await client.run(prompt, logprobs=5, max_tokens=4, ignore_eos=True)
    assert [len(one.top) for one in plain.logprobs] == [5] * 4
    for one in plain.logprobs:
        assert one.top[0] == (one.token_id, one.logprob), "greedy takes the most likely"
        values = [logprob for _, logprob in one.top]
        assert values == sorted(values, reverse=True)
        assert sum(map(math.exp, values)) <= 1 + 1e-5
    hot = await client.run(prompt, logprobs=0, max_tokens=1, temperature=2.0, logit_bias={plain.ids[0]: 100.0})
    assert hot.logprobs[0].logprob == pytest.approx(plain.logprobs[0].logprob, abs=1e-4)
    assert hot.logprobs[0].top == ()
    whole = await client.run(prompt, logprobs=20, max_tokens=1, allowed_token_ids=(plain.logprobs[0].top[3][0],))
    assert whole.logprobs[0].logprob == pytest.approx(plain.logprobs[0].top[3][1], abs=1e-4)


async def test_prompt_logprobs(client: Client, question: list[int], capital: list[int]) -> None:
    prompt = question
    decoded = await client.run(prompt, logprobs=0)
    scored = await client.run([*prompt, *capital], prompt_logprobs=2, max_tokens=1)
    given = scored.first.prompt_logprobs
    assert given is not None
    assert len(given) == len(prompt) + len(capital)
    assert given[0] is None
    assert [one.token_id for one in given[1:] if one] == [*prompt, *capital][1:]
    assert all(len(one.top) == 2 for one in given[1:] if one)
    for one, other in zip(given[len(prompt) :], decoded.logprobs, strict=True):
        assert one is not None
        assert one.logprob == pytest.approx(other.logprob, abs=0.7), "two batch shapes of one quantised model"
    assert scored.first.cached_tokens == 0
    only = await client.run(prompt, prompt_logprobs=0, max_tokens=0)
    assert len(only.first.prompt_logprobs or ()) == len(prompt)


async def test_prompt_logprobs_of_a_prompt_longer_than_a_batch(client: Client) -> None:
    answer = await client.run([7 + i % 900 for i in range(150)], prompt_logprobs=0, max_tokens=2)
    assert len(answer.first.prompt_logprobs or ()) == 150
    assert len(answer.ids) == 2


async def test_prefixes(client: Client, ask: Ask) -> None:
    stem = ask("You will be asked about a shipwreck off the coast of a small island in the north. " * 3)
    first = await client.run([*stem, 500, 501], max_tokens=1)
    second = await client.run([*stem, 600, 601], max_tokens=1)
    salted = await client.run([*stem, 600, 601], max_tokens=1, salt="other")
    assert first.first.cached_tokens is not None
    assert second.first.cached_tokens == len(stem)
    assert salted.first.cached_tokens == 0
    assert all(output.cached_tokens is None for output in second.outputs[1:])


async def test_a_flushed_cache_has_nothing(client: Client, question: list[int]) -> None:
    first = await client.run(question, max_tokens=3)
    await client.run(question, max_tokens=1)
    assert await client.engine.flush_cache()
    again = await client.run(question, max_tokens=3)
    assert (again.first.cached_tokens, again.ids) == (0, first.ids)
    long = await client.submit(question, max_tokens=100, ignore_eos=True)
    await long.begun.wait()
    assert not await client.engine.flush_cache()
    await client.finished(long)
    assert len(long.ids) == 100


async def test_choices_share_the_prefill(client: Client, question: list[int], capital: list[int]) -> None:
    prompt = [*question, *capital, END, *question, *capital, END, *question]
    answers = [await client.submit(prompt, salt="choices") for _ in range(4)]
    for answer in answers:
        await client.finished(answer)
        assert answer.ids == capital, "what is shared must really be there"
    cached = sorted(answer.first.cached_tokens or 0 for answer in answers)
    assert cached == [0, *[len(prompt) - 1] * 3]


SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "sunny": {"type": "boolean"}},
    "required": ["city", "sunny"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False},
}


async def test_grammar_holds_at_any_temperature(client: Client, ask: Ask, tokenizer: Tokenizer) -> None:
    lark = f"start: %json {json.dumps(SCHEMA)}"
    for seed in range(4):
        answer = await client.run(ask("Weather?"), lark=lark, temperature=2.0, seed=seed, max_tokens=200, logprobs=1)
        assert answer.finish == "stop"
        value = json.loads(tokenizer.decode(answer.ids))
        assert value["city"] in ("Paris", "Rome")
        assert value["sunny"] in (True, False)
        assert len(answer.logprobs) == len(answer.ids)


async def test_grammar_may_end_where_it_accepts(client: Client, ask: Ask) -> None:
    answer = await client.run(ask("Hi"), lark="start: /a+/", logit_bias={END: 100.0})
    assert answer.finish == "stop"
    assert answer.last.stop_token == END
    assert len(answer.ids) == 1


async def test_choices_of_one_grammar_do_not_share_its_state(client: Client, ask: Ask, tokenizer: Tokenizer) -> None:
    lark = 'start: "yes" "!"{3} | "no" "?"{3}'
    answers = [await client.submit(ask("Well?"), lark=lark, temperature=1.5, seed=i, max_tokens=20) for i in range(6)]
    texts = {tokenizer.decode((await client.finished(answer)).ids) for answer in answers}
    assert texts <= {"yes!!!", "no???"}


MANY_WORDS = "start: " + " | ".join(f'"w{i}x"' for i in range(3000))  # compiles, but its first mask is refused


@pytest.mark.parametrize(
    "lark", ["start: nothing", 'start: "open', "", "start: /(/", "x" * 10, MANY_WORDS, "start: " + "(" * 9000]
)
async def test_a_bad_grammar_is_a_bad_request(
    client: Client, ask: Ask, lark: str, question: list[int], capital: list[int]
) -> None:
    with pytest.raises(BadRequestError, match="grammar cannot be used") as caught:
        await client.submit(ask("Hi"), lark=lark)
    assert caught.value.param == "constraint"
    assert (await client.run(question)).ids == capital


async def test_a_grammar_that_becomes_too_complex_ends_its_own_request(
    client: Client, ask: Ask, question: list[int], capital: list[int]
) -> None:
    lark = 'start: a{1,3000}\na: b{1,3000}\nb: c{1,3000}\nc: "x"'
    answer = await client.run(ask("Hi"), lark=lark, max_tokens=300)
    assert answer.finish == "error"
    assert "too complex" in (answer.last.error or "")
    assert (await client.run(question)).ids == capital


async def test_a_grammar_has_a_time_limit(
    client: Client, ask: Ask, monkeypatch: pytest.MonkeyPatch, question: list[int], capital: list[int]
) -> None:
    monkeypatch.setattr(engine, "GRAMMAR_WAIT", 0.01)
    lark = "start: " + " ".join(f'"word{i}"' for i in range(20000))
    with pytest.raises(BadRequestError, match="seconds to compile"):
        await client.submit(ask("Hi"), lark=lark)
    assert (await client.run(question)).ids == capital


async def test_rules_that_contradict_each_other_end_the_request_alone(client: Client, ask: Ask) -> None:
    answer = await client.run(ask("Hi"), lark='start: "yes"', allowed_token_ids=(100,))
    assert answer.finish == "error"
    assert "rules" in (answer.last.error or "")
    assert client.engine.healthy


async def test_abort_frees_the_sequence(client: Client, ask: Ask, question: list[int], capital: list[int]) -> None:
    running = [await client.submit(ask(f"Story {i}"), max_tokens=3000, ignore_eos=True) for i in range(8)]
    waiting = await client.submit(question)
    for answer in running:
        await answer.begun.wait()
    assert not waiting.outputs
    client.engine.abort(running[0].request_id)
    given = len(running[0].outputs)
    assert (await client.finished(waiting)).ids == capital
    assert len(running[0].outputs) == given
    client.engine.abort("nobody")
    for answer in running:
        client.engine.abort(answer.request_id)
    assert (await client.run(question)).ids == capital


async def test_an_id_may_be_used_again_after_an_abort(
    client: Client, ask: Ask, question: list[int], capital: list[int]
) -> None:
    first = await client.submit(ask("Story"), max_tokens=3000, ignore_eos=True)
    await first.begun.wait()
    with pytest.raises(BadRequestError, match="already running"):
        await client.engine.submit(_request(first.request_id, question))
    client.engine.abort(first.request_id)
    first.outputs.clear()
    await client.engine.submit(_request(first.request_id, question))
    assert (await client.finished(first)).ids == capital


def _request(request_id: str, prompt: list[int]) -> EngineRequest:
    return EngineRequest(request_id, prompt, SamplingParams(max_tokens=16, temperature=0.0))


async def test_a_cancelled_submit_leaves_nothing_behind(
    client: Client, ask: Ask, question: list[int], capital: list[int]
) -> None:
    task = asyncio.create_task(client.submit(ask("Story"), lark="start: /[a-z ]+/", max_tokens=3000))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await client.run(question)).ids == capital
    assert not list(client.answers.values())[-2].outputs


async def test_priority(client: Client, ask: Ask) -> None:
    running = [await client.submit(ask(f"Story {i}"), max_tokens=30, ignore_eos=True) for i in range(8)]
    late = await client.submit(ask("One"), max_tokens=1, priority=5)
    urgent = await client.submit(ask("Two"), max_tokens=1, priority=-5)
    for answer in (*running, late, urgent):
        await client.finished(answer)
    first = [next(i for i, step in enumerate(client.steps) if one.request_id in step) for one in (urgent, late)]
    assert first == sorted(first)


async def test_refusals(client: Client, ask: Ask) -> None:
    with pytest.raises(ContextLengthError, match=r"4096 tokens.* 5000"):
        await client.submit([1] * 5000)
    with pytest.raises(ContextLengthError, match="leave room"):
        await client.submit([1] * 4096)
    for prompt in ([], [49152], [-1]):
        with pytest.raises(BadRequestError, match="prompt"):
            await client.submit(prompt)
    for rules in ({"temperature": math.nan}, {"top_p": 0.0}, {"logprobs": 21}, {"logit_bias": {49152: 1.0}}):
        with pytest.raises(BadRequestError, match=next(iter(rules))):
            await client.submit(ask("Hi"), **rules)
    with pytest.raises(NotSupportedError, match="does not embed"):
        await client.engine.embed([[1, 2]])
