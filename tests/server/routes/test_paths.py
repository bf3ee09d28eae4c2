"""Paths: which there are, and what is said of those that there are not; names of models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from portico.errors import NotSupportedError
from portico.server.line.model import ServedModel
from portico.server.line.offers import Offer, Offers
from portico.server.line.served import Served
from support.generation import tiny_model
from support.replay import Replaying, replaying

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying({"hello": "Hello there."}, names=["tiny", "small"], patterns=["claude-*", "gpt-[45]*"]) as up:
        yield up


class TestWhatWasMeant:
    @pytest.mark.parametrize(
        ("path", "meant"),
        [
            ("//v1/models", "/v1/models"),
            ("/v1//models", "/v1/models"),
            ("/v1/models/", "/v1/models"),
            ("/v1/chat/completions/", "/v1/chat/completions"),
            ("/v1/v1/chat/completions", "/v1/chat/completions"),
            ("/v1/v1/messages", "/v1/messages"),
            ("/chat/completions", "/v1/chat/completions"),
            ("/messages/count_tokens", "/v1/messages/count_tokens"),
            ("/openai/v1/embeddings/", "/v1/embeddings"),
            ("/v1/health", "/health"),
            ("/models/tiny", "/v1/models/tiny"),
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_is_named(self, server: Replaying, path: str, meant: str, method: str) -> None:
        response = httpx.request(method, server.url + path, json=CHAT if method == "POST" else None)
        assert response.status_code == 404
        assert response.json()["error"]["message"].endswith(f" Did you mean {meant}?")

    @pytest.mark.parametrize("path", ["/nope", "/v1/nope", "/v1", "/" + "x" * 5000, "/v1/v1"])
    def test_or_nothing(self, server: Replaying, path: str) -> None:
        response = httpx.get(server.url + path)
        assert response.status_code == 404
        assert "mean" not in response.json()["error"]["message"]

    def test_also_in_the_other_shape(self, server: Replaying) -> None:
        error = httpx.post(server.url + "/v1/messages/", json={}, headers={"anthropic-version": "2023-06-01"}).json()
        assert error["error"]["type"] == "not_found_error"
        assert "/v1/messages?" in error["error"]["message"]


class TestTheRoot:
    def test_answers(self, server: Replaying) -> None:
        assert httpx.get(server.url, headers={"accept": "text/html"}).json()["api"] == "/v1"
        head = httpx.head(server.url)
        assert (head.status_code, head.content) == (200, b"")

    def test_sends_browsers_to_the_page(self) -> None:
        with replaying({"hello": "Hello."}, inspect=True, keys=["k"]) as up:
            browser = httpx.get(up.url, headers={"accept": "text/html,*/*;q=0.8"}, follow_redirects=True)
            assert browser.url.path == "/play"
            assert browser.headers["content-type"].startswith("text/html")
            assert httpx.get(up.url).json()["server"] == "portico"


class TestNames:
    @pytest.mark.parametrize("name", ["tiny", "small", "claude-sonnet-4-5", "gpt-4o"])
    def test_the_answer_has_the_name_that_was_asked_for(self, server: Replaying, name: str) -> None:
        body = {**CHAT, "model": name}
        assert httpx.post(server.url + "/v1/chat/completions", json=body).json()["model"] == name
        streamed = httpx.post(server.url + "/v1/completions", json={"model": name, "prompt": "x", "stream": True}).text
        assert f'"model":"{name}"' in streamed
        assert httpx.post(server.url + "/v1/messages", json=body).json()["model"] == name
        card = httpx.get(f"{server.url}/v1/models/{name}").json()
        assert (card["id"], card["root"]) == (name, "tiny")

    def test_without_a_name_it_is_the_first(self, server: Replaying) -> None:
        assert httpx.post(server.url + "/v1/chat/completions", json=CHAT).json()["model"] == "tiny"

    def test_patterns_are_not_listed(self, server: Replaying) -> None:
        assert [one["id"] for one in httpx.get(server.url + "/v1/models").json()["data"]] == ["tiny", "small"]

    @pytest.mark.parametrize("name", ["gpt-3", "claude", "claude-" + "x" * 300])
    def test_others_are_not_known(self, server: Replaying, name: str) -> None:
        response = httpx.post(server.url + "/v1/chat/completions", json={**CHAT, "model": name})
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"


def test_a_pattern_stands_for_the_model_that_can() -> None:
    line = cast(Any, SimpleNamespace(using=nullcontext))
    chat = ServedModel(tiny_model(name="chat"), ["chat"], line, patterns=["*"])
    vectors = ServedModel(tiny_model(name="vectors", capabilities=frozenset({"embed"})), ["vectors"], line)
    served = Served(Offers([Offer.standing(chat), Offer.standing(vectors)]))
    with ExitStack() as held:
        text, vector = served.generating("gpt-9").now(held), served.embedding("gpt-9").now(held)
    assert text.model.name == vector.model.name == "gpt-9"
    assert "embed" in vector.model.capabilities
    with pytest.raises(NotSupportedError):
        served.embedding("chat")  # by its own name it is meant


class TestTokens:
    @pytest.mark.parametrize("before", ["", "/v1"])
    def test_both_paths(self, server: Replaying, before: str) -> None:
        tokens = httpx.post(f"{server.url}{before}/tokenize", json={"prompt": "hello"}).json()["tokens"]
        assert len(tokens) == 5
        assert httpx.post(f"{server.url}{before}/detokenize", json={"tokens": tokens}).json() == {"prompt": "hello"}

    def test_facts_of_the_tokenizer(self, server: Replaying) -> None:
        facts = httpx.get(server.url + "/tokenizer_info").json()
        assert facts["eos_token"] == "<|end|>"
        assert {"<|end|>", "<think>"} < {one["content"] for one in facts["added_tokens_decoder"].values()}


@pytest.mark.parametrize("path", ["/v1/score", "/score"])
@pytest.mark.parametrize("other", ["/v1/rerank", "/rerank", "/v2/rerank"])
def test_scores_need_an_embedding_model(server: Replaying, path: str, other: str) -> None:
    for one, body in ((path, {"text_1": "a", "text_2": "b"}), (other, {"query": "a", "documents": ["b"]})):
        response = httpx.post(server.url + one, json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "unsupported")
