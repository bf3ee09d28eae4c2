"""The main job, for real: the official client, a real server process, a real model."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from support.openai_client import client_of
from support.processes import children, runs
from support.server import RunningServer, running_server
from support.wait import until


@pytest.fixture(scope="module")
def server(smollm2_path: Path) -> Iterator[RunningServer]:
    with running_server("smollm2", "--log-level", "warning") as running:
        yield running


CAPITAL = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]


def saying(text: str) -> dict[str, Any]:
    """The fields of a request that can be answered in one way only."""
    return {"max_tokens": 100, "extra_body": {"structured_outputs": {"choice": [text]}}}


def streamed_text(client: OpenAI, **arguments: object) -> tuple[str, str | None]:
    text, reason = "", None
    for chunk in client.chat.completions.create(model="smollm2", stream=True, **arguments):  # type: ignore[call-overload]
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return text, reason


def test_answers(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="smollm2", messages=CAPITAL, **saying("Paris, naturally."))
    assert answer.choices[0].message.content == "Paris, naturally."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("seed", range(4))
def test_streaming_equals_not_streaming(client: OpenAI, seed: int) -> None:
    """Free text is compared with care in ``clients/test_openai_clients.py``: there greedy is not yet the same."""
    texts = ["A story.\n\nThe end.", '{"a": [1]} <b>', "naïve 日本語", "Hello! 🎉👩‍🚀"]
    arguments = {"messages": CAPITAL, "temperature": 0.5, "seed": seed, **saying(texts[seed])}
    whole = client.chat.completions.create(model="smollm2", **arguments)  # type: ignore[call-overload]
    text, reason = streamed_text(client, **arguments)
    assert text == whole.choices[0].message.content == texts[seed]
    assert reason == whole.choices[0].finish_reason == "stop"


def test_seeded_sampling_repeats(client: OpenAI) -> None:
    """So hot that the model's opinion does not count, and with it what its arithmetic depends on: its seed does."""
    arguments = {"messages": CAPITAL, "temperature": 100, "seed": 7, "max_tokens": 12}
    first, second = streamed_text(client, **arguments), streamed_text(client, **arguments)
    other, _ = streamed_text(client, **{**arguments, "seed": 8})
    assert first == second
    assert other != first[0]


def test_eight_streams_at_once(server: RunningServer, client: OpenAI) -> None:
    texts = [f"{number} plus {number} is {2 * number}, I think. 🧮" for number in range(8)]

    def ask(text: str) -> tuple[str, str | None]:
        return streamed_text(client, messages=CAPITAL, temperature=0, **saying(text))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, texts)) == [(text, "stop") for text in texts]


def test_emoji_survive(client: OpenAI) -> None:
    """A rocket is several tokens, none of them a character."""
    answer = client.completions.create(
        model="smollm2", prompt="Repeat: 🚀🚀", temperature=0, stream=True, **saying("🚀🚀🚀 🦜")
    )
    assert "".join(chunk.choices[0].text for chunk in answer if chunk.choices) == "🚀🚀🚀 🦜"


def test_several_choices(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smollm2", messages=CAPITAL, n=3, seed=1, temperature=100, max_tokens=16
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    seen: dict[int, list[str]] = {}
    for chunk in client.chat.completions.create(
        model="smollm2", messages=CAPITAL, n=3, seed=1, temperature=100, max_tokens=16, stream=True
    ):
        for choice in chunk.choices:
            seen.setdefault(choice.index, []).append(choice.delta.content or "")
    assert sorted(seen) == [0, 1, 2]


def test_stop_string(client: OpenAI) -> None:
    arguments = {"messages": CAPITAL, "stop": ["Paris", "zzz"], **saying("The capital of France is Paris.")}
    whole = client.chat.completions.create(model="smollm2", **arguments)  # type: ignore[call-overload]
    assert whole.choices[0].message.content == "The capital of France is "
    assert whole.choices[0].finish_reason == "stop"
    assert whole.choices[0].stop_reason == "Paris"
    assert streamed_text(client, **arguments) == (whole.choices[0].message.content, "stop")


def test_logprobs(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smollm2", messages=CAPITAL, temperature=0, max_tokens=10, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    for entry in logprobs.content:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].logprob == pytest.approx(entry.logprob, abs=1e-4)  # greedy
    text = b"".join(bytes(entry.bytes or []) for entry in logprobs.content).decode()
    assert text == answer.choices[0].message.content
    legacy = client.completions.create(model="smollm2", prompt="One, two,", temperature=0, max_tokens=5, logprobs=2)
    assert legacy.choices[0].logprobs is not None
    assert "".join(legacy.choices[0].logprobs.tokens or []) == legacy.choices[0].text


def test_usage_in_the_stream(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="smollm2",
            messages=CAPITAL,
            temperature=0,
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[0].choices[0].delta.role == "assistant"
    assert sum(1 for chunk in chunks for choice in chunk.choices if choice.finish_reason) == 1


def test_completions_take_text_and_ids(client: OpenAI) -> None:
    text = client.completions.create(model="smollm2", prompt=["Hello", "Good"], temperature=0, max_tokens=4)
    assert [choice.index for choice in text.choices] == [0, 1]
    echoed = client.completions.create(model="smollm2", prompt="Hello", temperature=0, max_tokens=4, echo=True)
    assert echoed.choices[0].text.startswith("Hello")
    assert len(echoed.choices[0].text) > len("Hello")
    ids = client.completions.create(model="smollm2", prompt=[504, 3575, 282], temperature=0, max_tokens=4)
    assert ids.usage is not None
    assert ids.usage.prompt_tokens == 3


def test_models(client: OpenAI) -> None:
    first, second = client.models.list().data, client.models.list().data
    assert [model.id for model in first] == ["smollm2"]
    assert first[0].created == second[0].created
    assert client.models.retrieve("smollm2").id == "smollm2"


class TestErrors:
    """Everything that can be refused is refused with a status, a name and no stack trace."""

    @pytest.mark.parametrize(
        ("change", "status", "param"),
        [
            ({"model": "nobody"}, 404, "model"),
            ({"messages": "hello"}, 400, "messages"),
            ({"messages": []}, 400, "messages"),
            ({"messages": [{"role": "user", "content": 5}]}, 400, "messages[0].content"),
            ({"temperature": "hot"}, 400, "temperature"),
            ({"temperature": -1}, 400, "temperature"),
            ({"top_p": -0.5}, 400, "top_p"),
            ({"n": 0}, 400, "n"),
            ({"n": 100000}, 400, "n"),
            ({"max_tokens": 0}, 400, "max_tokens"),
            ({"stop": ["x"] * 1000}, 400, "stop"),
            ({"stop": [""]}, 400, "stop"),
            ({"logit_bias": {"x": 1}}, 400, "logit_bias"),
            ({"logit_bias": {"99999999": 1}}, 400, "logit_bias"),
            ({"top_logprobs": 3}, 400, "top_logprobs"),
            ({"logprobs": True, "top_logprobs": 1000}, 400, "top_logprobs"),
            ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
            ({"messages": [{"role": "user", "content": "many words " * 20000}]}, 400, "messages"),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    def test_bad_chat_requests(
        self, server: RunningServer, change: dict[str, object], status: int, param: str | None, stream: bool
    ) -> None:
        if stream and "stream_options" in change:
            pytest.skip("legal when streaming")
        body = {"model": "smollm2", "messages": CAPITAL, "max_tokens": 4, "stream": stream, **change}
        response = httpx.post(server.base_url + "/chat/completions", json=body, timeout=120)
        assert response.status_code == status, response.text
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["param"] == param
        assert len(response.content) < 2048
        assert "Traceback" not in response.text

    def test_too_long_says_so(self, client: OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model="smollm2", messages=[{"role": "user", "content": "many words " * 20000}]
            )
        assert caught.value.code == "context_length_exceeded"

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"messages": [}'])
    def test_bad_json(self, server: RunningServer, body: bytes) -> None:
        headers = {"content-type": "application/json"}
        response = httpx.post(server.base_url + "/chat/completions", content=body, headers=headers)
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"

    def test_wrong_paths_and_methods(self, server: RunningServer) -> None:
        assert httpx.get(server.base_url + "/nothing").json()["error"]["code"] == "not_found"
        response = httpx.get(server.base_url + "/chat/completions")
        assert response.status_code == 405
        assert response.headers["allow"] == "POST"
        assert response.json()["error"]["code"] == "method_not_allowed"
        text = httpx.post(server.base_url + "/chat/completions", content="hi", headers={"content-type": "text/plain"})
        assert text.status_code == 415

    def test_unknown_fields_are_named(self, server: RunningServer) -> None:
        body = {"model": "smollm2", "messages": CAPITAL, "max_tokens": 1, "temprature": 1}
        response = httpx.post(server.base_url + "/chat/completions", json=body, timeout=120)
        assert response.status_code == 200
        assert "temprature" in response.headers["x-portico-warning"]


async def test_disconnect_aborts_the_generation(server: RunningServer) -> None:
    """A client that goes frees its sequence: afterwards a short request is not queued behind long ones. Time is told
    by the engine's own steps: an answer that was begun before them is still being written when it is done."""
    long: Any = {"model": "smollm2", "messages": CAPITAL, "stream": True, "extra_body": {"ignore_eos": True}}
    async with AsyncOpenAI(base_url=server.base_url, api_key="none", max_retries=0, timeout=600) as one:

        async def start_and_leave() -> None:
            stream = await one.chat.completions.create(**long, max_tokens=2000)
            async for _ in stream:
                break
            await stream.close()

        async def read(begun: asyncio.Event) -> None:
            async for _ in await one.chat.completions.create(**long, max_tokens=2000):
                begun.set()

        begun = asyncio.Event()
        clock = asyncio.create_task(read(begun))
        await begun.wait()
        await asyncio.gather(*(start_and_leave() for _ in range(16)))
        await one.chat.completions.create(model="smollm2", messages=CAPITAL, max_tokens=4)
        assert not clock.done()
        clock.cancel()


@pytest.mark.slow
def test_engine_death_is_survived(smollm2_path: Path) -> None:
    """Kill the engine's process in the middle of a stream, where nothing is to be resumed: an in-band error, then the
    next request works."""
    with running_server("smollm2", "--log-level", "error", "--no-resume") as running:
        engine = children(running.process.pid)
        assert len(engine) == 1
        with client_of(running) as client:
            stream = client.chat.completions.create(
                model="smollm2", messages=CAPITAL, stream=True, max_tokens=2000, extra_body={"ignore_eos": True}
            )
            next(iter(stream))
            os.kill(engine[0], signal.SIGKILL)
            with pytest.raises(openai.APIError):
                for _ in stream:
                    pass
            answer = client.chat.completions.create(model="smollm2", messages=CAPITAL, temperature=0, max_tokens=8)
            assert answer.choices[0].message.content
        replaced = children(running.process.pid)
        assert running.stop() == 0
        assert not any(map(runs, engine + replaced))


@pytest.mark.slow
def test_answers_outlive_their_engine(smollm2_path: Path) -> None:
    """Kill the engine's process under eight streams: all of them end as if nothing had happened."""
    options = {"max_tokens": 40, "extra_body": {"ignore_eos": True}, "stream_options": {"include_usage": True}}
    with running_server("smollm2", "--log-level", "info", "--context-length", "512") as running:
        with client_of(running) as client:
            streams = [
                client.chat.completions.create(model="smollm2", messages=CAPITAL, stream=True, **options)  # type: ignore[call-overload]
                for _ in range(8)
            ]
            for stream in streams:
                next(iter(stream))
            (engine,) = children(running.process.pid)
            os.kill(engine, signal.SIGKILL)
            for stream in streams:
                *_, last, usage = stream
                assert last.choices[0].finish_reason == "length"
                assert usage.usage.completion_tokens == 40
        assert "8 answers go on" in running.log()


@pytest.mark.slow
def test_no_orphan_when_the_server_is_killed(smollm2_path: Path) -> None:
    with running_server("smollm2", "--log-level", "error") as running:
        engine = children(running.process.pid)
        running.process.kill()
        running.process.wait()
        until(lambda: not any(map(runs, engine)))


def test_sigterm_drains(smollm2_path: Path) -> None:
    """A stream that has begun is finished; then the server ends with status 0."""
    with (
        running_server("smollm2", "--log-level", "error") as running,
        client_of(running) as client,
    ):
        stream = client.chat.completions.create(
            model="smollm2", messages=CAPITAL, stream=True, max_tokens=64, extra_body={"ignore_eos": True}
        )
        iterator = iter(stream)
        next(iterator)
        running.process.send_signal(signal.SIGTERM)
        reasons = [choice.finish_reason for chunk in iterator for choice in chunk.choices if choice.finish_reason]
        assert reasons == ["length"]
        assert running.process.wait(120) == 0
