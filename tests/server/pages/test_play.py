"""The playground in a real browser: what is sent, what comes back, and the trace beside it."""

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
from support.pages import ANSWERS, PARSERS, traced
from support.replay import Replaying, replaying
from support.server import running_server

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying(ANSWERS, inspect=True, thinking_by_default=True, **PARSERS) as up:
        yield up


def play(open_page: OpenPage, url: str, **options: Any) -> Page:
    page = open_page(url + "/play", **options)
    page.locator("#model option").first.wait_for(state="attached")
    return page


def send(page: Page, text: str) -> None:
    page.locator("#turn-0").fill(text)
    page.locator("#send").click()


def trace_of(page: Page, server: Replaying) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The newest trace, once the page is done with it."""
    until(page, "!document.getElementById('send').disabled")
    newest = httpx.get(f"{server.url}/inspect/traces").json()["traces"][0]["id"]
    return traced(server, newest)


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_a_tool_call_with_its_bytes_and_its_trace(
    server: Replaying, open_page: OpenPage, pictures: Path, api: str
) -> None:
    page = play(open_page, server.url)
    page.locator("#api").select_option(api)
    page.locator("#sample-tools").click()
    send(page, "Weather in Köln? [[call]]")
    card = page.locator(".call")
    card.wait_for()
    head, artifacts = trace_of(page, server)
    assert head["path"] == {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}[api]
    assert "get_weather" in card.locator("h3").inner_text()
    assert json.loads(card.locator("pre").inner_text()) == {"city": "Köln 🐌", "days": 3}
    assert (page.locator(".reasoning .markdown").text_content() or "").strip() == "Which city?"
    assert page.locator(".content").inner_text().strip() == "I look it up."
    assert "tool" in page.locator("#outcome").inner_text()

    # the bytes as they came, and for each the chunk it came in
    body = "".join(artifact["data"]["bytes"] for artifact in artifacts if artifact["kind"] == "chunk")
    raw = page.locator("#raw li")
    assert "".join(raw.evaluate_all("all => all.map(one => one.textContent)")).replace("⏎", "") == body
    page.locator(".scroller .chunk").first.wait_for()
    raw.nth(3).locator("button").click()
    page.locator(".scroller .chunk.selected").wait_for()
    chosen = artifacts[int(page.locator(".selected").get_attribute("data-id") or -1)]
    assert raw.nth(3).inner_text().replace("⏎", "").strip() in chosen["data"]["bytes"]

    # and back: what a step became is marked among the events
    page.locator(".scroller .step").nth(1).click()
    marked = page.locator("#raw .marked")
    marked.first.wait_for()
    assert 0 < marked.count() <= raw.count()
    page.screenshot(path=pictures / f"play-{api}.png")


def test_a_whole_body_is_answered_too(server: Replaying, open_page: OpenPage) -> None:
    page = play(open_page, server.url)
    page.locator("#stream").uncheck()
    for api in ("openai", "anthropic"):
        page.locator("#api").select_option(api)
        send(page, "[[plain]]")
        page.locator(".content", has_text="Grüße! 🦜 Two <b>words</b>.").wait_for()
        head, _ = trace_of(page, server)
        assert head["stream"] is False
        assert page.locator("#raw li").count() == 1


def test_everything_in_the_form_is_sent(server: Replaying, open_page: OpenPage) -> None:
    page = play(open_page, server.url)
    page.locator("#system").fill("Be brief.")
    page.locator("#add").click()
    page.locator("#turn-1").fill("An answer.")
    page.locator("#add").click()
    page.locator("#turn-2").fill("[[plain]]")
    page.locator("#temperature").fill("0.5")
    page.locator("#max_tokens").fill("77")
    page.locator("#seed").fill("5")
    page.locator("#sample-tools").click()
    page.locator("#tool_choice").select_option("none")
    page.locator("#thinking").select_option("none")
    wanted = {
        "openai": {"max_completion_tokens": 77, "seed": 5, "tool_choice": "none", "reasoning_effort": "none"},
        "anthropic": {
            "max_tokens": 77,
            "tool_choice": {"type": "none"},
            "thinking": {"type": "disabled"},
            "system": "Be brief.",
        },
    }
    for api, fields in wanted.items():
        page.locator("#api").select_option(api)
        send(page, "First.")
        _, artifacts = trace_of(page, server)
        body = json.loads(artifacts[0]["data"]["body"])
        assert {name: body.get(name) for name in fields} == fields
        assert body["temperature"] == 0.5
        assert [one["content"] for one in body["messages"]][-3:] == ["First.", "An answer.", "[[plain]]"]
        assert len(body["tools"]) == 1

    page.reload()  # the form is remembered
    until(page, "document.getElementById('tool_choice').value === 'none'")
    assert page.locator("#api").input_value() == "anthropic"
    assert page.locator("#turn-2").input_value() == "[[plain]]"
    assert page.locator("#seed").input_value() == "5"


def test_a_schema_is_sent_in_either_spelling(server: Replaying, open_page: OpenPage) -> None:
    page = play(open_page, server.url)
    page.locator("#sample-schema").click()
    for api in ("openai", "anthropic"):
        page.locator("#api").select_option(api)
        send(page, "[[plain]]")
        head, artifacts = trace_of(page, server)
        assert head["state"] == "ok"
        assert [artifact for artifact in artifacts if artifact["kind"] == "constraint"]


def test_a_refusal_leads_to_its_field(server: Replaying, open_page: OpenPage, pictures: Path) -> None:
    page = play(open_page, server.url)
    page.locator("#temperature").fill("-1")
    send(page, "[[plain]]")
    alert = page.locator("#answer .refusal")
    alert.wait_for()
    head, _ = trace_of(page, server)
    assert head["error"]["message"] in alert.inner_text()
    assert "400" in alert.inner_text()
    assert page.locator("#temperature").get_attribute("aria-invalid") == "true"
    page.screenshot(path=pictures / "play-refused.png")
    alert.get_by_role("button", name="Go to the field").click()
    assert page.evaluate("document.activeElement.id") == "temperature"
    page.locator("#temperature").fill("")
    assert page.locator("#temperature").get_attribute("aria-invalid") is None

    page.locator("#tools").fill("[{")  # not even sent
    page.locator("#send").click()
    page.get_by_text("The list of tools is not JSON").wait_for()
    assert page.locator("#tools").get_attribute("aria-invalid") == "true"


def test_a_stream_can_be_stopped_and_an_error_in_it_is_told(open_page: OpenPage) -> None:
    with replaying(ANSWERS, inspect=True, interval=0.05, **PARSERS) as slow:
        page = play(open_page, slow.url)
        send(page, "[[long]]")
        page.locator(".content").wait_for()
        page.locator(".scroller .chunk").nth(2).wait_for()  # its trace is there while it runs
        page.locator("#stop").click()
        page.locator("#outcome", has_text="stopped").wait_for()
        assert page.locator("#send").is_enabled()
        until(page, "async () => (await (await fetch('/inspect/traces')).json()).traces[0].state === 'gone'")
        send(page, "[[fails]]")
        page.get_by_text("The engine lost it.").first.wait_for()
        page.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is needed to run what was copied")
def test_what_is_copied_as_curl_runs(open_page: OpenPage) -> None:
    with replaying(ANSWERS, inspect=True, keys=["sesame"], **PARSERS) as server:
        page = open_page(server.url + "/play")
        page.get_by_label("API key").fill("sesame")
        page.keyboard.press("Enter")
        page.locator("#model option").first.wait_for(state="attached")
        page.locator("#turn-0").fill("It's [[plain]]; $HOME `id`")
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
        page.locator("#sample-tools").click()
        page.locator("#tool_choice").select_option("tool:get_weather")
        page.locator("#temperature").fill("0")
        page.locator("#max_tokens").fill("60")
        send(page, "What is the weather in Paris?")
        page.locator(".call").wait_for()
        until(page, "!document.getElementById('send').disabled")
        assert "get_weather" in page.locator(".call h3").inner_text()
        page.locator(".scroller .step").first.wait_for()
        assert "Portico's" in page.locator(".verdict").inner_text()
        page.locator(".scroller [data-type='CallStart']").click()
        page.locator(".family .chip").first.wait_for()
        page.screenshot(path=pictures / "play-smollm2.png")
        page.close()
