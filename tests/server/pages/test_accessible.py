"""Accessibility of the pages as axe checks it: every state a reader may meet, in light and in dark."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from support.batches import chat_line, create, wait_for
from support.browser import OpenPage
from support.pages import ANSWERS, PARSERS, WEATHER, ask, traced
from support.replay import Replaying, replaying

if TYPE_CHECKING:
    from playwright.sync_api import Page

Violations = Callable[["Page"], list[str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replaying]:
    store = tmp_path_factory.mktemp("store") / "a.db"
    with replaying(ANSWERS, inspect=True, store=str(store), **PARSERS) as up:
        yield up


@pytest.fixture(scope="module")
def batches(server: Replaying) -> list[str]:
    """The ids of a batch of which lines failed, and of one whose file is none."""
    lines = [chat_line(f"a-{n}", "[[plain]]") for n in range(5)]
    lines[3]["body"]["temperature"] = "hot"
    with httpx.Client(base_url=server.url, timeout=600) as client:
        ids = [create(client, lines, metadata={"a" * 64: "b" * 512}), create(client, b"nothing")]
        return [wait_for(client, id)["id"] for id in ids]


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
    page.goto(f"{server.url}/inspect#{trace}..{refused}")
    page.locator("#compared table").wait_for()
    assert violations(page) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_playground(server: Replaying, open_page: OpenPage, violations: Violations, dark: bool) -> None:
    page = open_page(server.url + "/play", dark=dark)
    page.locator("#model option").first.wait_for(state="attached")
    assert violations(page) == []
    page.evaluate("document.querySelectorAll('.group').forEach((one) => (one.open = true))")
    assert violations(page) == []
    page.locator("#sample-tools").click()
    page.locator("#message").fill("[[call]]")
    page.locator("#send").click()
    page.locator(".scroller .step").first.wait_for()
    page.locator(".foot", has_text="finish").wait_for()
    page.locator("#raw button").nth(2).click()
    assert violations(page) == []
    page.locator("#temperature").fill("-1")
    page.locator("#api").select_option("completions")
    page.locator("#message").fill("[[markdown]]")
    page.locator("#send").click()
    page.locator(".turn .refusal").wait_for()
    assert violations(page) == []
    page.locator("#temperature").fill("")
    page.locator("#logprobs").fill("1")
    page.locator("#message").fill("[[markdown]]")
    page.locator("#send").click()
    page.locator(".bar").get_by_role("button", name="Tokens").click()
    page.locator(".listing").wait_for()
    assert violations(page) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_batches(
    tmp_path: Path, server: Replaying, batches: list[str], open_page: OpenPage, violations: Violations, dark: bool
) -> None:
    page = open_page(f"{server.url}/batches#{batches[0]}", dark=dark)
    page.locator('[data-part="failures"] tr').first.wait_for()
    assert violations(page) == []
    page.goto(f"{server.url}/batches#{batches[1]}")
    page.locator('[data-part="problems"] li').wait_for()
    assert violations(page) == []
    page.goto(f"{server.url}/batches#none")
    page.locator('[data-part="head"] .refusal').wait_for()
    assert violations(page) == []
    turns = threading.Semaphore(0)
    with (
        replaying(ANSWERS, store=str(tmp_path / "a.db"), turns=turns, **PARSERS) as slow,
        httpx.Client(base_url=slow.url, timeout=600) as client,
    ):
        page = open_page(slow.url + "/batches", dark=dark)
        page.get_by_role("heading", name="There is no batch yet").wait_for()
        assert violations(page) == []
        create(client, [chat_line(f"a-{n}", "[[plain]]") for n in range(9)])
        page.reload()
        page.locator("#cancel").wait_for()
        assert violations(page) == []
        page.locator("#cancel").click()
        page.get_by_role("dialog").wait_for()
        assert violations(page) == []
        page.close()
        turns.release(10_000)
    with replaying(ANSWERS) as bare:
        page = open_page(bare.url + "/batches", dark=dark)
        page.get_by_role("heading", name="This server keeps no batches").wait_for()
        assert violations(page) == []
        page.close()


@pytest.mark.parametrize("width", [320, 390, 800, 1440])
def test_windows_of_any_width_have_no_second_scroll_bar(
    server: Replaying, batches: list[str], open_page: OpenPage, pictures: Path, width: int
) -> None:
    trace, other = ask(server, "call", tools=[WEATHER]), ask(server, "plain")
    for path, there in {
        f"/inspect#{trace}/9": ".scroller .box",
        f"/inspect#{trace}..{other}": "#compared table",
        "/play": "#model option",
        f"/batches#{batches[0]}": '[data-part="failures"] tr',
        f"/batches#{batches[1]}": '[data-part="problems"] li',
    }.items():
        page = open_page(server.url + path, width=width, height=900)
        page.locator(there).first.wait_for(state="attached")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        name = "compared" if ".." in path else path.partition("#")[0].strip("/")
        page.screenshot(path=pictures / f"{name}-{width}.png")
        page.close()


def test_the_question_for_a_key(open_page: OpenPage, violations: Violations) -> None:
    with replaying(ANSWERS, inspect=True, keys=["sesame"]) as guarded:
        page = open_page(guarded.url + "/inspect")
        page.get_by_label("API key").wait_for()
        assert violations(page) == []
        assert page.evaluate("document.activeElement.id") == "key"
        page.close()
