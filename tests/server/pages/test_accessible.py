"""Accessibility of the pages as axe checks it: every state a reader may meet, in light and in dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from support.browser import OpenPage
from support.pages import ANSWERS, PARSERS, WEATHER, ask, traced
from support.replay import Replaying, replaying

if TYPE_CHECKING:
    from playwright.sync_api import Page

Violations = Callable[["Page"], list[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying(ANSWERS, inspect=True, **PARSERS) as up:
        yield up


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_inspector(server: Replaying, open_page: OpenPage, violations: Violations, dark: bool) -> None:
    empty = open_page(server.url + "/inspect", dark=dark)
    assert violations(empty) == []
    trace = ask(server, "call", tools=[WEATHER], logprobs=True, top_logprobs=2)
    refused = ask(server, "plain", temperature="hot")
    _, artifacts = traced(server, trace)
    page = open_page(f"{server.url}/inspect#{trace}", dark=dark)
    page.locator(".scroller .step").first.wait_for()
    assert violations(page) == []
    for kind in ("http_request", "prompt_tokens", "step", "held"):
        id = next(artifact["id"] for artifact in artifacts if artifact["kind"] == kind)
        page.goto(f"{server.url}/inspect#{trace}/{id}")
        page.locator(f'.scroller .selected[data-id="{id}"]').wait_for()
        assert violations(page) == []
    page.locator('[data-axis="time"]').click()
    assert violations(page) == []
    page.goto(f"{server.url}/inspect#{refused}")
    page.locator(".refusal").wait_for()
    assert violations(page) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_playground(server: Replaying, open_page: OpenPage, violations: Violations, dark: bool) -> None:
    page = open_page(server.url + "/play", dark=dark)
    page.locator("#model option").first.wait_for(state="attached")
    assert violations(page) == []
    page.locator("#sample-tools").click()
    page.locator("#turn-0").fill("[[call]]")
    page.locator("#send").click()
    page.locator(".scroller .step").first.wait_for()
    page.locator("#outcome", has_text="finish").wait_for()
    page.locator("#raw button").nth(2).click()
    assert violations(page) == []
    page.locator("#temperature").fill("-1")
    page.locator("#send").click()
    page.locator("#answer .refusal").wait_for()
    assert violations(page) == []


@pytest.mark.parametrize("width", [480, 800])
def test_narrow_windows_have_no_second_scroll_bar(server: Replaying, open_page: OpenPage, width: int) -> None:
    trace = ask(server, "call", tools=[WEATHER])
    for path in (f"/inspect#{trace}/9", "/play"):
        page = open_page(server.url + path, width=width, height=900)
        page.locator("body").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_question_for_a_key(open_page: OpenPage, violations: Violations) -> None:
    with replaying(ANSWERS, inspect=True, keys=["sesame"]) as guarded:
        page = open_page(guarded.url + "/inspect")
        page.get_by_label("API key").wait_for()
        assert violations(page) == []
        assert page.evaluate("document.activeElement.id") == "key"
        page.close()
