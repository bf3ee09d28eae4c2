"""The law of replays: what was recorded comes again, byte for byte; and what has changed shows at its layer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from portico.parsing import render_calls
from portico.server.process.rerun import CannotReplayError, Means, rerun
from portico.trace import Difference, Export, first_difference, read_export, vocabulary
from support.effort import some
from support.generation import tiny_tokenizer
from support.replay import Replaying, replaying
from support.server import running_server
from support.streams import TOOL_PARSERS
from support.trace import ANSWERS, CHAT, REQUESTS, WEATHER, asking

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying(ANSWERS, inspect=True, tool_parser="hermes", reasoning_parser="qwen3") as up:
        yield up


def export_of(server: Replaying, path: str, body: Any, headers: dict[str, str] | None = None) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx.post(server.url + path, content=content, headers={**JSON, **(headers or {})}, timeout=120)
    return httpx.get(f"{server.url}/inspect/traces/{response.headers['x-portico-trace-id']}").content


def replayed(data: bytes | Export, means: Means | None = None) -> tuple[Export, Export, Difference | None]:
    recorded = read_export(data) if isinstance(data, bytes) else data
    again = asyncio.run(rerun(recorded, means))
    return recorded, again, first_difference(recorded, again)


def assert_identical(data: bytes) -> None:
    for means in (None, Means(tokenizer=tiny_tokenizer())):
        recorded, again, difference = replayed(data, means)
        assert difference is None, difference
        assert again.trace.error == recorded.trace.error
        for kind in ("text", "event", "held"):
            assert len(again.of_kind(kind)) == len(recorded.of_kind(kind))


class TestIdentical:
    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(("name", "more"), REQUESTS)
    def test_chat(self, server: Replaying, name: str, more: dict[str, Any], stream: bool) -> None:
        if not stream:
            more = {key: value for key, value in more.items() if key != "stream_options"}
        assert_identical(export_of(server, CHAT, asking(name, stream=stream, **more)))

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("name", list(ANSWERS))
    def test_messages(self, server: Replaying, name: str, stream: bool) -> None:
        tools = [{"name": "get_weather", "input_schema": WEATHER["function"]["parameters"]}]
        assert_identical(export_of(server, "/v1/messages", asking(name, stream=stream, tools=tools)))

    @pytest.mark.parametrize("stream", [True, False])
    def test_completions_of_several_prompts(self, server: Replaying, stream: bool) -> None:
        body = {"prompt": ["[[plain]]", "[[stop]]"], "n": 2, "max_tokens": 60, "stream": stream, "logprobs": 1}
        assert_identical(export_of(server, "/v1/completions", body))

    def test_a_prompt_of_token_ids(self, server: Replaying) -> None:
        ids = tiny_tokenizer().encode("Grüße [[plain]]")
        assert_identical(export_of(server, "/v1/completions", {"prompt": ids, "echo": True, "max_tokens": 5}))

    def test_forced_calls(self, server: Replaying) -> None:
        body = asking("call", tools=[WEATHER], tool_choice="required", stream=True)
        recorded, again, difference = replayed(export_of(server, CHAT, body))
        assert difference is None
        assert recorded.of_kind("constraint")[0].data == again.of_kind("constraint")[0].data

    def test_a_warning_and_a_given_id(self, server: Replaying) -> None:
        data = export_of(server, CHAT, asking("plain", tempratur=1), {"x-request-id": "mine-7"})
        assert read_export(data).trace.request_id == "mine-7"
        assert_identical(data)

    def test_a_client_that_goes(self, server: Replaying) -> None:
        recorded = read_export(export_of(server, CHAT, asking("plain", stream=True)))
        cut = recorded.of_kind("step")[4].id  # as if it had gone before the fifth step
        recorded.artifacts, recorded.trace.state = recorded.artifacts[:cut], "gone"
        _, again, difference = replayed(recorded)
        assert difference is None
        assert again.trace.state == "gone"

    def test_what_the_engine_said_before_the_response_began(self, server: Replaying) -> None:
        """Anthropic's first frame tells what is known by then; a replay knows no more and no less."""
        recorded = read_export(export_of(server, "/v1/messages", asking("plain", stream=True)))
        response, head, chunk = recorded.of_kind("response", "frame", "chunk")[:3]
        step = recorded.of_kind("step")[0]
        late = recorded.artifacts.index(recorded.of_kind("step")[1])
        first = recorded.artifacts[step.id : late]
        recorded.artifacts = [
            *recorded.artifacts[: response.id], *first, response, head, chunk, *recorded.artifacts[late:]
        ]  # fmt: skip
        for number, artifact in enumerate(recorded.artifacts):
            artifact.id = number
        recorded, again, difference = replayed(recorded)
        assert difference is None
        assert again.of_kind("step")[0].id < again.of_kind("response")[0].id

    def test_a_time_limit(self) -> None:
        with replaying(
            ANSWERS, inspect=True, request_timeout=0.5, interval=0.4, capabilities=frozenset({"generate"})
        ) as up:
            for stream in (True, False):
                data = export_of(up, CHAT, asking("plain", stream=stream))
                assert read_export(data).trace.error.code == "request_timeout"  # type: ignore[union-attr]
                assert_identical(data)


@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
def test_every_format(server: Replaying, path: str) -> None:
    """Whatever ids a format makes up for its calls: a replay of a replay is the replay."""
    tool = WEATHER if path == CHAT else {"name": "get_weather", "input_schema": WEATHER["function"]["parameters"]}
    data = export_of(server, path, asking("call", tools=[tool], stream=True))
    calls = [{"name": "get_weather", "arguments": {"city": "Köln"}}] * 2
    called = 0
    for name in some(TOOL_PARSERS, 25, int(path == CHAT)):
        recorded = read_export(data)
        recorded.facts["models"][0].update(tool_parser=name, reasoning_parser=None)
        tokens = tiny_tokenizer().encode(render_calls(calls, name, [WEATHER["function"]]))
        step = recorded.of_kind("step")[0]
        before = [one for one in recorded.artifacts if one.kind != "step"]
        assert recorded.vocabulary is not None
        recorded.vocabulary = vocabulary(tiny_tokenizer(), [*tokens, *recorded.of_kind("prompt_tokens")[0].data["ids"]])
        steps = []
        for start in range(0, len(tokens), 5):
            last = start + 5 >= len(tokens)
            more = {"finish_reason": "stop"} if last else {}
            steps.append(msgspec.structs.replace(step, data={"ids": tokens[start : start + 5], **more}))
        recorded.artifacts = [*before, *steps]
        first = asyncio.run(rerun(recorded))
        second = asyncio.run(rerun(first))
        assert first_difference(first, second) is None, name
        called += any(one.data["type"] == "CallStart" for one in first.of_kind("event"))
    assert called > 16


class TestRefused:
    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            {**asking("plain"), "temperature": "hot"},
            {**asking("plain"), "model": "nobody"},
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            {**asking("plain"), "chat_template": "{{ 1 }}"},
            {**asking("plain"), "response_format": {"type": "json_schema", "json_schema": {
                "name": "x", "schema": {"type": "nothing"}}}},
            {**asking("plain"), "logprobs": True, "top_logprobs": 1000},
        ],
    )  # fmt: skip
    def test_the_same_error_comes_again(self, server: Replaying, body: Any) -> None:
        data = export_of(server, CHAT, body)
        recorded = read_export(data)
        assert recorded.trace.state == "refused"
        assert_identical(data)
        asked = {"messages": "no list"} if isinstance(body, bytes) else {**body, "max_tokens": 5}
        assert_identical(export_of(server, "/v1/messages", asked))

    def test_by_the_engine(self) -> None:
        with replaying(ANSWERS, inspect=True, context_length=40) as up:
            assert_identical(export_of(up, CHAT, asking("plain " * 40)))

    def test_a_header(self, server: Replaying) -> None:
        data = export_of(server, CHAT, b"{}", {"content-type": "text/plain"})
        with pytest.raises(CannotReplayError, match="did not arrive whole"):
            replayed(data)


@pytest.fixture(scope="module")
def called(server: Replaying) -> bytes:
    return export_of(server, CHAT, asking("call", tools=[WEATHER], stream=True))


class TestDifferences:
    """Each layer broken once."""

    def test_another_template(self, called: bytes) -> None:
        means = Means(template="{% for m in messages %}{{ m.content }}{% endfor %}")
        _, _, difference = replayed(called, means)
        assert difference is not None
        assert (difference.lane, difference.expected.what) == ("prompt", "the prompt")  # type: ignore[union-attr]
        assert difference.got.value == "[[call]]"  # type: ignore[union-attr]

    def test_another_parser(self, called: bytes) -> None:
        _, _, difference = replayed(called, Means(tool_parser="none"))
        assert difference is not None
        assert difference.lane == "prompt"  # what the engine was asked says it first
        recorded = read_export(called)
        for artifact in recorded.of_kind("submitted"):
            artifact.data["tool_parser"] = None
        _, _, difference = replayed(recorded, Means(tool_parser="none"))
        assert difference is not None
        assert difference.lane == "events"
        assert "<too" in difference.got.value["text"]  # type: ignore[union-attr]

    def test_special_tokens_that_show(self, called: bytes) -> None:
        """Without a reader for thoughts their special token is hidden: that is a matter of text."""
        recorded = read_export(called)
        for artifact in recorded.of_kind("submitted"):
            artifact.data["reasoning_parser"] = None
        _, _, difference = replayed(recorded, Means(reasoning_parser="none"))
        assert difference is not None
        assert difference.lane == "text"

    def test_a_step_gives_other_text(self, called: bytes) -> None:
        recorded = read_export(called)
        step = recorded.of_kind("step")[5]
        step.data["ids"] = [*step.data["ids"][:-1], tiny_tokenizer().encode("x")[0]]
        _, _, difference = replayed(recorded)
        assert difference is not None
        assert (difference.lane, difference.expected.step) == ("text", 6)  # type: ignore[union-attr]

    def test_holding_back_longer(self, called: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same events, a step later."""
        from portico.generation import Choice

        feed, kept = Choice.feed, {}

        def late(self: Choice, output: Any) -> Any:
            delta = feed(self, output)
            before = kept.pop(self, None)
            if delta is None or delta.finish is not None:
                if before is not None and delta is not None:
                    delta.events[:0] = before.events
                return delta if delta is not None else before
            kept[self] = delta
            return before

        monkeypatch.setattr(Choice, "feed", late)
        _, _, difference = replayed(called)
        assert difference is not None
        assert difference.lane == "events"
        assert difference.expected.value == difference.got.value  # type: ignore[union-attr]
        assert difference.expected.step == difference.got.step - 1  # type: ignore[union-attr]

    def test_an_encoder_changes(self, called: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        from portico.protocols.openai import chat_answer

        monkeypatch.setitem(chat_answer.FINISH_REASONS, "tool_calls", "function_call")
        _, _, difference = replayed(called)
        assert difference is not None
        assert difference.lane == "wire"
        assert '"finish_reason":"tool_calls"' in difference.expected.value  # type: ignore[union-attr]
        assert '"finish_reason":"function_call"' in difference.got.value  # type: ignore[union-attr]

    def test_a_bug_in_the_line(self, called: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        from portico.parsing import OutputParser

        def broken(self: Any, text: str) -> Any:
            raise RuntimeError("lost")

        monkeypatch.setattr(OutputParser, "feed", broken)
        _, _, difference = replayed(called)
        assert difference is not None
        assert difference.lane in ("text", "events")
        assert difference.errors[0] is None
        assert difference.errors[1].code == "internal_error"  # type: ignore[union-attr]

    def test_a_refusal_that_is_none_any_more(self, server: Replaying) -> None:
        recorded = read_export(export_of(server, CHAT, {**asking("plain"), "tempratur": 1, "temperature": "hot"}))
        recorded.artifacts[0].data["body"] = json.dumps(asking("plain"))
        _, _, difference = replayed(recorded)
        assert difference is not None
        assert (difference.lane, difference.expected) == ("request", None)
        assert difference.errors[0].code == "invalid_type"  # type: ignore[union-attr]

    def test_call_ids_that_the_model_wrote_are_compared(self, server: Replaying) -> None:
        recorded = read_export(export_of(server, CHAT, asking("call", tools=[WEATHER])))
        for event in recorded.of_kind("event"):
            if event.data["type"] == "CallStart":
                recorded.of_kind("text")[0].data["text"] += event.data["id"]
        difference = first_difference(recorded, asyncio.run(rerun(recorded)))
        assert difference is not None


class TestCannot:
    def test_redacted(self) -> None:
        with replaying(ANSWERS, inspect=True, redact=True) as up, pytest.raises(CannotReplayError, match="redacted"):
            replayed(export_of(up, CHAT, asking("plain")))

    def test_dropped(self, server: Replaying) -> None:
        recorded = read_export(export_of(server, CHAT, asking("plain")))
        recorded.trace.dropped = 3
        with pytest.raises(CannotReplayError, match="3 artifacts were dropped"):
            replayed(recorded)

    def test_no_generation(self, server: Replaying) -> None:
        with pytest.raises(CannotReplayError, match="no steps to replay"):
            replayed(export_of(server, "/tokenize", {"prompt": "abc"}))

    def test_no_vocabulary(self, server: Replaying) -> None:
        recorded = read_export(export_of(server, CHAT, asking("plain")))
        recorded.vocabulary = None
        with pytest.raises(CannotReplayError, match="needs --model"):
            replayed(recorded)
        assert replayed(recorded, Means(tokenizer=tiny_tokenizer()))[2] is None

    def test_text_that_is_not_in_the_trace(self, server: Replaying) -> None:
        data = export_of(server, CHAT, asking("plain", bad_words=["slow"]))
        with pytest.raises(CannotReplayError, match="needs --model"):
            replayed(data)
        assert replayed(data, Means(tokenizer=tiny_tokenizer()))[2] is None

    def test_another_file(self) -> None:
        with pytest.raises(ValueError, match="no exported trace"):
            read_export(b'{"hello": 1}')


@pytest.mark.slow
def test_the_real_model(smollm2_path: Path) -> None:
    """A recorded request to a real engine: with its tokenizer and without."""
    from portico.prompting import load_tokenizer

    with running_server(smollm2_path, "--inspect") as up:
        model = Replaying(up.url)
        asked = {"messages": [{"role": "user", "content": "Say: Γειά σου 🦜"}], "max_tokens": 16, "temperature": 0}
        chat = export_of(model, CHAT, {**asked, "stream": True, "logprobs": True, "top_logprobs": 2})
        forced = export_of(model, CHAT, {**asked, "tools": [WEATHER], "tool_choice": "required", "max_tokens": 40})
        message = export_of(model, "/v1/messages", {**asked, "model": smollm2_path.stem, "stream": True})
    tokenizer = load_tokenizer(smollm2_path)
    for data in (chat, forced, message):
        for means in (None, Means(tokenizer=tokenizer)):
            recorded, again, difference = replayed(data, means)
            assert difference is None, difference
            assert len(recorded.of_kind("step")) > 5, recorded.trace.error
            assert recorded.of_kind("prompt_tokens")[0].data == again.of_kind("prompt_tokens")[0].data
