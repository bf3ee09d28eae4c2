"""Filling gaps: completions with a suffix, and llama.cpp's /infill; prompts that are cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.replay import Replaying, replaying

GAP = "<|fim_prefix|>def add(a, b):\n    return <|fim_suffix|>\n\nprint(add(1, 2))<|fim_middle|>"
PREFIX, SUFFIX = "def add(a, b):\n    return ", "\n\nprint(add(1, 2))"


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying({"sum": "a + b"}) as up:
        yield up


def post(server: Replaying, path: str, **body: Any) -> httpx.Response:
    response = httpx.post(server.url + path, json=body)
    assert response.status_code == 200, response.text
    assert "x-portico-warning" not in response.headers
    return response


class TestSuffix:
    def test_the_model_gets_the_gap(self, server: Replaying) -> None:
        choice = post(server, "/v1/completions", prompt=PREFIX, suffix=SUFFIX, max_tokens=50).json()["choices"][0]
        assert choice["text"] == "a + b"
        assert server.prompts[-1] == GAP

    @pytest.mark.parametrize("wrong", [{"prompt": [1, 2]}, {"prompt": "a", "echo": True}])
    def test_what_does_not_go_together(self, server: Replaying, wrong: dict[str, Any]) -> None:
        response = httpx.post(server.url + "/v1/completions", json={"suffix": "x", **wrong})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "suffix")


class TestInfill:
    def body(self, **more: Any) -> dict[str, Any]:
        return {"input_prefix": PREFIX, "input_suffix": SUFFIX, "n_predict": 50, "cache_prompt": True, **more}

    def test_whole(self, server: Replaying) -> None:
        answer = post(server, "/infill", **self.body(top_k=40, samplers=["top_k"], t_max_predict_ms=500)).json()
        assert (answer["content"], answer["stop"], answer["stop_type"]) == ("a + b", True, "eos")
        assert answer["tokens_predicted"] >= 5
        assert server.prompts[-1] == GAP

    def test_streamed(self, server: Replaying) -> None:
        lines = post(server, "/infill", **self.body(stream=True, stop=["+"])).text.split("\n\n")
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        assert "".join(event["content"] for event in events) == "a "
        assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]
        assert (events[-1]["stop_type"], events[-1]["stopping_word"]) == ("word", "+")

    def test_what_stands_in_the_gap_and_other_files(self, server: Replaying) -> None:
        post(server, "/infill", **self.body(prompt="b + ", input_extra=[{"filename": "m.py", "text": "x"}]))
        assert server.prompts[-1].startswith("m.py\nx\n\n<|fim_prefix|>")
        assert "return b + <|fim_suffix|>" in server.prompts[-1]

    def test_only_into_the_cache(self, server: Replaying) -> None:
        answer = post(
            server, "/infill", **self.body(n_predict=0, response_fields=["content", "tokens_predicted"])
        ).json()
        assert answer == {"content": "", "tokens_predicted": 0}

    def test_limits(self, server: Replaying) -> None:
        assert post(server, "/infill", **self.body(n_predict=2)).json()["stop_type"] == "limit"


class TestCutPrompts:
    @pytest.mark.parametrize(("side", "kept"), [(None, "ghij"), ("left", "ghij"), ("right", "abcd")])
    def test_completions(self, server: Replaying, side: str | None, kept: str) -> None:
        cut = {"truncate_prompt_tokens": 4, "truncation_side": side}
        answer = post(server, "/v1/completions", prompt="abcdefghij", echo=True, max_tokens=3, **cut).json()
        assert server.prompts[-1] == kept
        assert answer["usage"]["prompt_tokens"] == 4
        assert answer["choices"][0]["text"].startswith(kept)

    def test_conversations(self, server: Replaying) -> None:
        message = {"role": "user", "content": "x" * 100}
        answer = post(server, "/v1/chat/completions", messages=[message], truncate_prompt_tokens=20.0, max_tokens=3)
        assert answer.json()["usage"]["prompt_tokens"] == 20
        assert server.prompts[-1] == "xxxxxxx<|assistant|>"

    def test_to_the_context(self) -> None:
        with replaying({"sum": "a + b"}, context_length=32) as up:
            cut = {"prompt": "x" * 100, "truncate_prompt_tokens": -1}
            assert post(up, "/v1/completions", **cut, max_tokens=10).json()["usage"]["prompt_tokens"] == 22

    def test_nothing_is_no_prompt(self, server: Replaying) -> None:
        response = httpx.post(server.url + "/v1/completions", json={"prompt": "a", "truncate_prompt_tokens": 0})
        assert response.json()["error"]["param"] == "truncate_prompt_tokens"
