"""A model that sees, over every protocol: the constructed one, which names the colours of what it is shown."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from portico.engines.llamacpp import LlamaCppEngine
from portico.errors import BadRequestError, EngineError
from portico.events import EngineRequest, Media, Medium, SamplingParams
from portico.prompting import load_tokenizer
from support.llamacpp import Answer, Client
from support.pictures import hostile, picture, png, sound, url
from support.seeing import COLOURS, write_pair
from support.server import RunningServer, running_host, running_server


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_pair(tmp_path_factory.mktemp("seeing"))


@pytest.fixture(scope="module")
def server(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    model, projector = pair
    store = tmp_path_factory.mktemp("store") / "store.db"
    limits = ("--max-media", "3", "--max-pixels", "1000000", "--trace-header")
    with running_server(model, "--mmproj", projector, "--store", store, *limits) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=120) as client:
        yield client


def image(*colours: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url(*colours)}}


def audio(*colours: str) -> dict[str, Any]:
    data = base64.b64encode(sound(*colours)).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def block(*colours: str) -> dict[str, Any]:
    data = base64.b64encode(png(*colours)).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def chat(http: httpx.Client, *parts: Any, **more: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": list(parts)}], "temperature": 0, **more}
    return http.post("/v1/chat/completions", json=body)


def said(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    found: str = response.json()["choices"][0]["message"]["content"]
    return found


def messages(http: httpx.Client, *turns: Any, path: str = "", **more: Any) -> httpx.Response:
    body = {"model": "seeing", "messages": list(turns), **({} if path else {"max_tokens": 16, "temperature": 0})}
    return http.post(f"/v1/messages{path}", json={**body, **more})


def streamed(http: httpx.Client, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    with http.stream("POST", path, json={**body, "stream": True}) as response:
        assert response.status_code == 200
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


# -- what is seen ------------------------------------------------------------------------------------------------------


def test_chat_sees_images_where_they_stand(http: httpx.Client) -> None:
    assert said(chat(http, text("What?"), image("red", "green"))) == "red green "
    assert said(chat(http, image("blue"), text("and"), image("green"), text("and"), image("red"))) == "blue green red "
    assert said(chat(http, image("green"), image("blue"))) == "green blue "
    assert said(chat(http, text("nothing to see"))) == ""


@pytest.mark.slow
def test_media_reach_an_engine_that_is_shared(pair: tuple[Path, Path]) -> None:
    """By workers of this machine, and by a front door elsewhere."""
    model, projector = pair
    with running_host(model, "--mmproj", projector) as host:
        for where in ((model, "--mmproj", projector, "--workers", "2"), ("--engine", host.url)):
            with running_server(*where) as up, httpx.Client(base_url=up.url, timeout=120) as http:
                assert said(chat(http, image("red", "green"), text("and"), image("blue"))) == "red green blue "
                assert said(chat(http, audio("blue", "red"))) == "blue red "


def test_chat_hears_sounds_beside_images(http: httpx.Client) -> None:
    assert said(chat(http, text("What?"), audio("red"))) == "red "
    assert said(chat(http, audio("blue", "red"), text("?"))) == "blue red "
    assert said(chat(http, image("green"), text("and"), audio("red", "blue"))) == "green red blue "


def test_earlier_turns_and_answers_of_tools_are_seen(http: httpx.Client) -> None:
    turns = [
        {"role": "system", "content": [text("Look."), image("blue")]},
        {"role": "user", "content": [image("green")]},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": "Go on."},
    ]
    response = http.post("/v1/chat/completions", json={"messages": turns, "temperature": 0})
    assert said(response) == "blue green "
    turns = [
        {"role": "user", "content": [block("red")]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [block("green", "blue")]}]},
    ]
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    response = messages(http, *turns, tools=tools)
    assert response.json()["content"] == [text("red green blue ")], response.text


def test_every_protocol_streams_what_is_seen(http: httpx.Client) -> None:
    parts = [text("What?"), image("green", "red")]
    chunks = streamed(
        http, "/v1/chat/completions", {"messages": [{"role": "user", "content": parts}], "temperature": 0}
    )
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]) == "green red "
    turn = {"role": "user", "content": [block("green", "red"), text("What?")]}
    body = {"model": "seeing", "max_tokens": 16, "temperature": 0, "messages": [turn]}
    events = streamed(http, "/v1/messages", body)
    assert "".join(e["delta"]["text"] for e in events if e["type"] == "content_block_delta") == "green red "
    content = [{"type": "input_image", "image_url": url("green", "red")}, {"type": "input_text", "text": "What?"}]
    body = {"input": [{"role": "user", "content": content}], "temperature": 0}
    events = streamed(http, "/v1/responses", body)
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "green red "


def test_uploaded_files_are_seen(http: httpx.Client) -> None:
    uploaded = http.post("/v1/files", files={"file": ("x.png", png("blue", "red"))}, data={"purpose": "vision"})
    file = uploaded.json()["id"]
    content = [{"type": "input_image", "file_id": file}, {"type": "input_text", "text": "What?"}]
    response = http.post("/v1/responses", json={"input": [{"role": "user", "content": content}], "temperature": 0})
    assert response.json()["output"][0]["content"][0]["text"] == "blue red ", response.text
    turn = {"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": file}}]}
    assert messages(http, turn).json()["content"] == [text("blue red ")]
    content[0]["file_id"] = "file-none"
    response = http.post("/v1/responses", json={"input": [{"role": "user", "content": content}]})
    assert response.status_code == 400
    assert "No such File" in response.json()["error"]["message"]


def test_prompts_are_counted_as_they_are_computed(http: httpx.Client) -> None:
    bare = chat(http, text("What?")).json()["usage"]["prompt_tokens"]
    response = chat(http, text("What?"), image("red"))
    usage = response.json()["usage"]
    assert usage["prompt_tokens"] == bare + 12 * 12 + 2  # patches, and what stands around an image
    turn = {"role": "user", "content": [text("What?"), block("red")]}
    counted = messages(http, turn, path="/count_tokens").json()["input_tokens"]
    told = messages(http, turn).json()["usage"]
    assert counted == told["input_tokens"] + told["cache_read_input_tokens"] == usage["prompt_tokens"]
    turns = [{"role": "user", "content": [image("red")] * 3 + [text("word " * 1600)]}]
    response = http.post("/v1/chat/completions", json={"messages": turns, "max_tokens": 4000})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


def test_an_image_that_was_seen_is_not_computed_again(http: httpx.Client) -> None:
    def cached(*colours: str) -> int:
        response = chat(http, text("Behold the third of all pictures"), image(*colours), text("?"))
        found: int = response.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        return found

    first = cached("blue", "green", "red")
    assert cached("blue", "green", "red") > first + 12 * 12
    assert cached("blue", "red", "green") < first + 60  # as much text, and no image


def test_capabilities_are_told(http: httpx.Client) -> None:
    assert {"image", "audio"} <= set(http.get("/v1/models").json()["data"][0]["capabilities"])


def test_traces_show_what_was_seen(http: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": [text("What?"), image("blue", "red")]}], "temperature": 0}
    response = http.post("/v1/chat/completions", json=body, headers={"X-Portico-Trace": "1"})
    trace = http.get(f"/inspect/traces/{response.headers['x-portico-trace-id']}").json()
    (medium,) = (one for one in trace["artifacts"] if one["kind"] == "medium")
    (tokens,) = (one for one in trace["artifacts"] if one["kind"] == "prompt_tokens")
    assert medium["id"] in tokens["of"]
    assert medium["label"] == "image, 96 x 96"
    head, _, encoded = medium["data"]["thumbnail"].partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as thumbnail:
        assert thumbnail.convert("RGB").getpixel((10, 10)) == COLOURS["blue"]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "param", "words"),
    [
        ([image("red")] * 4, "messages[0].content[3].image_url", "may bring 3 images"),
        ([{"type": "image_url", "image_url": {"url": "http://example.org/x.png"}}], None, "may not fetch"),
        ([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}], None, "only http, https and data"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}}], None, "base64 is not valid"),
        ([{"type": "image_url"}], "messages[0].content[0].image_url", "no URL"),
        ([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}], None, "it is empty"),
        ([{"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}], None, "cannot watch video"),
    ],
)
def test_what_cannot_be_seen_is_refused_by_its_place(
    http: httpx.Client, parts: list[Any], param: str | None, words: str
) -> None:
    response = chat(http, *parts)
    error = response.json()["error"]
    assert response.status_code == 400
    assert words in error["message"]
    assert error["param"].startswith(param or "messages[0].content[0]")


def test_hostile_files_end_in_no_fault_and_the_engine_goes_on(http: httpx.Client, server: RunningServer) -> None:
    for name, data in hostile():
        encoded = base64.b64encode(data).decode()
        response = chat(http, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}})
        assert response.status_code in (200, 400), f"{name}: {response.text[:300]}"
    assert said(chat(http, image("red", "blue"))) == "red blue "
    assert "engine stopped" not in server.log()
    assert "Traceback" not in server.log()


def test_who_spells_an_image_shows_none(http: httpx.Client) -> None:
    usage = [chat(http, text(words)).json()["usage"]["prompt_tokens"] for words in ("<|image>", "<medium 0>")]
    assert max(usage) < 40
    assert said(chat(http, text("<|image><image|>"), image("red"))) == "red "


# -- the engine itself -------------------------------------------------------------------------------------------------


def shown(*colours: str, side: int = 96) -> Medium:
    data = picture(*colours, side=side).tobytes()
    return Medium("image", data, (side, side), f"{side} {colours}")


@pytest.mark.parametrize("grid", [False, True])
async def test_an_engine_keeps_its_word_about_media(pair: tuple[Path, Path], tmp_path: Path, grid: bool) -> None:
    """Whatever runs beside, was cached, or exists of the answer already: the same colours, in the same order."""
    model, projector = write_pair(tmp_path, grid=True) if grid else pair
    tokenizer = load_tokenizer(model)
    end = tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n")

    def prompt(*items: Medium) -> Media:
        ids: list[int] = []
        places = []
        for item in items:
            ids += tokenizer.encode(f"look at {item.digest}")
            places.append(len(ids))
        return Media([*ids, *end], items, tuple(places))

    engine = LlamaCppEngine(
        model, model_id="seeing", projector=projector, max_sequences=3, context_length=1024, cache_tokens=1024
    )
    async with Client(engine) as client:

        async def see(media: Media, generated: tuple[int, ...] = (), **more: Any) -> tuple[str, Answer]:
            answer = Answer(f"see-{len(client.answers)}")
            client.answers[answer.request_id] = answer
            ids = await engine.expand(media)
            rules = SamplingParams(max_tokens=8, temperature=0.0, repetition_penalty=1.0)
            await engine.submit(EngineRequest(answer.request_id, ids, rules, media=media, generated=generated, **more))
            await client.finished(answer)
            return tokenizer.decode([*generated, *answer.ids]), answer

        asked = [prompt(shown("red"), shown("blue")), prompt(shown("blue"), shown("red")), prompt(shown("green"))]
        asked += [prompt(shown("red"), shown("blue"), shown("green", side=64)), prompt(shown("blue", side=160))]
        wanted = ["red blue ", "blue red ", "green ", "red blue green ", "blue "]
        for _ in range(3):
            seen = await asyncio.gather(*(see(media) for media in asked))
            assert [words for words, _ in seen] == wanted
        _, whole = await see(asked[0])
        for cut in range(1, len(whole.ids)):
            assert (await see(asked[0], tuple(whole.ids[:cut])))[0] == wanted[0]

        for media, words in (
            (Media([1], (shown("red"),), (5,)), "in the prompt"),
            (Media([1], (shown("red"),), ()), "its place"),
            (Media([1], (Medium("image", b"", (0, 5), "x"),), (0,)), "empty"),
        ):
            with pytest.raises(BadRequestError, match=words):
                await engine.expand(media)
        with pytest.raises(BadRequestError):
            await engine.expand(Media([1], (Medium("audio", b"", (800, 44_100), "x"),), (0,)))
        ids = await engine.expand(asked[0])
        for request in (
            EngineRequest("short", ids[:-1], SamplingParams(max_tokens=1), media=asked[0]),
            EngineRequest("scored", ids, SamplingParams(max_tokens=1, prompt_logprobs=1), media=asked[0]),
            EngineRequest(
                "cut", ids, SamplingParams(max_tokens=1), media=prompt(Medium("image", b"123", (96, 96), "x"))
            ),
        ):
            with pytest.raises(BadRequestError):
                await engine.submit(request)


async def test_a_projector_of_another_model_is_refused_in_words(pair: tuple[Path, Path], tmp_path: Path) -> None:
    model, _ = pair
    for projector, words in ((model, "cannot be used"), (tmp_path / "none.gguf", "does not exist")):
        engine = LlamaCppEngine(model, model_id="seeing", projector=projector)
        with pytest.raises(EngineError, match=words):
            await engine.start()
        await engine.close()
