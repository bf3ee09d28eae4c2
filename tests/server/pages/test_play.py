"""The playground in a real browser: conversations with every API, what is sent and comes back, the trace beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from support.browser import OpenPage, until
from support.pages import ANSWERS, PARSERS, WEATHER, traced
from support.pictures import png
from support.replay import Replaying, replaying
from support.server import running_server

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Page


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying(ANSWERS, inspect=True, thinking_by_default=True, **PARSERS) as up:
        yield up


def play(open_page: OpenPage, url: str, **options: Any) -> Page:
    page = open_page(url + "/play", **options)
    page.locator("#model option").first.wait_for(state="attached")
    return page


def setup(page: Page, **fields: str) -> None:
    """Fill in settings, wherever they are folded away."""
    page.evaluate("document.querySelectorAll('.group').forEach((one) => (one.open = true))")
    for name, value in fields.items():
        control = page.locator(f"#{name}")
        if control.evaluate("one => one.tagName") == "SELECT":
            control.select_option(value)
        else:
            control.fill(value)


def send(page: Page, text: str, answers: int = 1) -> None:
    """Say something, and wait for the end of its answer."""
    before = page.locator(".turn.assistant .foot:not(:empty), .turn.assistant .refusal").count()
    page.locator("#message").fill(text)
    page.locator("#send").click()
    until(
        page,
        "n => document.querySelectorAll('.turn.assistant .foot:not(:empty)').length >= n"
        " && !document.getElementById('send').disabled",
        before + answers,
    )


def newest(page: Page, server: Replaying) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The newest trace."""
    found = httpx.get(f"{server.url}/inspect/traces").json()["traces"][0]["id"]
    return traced(server, found)


def sent(page: Page, server: Replaying) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(newest(page, server)[1][0]["data"]["body"])
    return body


def said(page: Page) -> str:
    return (page.locator(".turn.assistant").last.locator(".content").text_content() or "").strip()


EVERYTHING = frozenset({"generate", "logprobs", "embed"})
CHATS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "responses": "/v1/responses"}


@pytest.mark.parametrize("api", CHATS)
def test_a_tool_call_its_result_its_bytes_and_its_trace(
    server: Replaying, open_page: OpenPage, pictures: Path, api: str
) -> None:
    page = play(open_page, server.url)
    setup(page, api=api, tools=json.dumps([WEATHER]))
    send(page, "Weather in Köln? [[call]]")
    card = page.locator(".call")
    head, artifacts = newest(page, server)
    assert head["path"] == CHATS[api]
    assert "get_weather" in card.locator("h3").inner_text()
    assert json.loads(card.locator("pre").inner_text()) == {"city": "Köln 🐌", "days": 3}
    assert (page.locator(".reasoning .markdown").text_content() or "").strip() == "Which city?"
    assert said(page) == "I look it up."

    # the bytes as they came, and for each the chunk it came in
    body = "".join(artifact["data"]["bytes"] for artifact in artifacts if artifact["kind"] == "chunk")
    raw = page.locator("#raw li")
    until(page, "n => document.querySelectorAll('#raw li').length >= n", body.count("\n\n"))
    assert "".join(raw.evaluate_all("all => all.map(one => one.textContent)")).replace("⏎", "") == body
    page.locator(".scroller .chunk").first.wait_for()
    raw.nth(3).locator("button").click()
    page.locator(".scroller .chunk.selected").wait_for()
    chosen = artifacts[int(page.locator(".selected").get_attribute("data-id") or -1)]
    assert raw.nth(3).inner_text().replace("⏎", "").strip() in chosen["data"]["bytes"]
    page.locator(".scroller .step").nth(1).click()  # and back: what a step became is marked among the events
    page.locator("#raw .marked").first.wait_for()
    assert 0 < page.locator("#raw .marked").count() <= raw.count()
    page.screenshot(path=pictures / f"play-{api}.png")

    # the result is filled in, and the conversation goes on with it
    page.get_by_label("Result of get_weather").fill("sunny [[plain]]")
    page.get_by_role("button", name="Send result").click()
    page.locator(".turn.assistant .content", has_text="Grüße! 🦜 Two <b>words</b>.").wait_for()
    assert "sunny [[plain]]" in server.prompts[-1]
    assert "get_weather" in server.prompts[-1].rpartition("Köln?")[2]
    assert page.locator(".turn").count() == 4
    assert page.locator(".results").count() == 0


def test_a_mock_answers_by_itself(server: Replaying, open_page: OpenPage) -> None:
    page = play(open_page, server.url)
    setup(page, tools=json.dumps([WEATHER]), mocks='{"get_weather": {"sky": "[[plain]]"}}')
    page.locator("#message").fill("Weather? [[call]]")
    page.locator("#send").click()
    page.locator(".turn.assistant .content", has_text="Grüße!").wait_for()
    assert page.locator(".turn.tool pre").inner_text() == '{"sky":"[[plain]]"}'


def test_completions_and_embeddings(open_page: OpenPage, pictures: Path) -> None:
    with replaying(ANSWERS, inspect=True, embedding_size=8, capabilities=EVERYTHING, **PARSERS) as server:
        page = play(open_page, server.url)
        setup(page, api="completions", logprobs="2")
        send(page, "[[plain]]")
        assert said(page) == "Grüße! 🦜 Two <b>words</b>."
        assert sent(page, server)["prompt"] == "[[plain]]"
        page.locator(".bar").get_by_role("button", name="Tokens").click()
        assert page.locator(".tokens button").count() > 20
        page.locator("#new-talk").click()
        setup(page, api="embeddings")
        assert page.locator("#temperature").is_disabled()
        assert "no field" in (page.locator("#temperature").get_attribute("title") or "")
        send(page, "one text\nanother\none text")
        assert page.locator(".near td").count() == 10
        assert page.locator(".near td").nth(1).inner_text() == "1.00"
        assert page.locator(".near td").nth(3).inner_text() == page.locator(".near td").nth(1).inner_text()
        page.screenshot(path=pictures / "play-embeddings.png")

        # the trace has the engine's time and the vector of each text
        _, artifacts = newest(page, server)
        vectors = [one for one in artifacts if one["kind"] == "embedding"]
        assert len(vectors) == 3
        assert {(one["by"], one["lane"], len(one["data"]["vector"])) for one in vectors} == {("inference", "tokens", 8)}
        chunk = next(one for one in artifacts if one["kind"] == "chunk")
        assert {one["id"] for one in vectors} == set(chunk["of"])
        page.get_by_role("link", name="Inspect").last.click()
        page.locator(".verdict", has_text="Vectors on the wire after").wait_for()
        assert "the model" in page.locator(".waterfall").inner_text()
        page.locator(f'.scroller .box[data-id="{vectors[0]["id"]}"]').click()
        page.locator(".details .vector").wait_for()
        shown = json.loads(page.locator(".details .vector").inner_text())
        assert shown == pytest.approx(vectors[0]["data"]["vector"], rel=1e-4)
        page.close()


def test_a_whole_body_is_answered_too(server: Replaying, open_page: OpenPage) -> None:
    page = play(open_page, server.url)
    page.locator("#stream").uncheck()
    for api in CHATS:
        setup(page, api=api)
        send(page, "[[plain]]")
        assert said(page) == "Grüße! 🦜 Two <b>words</b>."
        assert newest(page, server)[0]["stream"] is False
        until(page, "document.querySelectorAll('#raw li').length === 1")


def test_everything_in_the_form_is_sent(server: Replaying, open_page: OpenPage) -> None:
    page = play(open_page, server.url)
    both = {"system": "Be brief.", "temperature": "0,5", "max_tokens": "77", "stops": "one\ntwo", "top_p": "0.9"}
    setup(page, **both, seed="5", tools=json.dumps([WEATHER]), more='{"user": "me"}')
    setup(page, tool_choice="none", thinking="none", min_p="0.1", top_k="7", n="2", logprobs="1")
    send(page, "First. [[plain]]", answers=2)
    body = sent(page, server)
    wanted = {
        **{
            "temperature": 0.5,
            "max_completion_tokens": 77,
            "seed": 5,
            "stop": ["one", "two"],
            "top_p": 0.9,
            "top_k": 7,
        },
        **{"min_p": 0.1, "n": 2, "tool_choice": "none", "reasoning_effort": "none", "user": "me", "top_logprobs": 1},
    }
    assert {name: body.get(name) for name in wanted} == wanted
    assert [one["content"] for one in body["messages"]] == ["Be brief.", "First. [[plain]]"]
    assert page.locator(".row .turn").count() == 2  # both choices, side by side
    page.locator(".bar").get_by_role("button", name="Tokens").first.click()
    assert page.locator(".tokens button").count() > 20

    setup(page, api="anthropic")
    assert page.locator("#seed").is_disabled()
    send(page, "Second. [[plain]]")
    body = sent(page, server)
    wanted = {
        **{"max_tokens": 77, "tool_choice": {"type": "none"}, "thinking": {"type": "disabled"}, "system": "Be brief."},
        **{"stop_sequences": ["one", "two"], "top_k": 7},
    }
    assert {name: body.get(name) for name in wanted} == wanted
    assert "seed" not in body
    assert [one["role"] for one in body["messages"]] == ["user", "assistant", "user"]

    page.reload()  # the form is remembered
    until(page, "document.getElementById('tool_choice').value === 'none'")
    assert page.locator("#api").input_value() == "anthropic"
    assert page.locator("#seed").input_value() == "5"


def test_thinking_works_from_the_defaults(server: Replaying, open_page: OpenPage) -> None:
    page = play(open_page, server.url)
    for effort in ("low", "high"):
        setup(page, api="anthropic", thinking=effort)
        send(page, "[[plain]]")
        assert page.locator(".turn .refusal").count() == 0
        body = sent(page, server)
        assert body["max_tokens"] > body["thinking"]["budget_tokens"]


def test_a_schema_is_sent_in_either_spelling(server: Replaying, open_page: OpenPage) -> None:
    page = play(open_page, server.url)
    setup(page, schema='{"type": "object"}')
    for api in CHATS:
        setup(page, api=api)
        send(page, "[[plain]]")
        head, artifacts = newest(page, server)
        assert head["state"] == "ok"
        assert [artifact for artifact in artifacts if artifact["kind"] == "constraint"]


def test_a_refusal_leads_to_its_field(server: Replaying, open_page: OpenPage, pictures: Path) -> None:
    page = play(open_page, server.url)
    page.locator("#temperature").fill("-1")
    page.locator("#message").fill("[[plain]]")
    page.locator("#send").click()
    alert = page.locator(".turn .refusal")
    alert.wait_for()
    head, _ = newest(page, server)
    assert head["error"]["message"] in alert.inner_text()
    assert "400" in alert.inner_text()
    assert page.locator("#temperature").get_attribute("aria-invalid") == "true"
    page.screenshot(path=pictures / "play-refused.png")
    alert.get_by_role("button", name="Go to the field").click()
    assert page.evaluate("document.activeElement.id") == "temperature"
    for name, text, words in (
        ("tools", "[{", "The list of tools is not JSON"),
        ("temperature", "warm", "“warm” is not a number"),
        ("max_tokens", "1.5", "“1.5” is not a whole number"),
    ):
        setup(page, **{name: text})
        page.locator("#message").fill("[[plain]]")
        page.locator("#send").click()
        page.locator("#problem", has_text=words).wait_for()
        assert page.locator(f"#{name}").get_attribute("aria-invalid") == "true"
        assert page.locator("#message").input_value() == "[[plain]]"  # not even sent
        setup(page, **{name: ""})


def test_a_stream_can_be_stopped_and_what_broke_off_stays(open_page: OpenPage) -> None:
    with replaying(ANSWERS, inspect=True, interval=0.05, **PARSERS) as slow:
        page = play(open_page, slow.url)
        page.locator("#message").fill("[[long]]")
        page.locator("#send").click()
        page.locator(".content").wait_for()
        page.locator(".scroller .chunk").nth(2).wait_for()  # its trace is there while it runs
        page.locator("#stop").click()
        page.locator(".foot", has_text="stopped").wait_for()
        until(page, "!document.getElementById('send').disabled")
        assert said(page)
        until(page, "async () => (await (await fetch('/inspect/traces')).json()).traces[0].state === 'gone'")
        for api in CHATS:
            setup(page, api=api)
            page.locator("#new-talk").click()
            page.locator("#message").fill("[[fails]]")
            page.locator("#send").click()
            page.locator(".turn .refusal", has_text="broke off").wait_for()
            assert "The engine lost it." in page.locator(".turn .refusal").inner_text()
            assert said(page).startswith("It begins")
            until(page, "!document.getElementById('send').disabled")
        page.close()


def test_a_conversation_branches_and_is_kept(server: Replaying, open_page: OpenPage, tmp_path: Path) -> None:
    page = play(open_page, server.url)
    send(page, "First [[plain]]")
    page.get_by_role("button", name="Again").click()
    page.locator(".bar", has_text="2/2").wait_for()
    until(page, "!document.getElementById('send').disabled")
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Another wording").fill("Otherwise [[alarm]]")
    page.locator(".editor").get_by_role("button", name="Send").click()
    page.locator(".content", has_text="Look:").wait_for()
    until(page, "!document.getElementById('send').disabled")
    assert "First" not in server.prompts[-1]
    page.get_by_role("button", name="The one before").first.click()
    page.locator(".content", has_text="Grüße!").wait_for()
    page.locator("#rename-talk").click()
    page.get_by_label("Name of the conversation").fill("Greetings")
    page.keyboard.press("Enter")
    page.locator("#talks button", has_text="Greetings").wait_for()
    with page.expect_download() as download:
        page.locator("#export-talk").click()
    download.value.save_as(tmp_path / "talk.json")

    page.reload()
    page.locator("#talks button", has_text="Greetings").wait_for()
    assert page.locator(".turn").count() == 0
    page.locator("#talk-search").fill("no such words")
    until(page, "document.querySelectorAll('#talks button').length === 0")
    page.locator("#talk-search").fill("otherwise")  # also in what is not looked at
    page.locator("#talks button").click()
    page.locator(".content", has_text="Grüße!").wait_for()
    page.locator("#forget-talk").click()
    page.locator("#talk-search").fill("")
    until(page, "document.querySelectorAll('#talks button').length === 0")
    page.locator("#import-talk").set_input_files(tmp_path / "talk.json")
    page.locator(".content", has_text="Grüße!").wait_for()
    page.locator("#talks button", has_text="Greetings").wait_for()


def test_two_models_side_by_side_and_presets(open_page: OpenPage) -> None:
    with replaying(ANSWERS, inspect=True, adapters=["other"], **PARSERS) as server:
        page = play(open_page, server.url)
        setup(page, beside="other", system="Be kind.")
        page.locator("#preset-name").fill("both")
        page.locator("#keep-preset").click()
        send(page, "[[plain]]", answers=2)
        row = page.locator(".row .turn")
        assert [words.split()[0] for words in row.locator("> h3").all_inner_texts()] == ["tiny", "other"]
        page.get_by_role("button", name="Go on with this").click()
        setup(page, beside="")
        send(page, "And now? [[plain]]")
        assert [one["role"] for one in sent(page, server)["messages"]] == ["system", "user", "assistant", "user"]
        setup(page, system="")
        page.locator("#preset").select_option("both")
        until(page, "document.getElementById('system').value === 'Be kind.'")
        page.close()


@pytest.mark.parametrize("api", CHATS)
def test_a_trace_opens_as_a_conversation(server: Replaying, open_page: OpenPage, api: str) -> None:
    page = play(open_page, server.url)
    setup(page, api=api, system="Be brief.", tools=json.dumps([WEATHER]), temperature="0.5", max_tokens="500")
    send(page, "Weather in Köln? [[call]]")
    page.get_by_label("Result of get_weather").fill("sunny [[plain]]")
    page.get_by_role("button", name="Send result").click()
    page.locator(".content", has_text="Grüße!").wait_for()
    until(page, "!document.getElementById('send').disabled")
    first = sent(page, server)
    page.get_by_role("link", name="Inspect").last.click()
    page.get_by_role("link", name="Open in playground").click()
    page.locator(".turn.tool").wait_for()
    until(page, "document.querySelectorAll('#model option').length > 0")
    assert page.locator("#temperature").input_value() == "0.5"
    page.locator("#curl").click()
    page.locator("#curl", has_text="Copied").wait_for()  # the clipboard is all pages', and older words may lie in it
    again = json.loads(page.evaluate("navigator.clipboard.readText()").partition("-d '")[2].rstrip("'"))
    for body in (first, again):  # thoughts are not in every API's requests, and who lacks one says so in its own way
        body.pop("stream_options", None)
    assert again == first


SEEING = frozenset({"generate", "logprobs", "constraints", "vision", "image"})


def test_pictures_and_texts_where_the_model_sees(open_page: OpenPage, server: Replaying, pictures: Path) -> None:
    files: list[FilePayload] = [
        {"name": "red.png", "mimeType": "image/png", "buffer": png("red")},
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": "Grüße".encode()},
    ]
    page = play(open_page, server.url)
    page.locator("#attach", has_text="Attach texts").wait_for()
    page.locator("#files").set_input_files(files)
    page.locator("#problem", has_text="does not see pictures").wait_for()
    assert page.locator("#attached li").count() == 0
    setup(page, api="completions")
    page.locator("#attach").wait_for(state="hidden")

    with replaying(ANSWERS, inspect=True, capabilities=SEEING, **PARSERS) as seeing:
        page = play(open_page, seeing.url)
        for api in CHATS:
            setup(page, api=api)
            page.locator("#attach", has_text="pictures").wait_for()
            page.locator("#files").set_input_files(files)
            page.locator("#attached li").nth(1).wait_for()
            send(page, "What is this? [[plain]]")
            assert page.locator("#attached li").count() == 0
            first = sent(page, seeing)
            page.get_by_role("link", name="Inspect").last.click()
            page.get_by_role("link", name="Open in playground").click()
            page.locator("#attached img").wait_for()  # the picture opens again from the trace
            assert page.locator("#attached .file").inner_text() == "notes.txt"
            page.screenshot(path=pictures / f"play-files-{api}.png")
            page.locator("#model option").first.wait_for(state="attached")
            send(page, "What is this? [[plain]]")
            assert sent(page, seeing) == first
            assert page.locator(".turn.user img").evaluate("one => one.naturalWidth") > 0
            assert "Grüße" in seeing.prompts[-1]
            page.locator("#new-talk").click()
        page.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is needed to run what was copied")
def test_what_is_copied_as_curl_runs(open_page: OpenPage) -> None:
    with replaying(ANSWERS, inspect=True, keys=["sesame"], **PARSERS) as server:
        page = open_page(server.url + "/play")
        page.get_by_label("API key").fill("sesame")
        page.keyboard.press("Enter")
        page.locator("#model option").first.wait_for(state="attached")
        page.locator("#message").fill("It's [[plain]]; $HOME `id`")
        for api, path in (("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")):
            page.locator("#api").select_option(api)
            page.locator("#curl").click()
            page.locator("#curl", has_text="Copied").wait_for()
            until(page, "path => navigator.clipboard.readText().then((text) => text.includes(path))", path)
            command = page.evaluate("navigator.clipboard.readText()")
            assert "sesame" not in command
            done = subprocess.run(
                ["sh", "-c", command],
                env={**os.environ, "PORTICO_API_KEY": "sesame"},
                capture_output=True,
                text=True,
                timeout=120,
                check=True,
            )
            assert "<b>" in done.stdout
            assert "It's [[plain]]; $HOME `id`" in server.prompts[-1]
        page.close()


@pytest.mark.slow
def test_a_real_model_calls_a_tool(smollm2_path: Path, open_page: OpenPage, pictures: Path) -> None:
    with running_server(smollm2_path, "--inspect") as server:
        page = play(open_page, server.url, width=1920, height=1080)
        setup(page, tools=json.dumps([WEATHER]), temperature="0", max_tokens="60")
        setup(page, tool_choice="tool:get_weather")
        send(page, "What is the weather in Paris?")
        assert "get_weather" in page.locator(".call h3").inner_text()
        page.locator(".scroller .step").first.wait_for()
        assert "Portico's" in page.locator(".verdict").inner_text()
        page.locator("#raw button").nth(2).click()
        page.locator(".family section").first.wait_for()
        page.screenshot(path=pictures / "play-smollm2.png")
        page.close()
