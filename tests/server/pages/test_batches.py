"""The page of batches in a real browser: what it shows is what the store has, live, and everything is done by hand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from support.batches import chat_line, create, message_results, wait_for
from support.browser import OpenPage, until
from support.pages import HOSTILE
from support.replay import Replaying, replaying, stepwise
from support.wait import until as soon

if TYPE_CHECKING:
    from playwright.sync_api import Page

ANSWERS = {"plain": "It is sunny.", "long": "word " * 300, "endless": "word " * 5000}
TIMERS = """
    window.timers = [];
    window.setTimeout = (work, wait) => timers.push({ work, wait });
    window.clearTimeout = () => {};
"""
HIDE = """(hidden) => {
    Object.defineProperty(document, 'hidden', { configurable: true, value: hidden });
    document.dispatchEvent(new Event('visibilitychange'));
}"""
KEYS = ("first-key", "second-key")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replaying]:
    store = tmp_path_factory.mktemp("store") / "a.db"
    with replaying(ANSWERS, store=str(store), inspect=True) as up:
        yield up


@pytest.fixture
def client(server: Replaying) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=600) as one:
        yield one


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[str, httpx.Client, threading.Semaphore]]:
    """A server without the inspector whose engine makes as many steps as it is released for."""
    with stepwise(ANSWERS, tmp_path) as (up, client, turns):
        yield up.url, client, turns
        turns.release(100_000)


def messages(client: httpx.Client, texts: list[str]) -> str:
    """The id of a message batch."""
    asked = [
        {
            "custom_id": f"m-{n}",
            "params": {"model": "tiny", "max_tokens": 500, "messages": [{"role": "user", "content": text}]},
        }
        for n, text in enumerate(texts)
    ]
    return str(client.post("/v1/messages/batches", json={"requests": asked}).json()["id"])


def failing() -> list[dict[str, Any]]:
    """Twelve lines: three of one kind fail, two of another."""
    lines = [chat_line(f"a-{n}", "[[plain]]") for n in range(12)]
    for n in (1, 4, 7):
        lines[n]["body"]["temperature"] = "hot"
    for n in (2, 3):
        lines[n]["body"]["model"] = "nobody"
    return lines


def figures(page: Page) -> dict[str, str]:
    """What the boxes say, by their names."""
    found: list[list[str]] = page.locator("dl.figures > div").evaluate_all(
        "all => all.map(one => [...one.children].map(part => part.innerText))"
    )
    return dict(found)


def done(client: httpx.Client, id: str, turns: threading.Semaphore, least: int) -> None:
    """Release the engine's steps until so many of the batch's lines have come out well."""
    while client.get(f"/batches/jobs/{id}").json()["succeeded"] < least:
        turns.release()
        time.sleep(0.01)


def has(page: Page, part: str, text: str) -> None:
    page.locator(f'[data-part="{part}"]', has_text=text).wait_for()


def test_what_has_ended_and_why_lines_failed(
    server: Replaying, client: httpx.Client, open_page: OpenPage, pictures: Path
) -> None:
    batch = wait_for(client, create(client, failing(), metadata={"job": HOSTILE, "model": "of metadata"}))
    page = open_page(f"{server.url}/batches#{batch['id']}")
    has(page, "head", "done, with failures")
    found = figures(page)
    assert (found["completed"], found["failed"], found["total"]) == ("7", "5", "12")
    assert "lines a minute, on average" in found
    has(page, "failures", "Invalid 'temperature'")
    rows = page.locator('[data-part="failures"] tbody tr')
    assert rows.evaluate_all("all => all.map(row => [...row.children].map(one => one.innerText.trim()))") == [
        ["invalid_type", "3", "a-1 Invalid 'temperature': Input should be a valid number."],
        ["model_not_found", "2", "a-2 There is no such model here. Served: tiny."],
    ]
    has(page, "facts", HOSTILE)
    assert page.evaluate("window.broken") is None
    facts = page.locator('[data-part="facts"]').inner_text()
    usage = batch["usage"]
    assert f"{usage['input_tokens']} in, {usage['output_tokens']} out" in facts
    row = page.locator(f'#batches li[data-id="{batch["id"]}"]')
    assert "12 of 12 lines, 5 failed" in row.inner_text()
    assert row.get_attribute("aria-selected") == "true"
    widths = page.locator('[role="progressbar"] > *').evaluate_all("all => all.map(one => one.style.width)")
    assert [round(float(one[:-1])) for one in widths] == [58, 42, 0]
    page.screenshot(path=pictures / "batches.png")


def test_files_are_fetched_as_they_are(server: Replaying, client: httpx.Client, open_page: OpenPage) -> None:
    batch = wait_for(client, create(client, failing()))
    page = open_page(f"{server.url}/batches#{batch['id']}")
    for name, id in (
        ("Input file", batch["input_file_id"]),
        ("Output file", batch["output_file_id"]),
        ("Error file", batch["error_file_id"]),
    ):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        assert download.value.suggested_filename == f"{batch['id']}_{name.split()[0].lower()}.jsonl"
        assert Path(download.value.path()).read_bytes() == client.get(f"/v1/files/{id}/content").content
    client.delete(f"/v1/files/{batch['output_file_id']}")
    page.get_by_role("link", name="Output file").click()
    page.locator('[data-part="files"] [role="alert"]', has_text="No such File").wait_for()


def test_a_message_batch_is_followed_to_its_end(
    slow: tuple[str, httpx.Client, threading.Semaphore], open_page: OpenPage, pictures: Path
) -> None:
    """While it runs, too, when its own API tells nothing of it."""
    url, client, turns = slow
    first = messages(client, ["[[plain]]"] * 8 + ["[[long]]"] * 4)
    second = messages(client, ["[[plain]]"] * 5)
    page = open_page(url + "/batches")
    rows = page.locator("#batches li")
    rows.nth(1).wait_for()
    assert rows.evaluate_all("rows => rows.map(row => row.dataset.id)") == [second, first]
    assert "waiting" in rows.first.inner_text()
    rows.nth(1).click()
    has(page, "head", "running")
    has(page, "files", "when the batch has ended")
    assert page.locator("#batch a").count() == 0

    for least in (4, 8):
        done(client, first, turns, least)
        until(page, "n => Number(document.querySelector('dl.figures .good').innerText) >= n", least)
        assert client.get(f"/v1/messages/batches/{first}").json()["request_counts"]["succeeded"] == 0
    until(page, "document.querySelector('dl.figures').innerText.includes('will end about')")
    soon(lambda: page.wait_for_timeout(20) or figures(page)["lines a minute, now"] != "–")
    assert float(figures(page)["lines a minute, now"].replace(",", "")) > 0
    page.screenshot(path=pictures / "batches-running.png")
    turns.release(100_000)
    has(page, "head", "done")
    with page.expect_download() as download:
        page.get_by_role("link", name="Results").click()
    batch = client.get(f"/v1/messages/batches/{first}").json()
    assert Path(download.value.path()).read_bytes() == client.get(batch["results_url"]).content
    assert len(message_results(client, batch)) == 12
    until(page, "![...document.querySelectorAll('#batches .status')].some(one => one.innerText !== 'done')")


def test_cancelling_by_hand(slow: tuple[str, httpx.Client, threading.Semaphore], open_page: OpenPage) -> None:
    url, client, turns = slow
    lines = [chat_line(f"a-{n}", "[[plain]]" if n < 2 else "[[endless]]") for n in range(9)]
    id = create(client, lines)
    done(client, id, turns, 2)
    page = open_page(url + "/batches")
    page.locator("#cancel").focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Cancel this batch?").wait_for()
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('dialog')")
    assert client.get(f"/v1/batches/{id}").json()["status"] == "in_progress"
    page.locator("#cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Let it run").click()
    until(page, "!document.querySelector('dialog')")
    assert client.get(f"/v1/batches/{id}").json()["status"] == "in_progress"
    page.locator("#cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the batch").click()
    has(page, "head", "cancelled")
    assert wait_for(client, id)["request_counts"] == {"total": 9, "completed": 2, "failed": 7}
    until(page, "document.querySelector('dl.figures').innerText.includes('not run')")
    found = figures(page)
    assert (found["completed"], found["failed"], found["not run"], found["total"]) == ("2", "0", "7", "9")
    assert page.locator("#cancel").count() == 0
    page.get_by_role("link", name="Error file").wait_for()


def test_a_file_that_is_none_says_where(server: Replaying, client: httpx.Client, open_page: OpenPage) -> None:
    batch = wait_for(client, create(client, b'{"custom_id": 5}\nnothing\n'))
    page = open_page(f"{server.url}/batches#{batch['id']}")
    has(page, "problems", "Line 2: The line is not valid JSON.")
    told = page.locator('[data-part="problems"] li').all_inner_texts()
    assert told == [f"Line {one['line']}: {one['message']}" for one in batch["errors"]["data"]]
    page.goto(server.url + "/batches#batch_none")
    has(page, "head", "There is no batch 'batch_none'")


def test_a_long_list_by_keyboard(tmp_path: Path, open_page: OpenPage) -> None:
    with (
        replaying(ANSWERS, store=str(tmp_path / "a.db")) as up,
        httpx.Client(base_url=up.url, timeout=600) as client,
    ):
        ids = [messages(client, ["[[plain]]"]) for _ in range(28)][::-1]
        page = open_page(up.url + "/batches")
        rows = page.locator("#batches li")
        rows.nth(24).wait_for()
        assert rows.count() == 25
        assert page.locator("#count").inner_text() == "the newest 25"
        page.get_by_role("button", name="Show older ones").click()
        rows.nth(27).wait_for()
        assert rows.evaluate_all("rows => rows.map(row => row.dataset.id)") == ids
        assert not page.get_by_role("button", name="Show older ones").is_visible()
        page.locator('#batches [tabindex="0"]').focus()
        for key, place in (("ArrowDown", 1), ("End", 27), ("ArrowUp", 26), ("Home", 0), ("PageDown", 10)):
            page.keyboard.press(key)
            assert page.evaluate("document.activeElement.dataset.id") == ids[place]
        page.keyboard.press("Enter")
        until(page, f"location.hash === '#{ids[10]}'")
        has(page, "head", ids[10])
        page.go_back()
        page.close()


def test_it_asks_seldom_where_nothing_runs_and_never_unseen(
    slow: tuple[str, httpx.Client, threading.Semaphore], open_page: OpenPage
) -> None:
    url, client, turns = slow
    page = open_page(url + "/batches")
    page.add_init_script(TIMERS)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/batches/jobs?" in request.url else None)
    page.reload()
    until(page, "timers.length === 1")
    assert page.evaluate("timers[0].wait") == 10_000
    id = create(client, [chat_line("a", "[[plain]]")])
    page.evaluate("timers[0].work()")
    until(page, "timers.length === 2")
    assert page.evaluate("timers[1].wait") == 2_000, "one runs"
    assert len(asked) == 2
    page.evaluate(HIDE, True)
    page.evaluate("timers[1].work()")
    assert len(asked) == 2
    turns.release(10_000)
    wait_for(client, id)
    page.evaluate(HIDE, False)
    until(page, "timers.length === 3")
    assert page.evaluate("timers[2].wait") == 10_000, "it has ended"
    assert len(asked) == 3


def test_each_key_sees_its_own(tmp_path: Path, open_page: OpenPage) -> None:
    with replaying(ANSWERS, keys=KEYS, store=str(tmp_path / "a.db")) as up:
        clients = [
            httpx.Client(base_url=up.url, headers={"authorization": f"Bearer {key}"}, timeout=600) for key in KEYS
        ]
        mine, theirs = (wait_for(one, create(one, failing())) for one in clients)
        page = open_page(up.url + "/batches")
        page.get_by_label("API key").fill(KEYS[0])
        page.keyboard.press("Enter")
        page.locator("#batches li").first.wait_for()
        assert page.locator("#batches li").evaluate_all("rows => rows.map(row => row.dataset.id)") == [mine["id"]]
        with page.expect_download() as download:  # which a plain link could not: it has no key
            page.get_by_role("link", name="Output file").click()
        content = clients[0].get(f"/v1/files/{mine['output_file_id']}/content").content
        assert Path(download.value.path()).read_bytes() == content
        page.goto(f"{up.url}/batches#{theirs['id']}")
        has(page, "head", f"There is no batch '{theirs['id']}'")
        page.close()
        for one in clients:
            one.close()


def test_without_a_store_and_without_batches(tmp_path: Path, open_page: OpenPage, pictures: Path) -> None:
    with replaying(ANSWERS) as up:
        page = open_page(up.url + "/batches")
        page.get_by_role("heading", name="This server keeps no batches").wait_for()
        assert "start it with --store FILE" in page.locator("#empty").inner_text()
        assert "portico serve --store" in page.locator("#empty").inner_text()
        page.screenshot(path=pictures / "batches-no-store.png")
        page.close()
    with replaying(ANSWERS, store=str(tmp_path / "a.db")) as up, httpx.Client(base_url=up.url, timeout=600) as client:
        page = open_page(up.url + "/batches")
        page.get_by_role("heading", name="There is no batch yet").wait_for()
        assert f"portico batch submit lines.jsonl --url {up.url}" in page.locator("#empty").inner_text()
        id = create(client, [chat_line("a", "[[plain]]")])
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as one who comes back to it
        has(page, "head", id)
        assert not page.locator("#empty").is_visible()
        page.close()


def test_every_page_leads_to_every_other(server: Replaying, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(server.url + "/batches")
    for name, path in (("Inspector", "/inspect"), ("Playground", "/play"), ("Batches", "/batches")):
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        page.wait_for_url(f"{server.url}{path}**")
        assert page.locator("nav [aria-current]").all_inner_texts() == [name]
    with replaying(ANSWERS) as plain:
        page = open_page(plain.url + "/batches")
        assert page.get_by_role("navigation", name="Pages").get_by_role("link").all_inner_texts() == ["Batches"]
        page.close()
    assert json.loads(httpx.get(server.url + "/batches/jobs").content)["batches"] is not None
