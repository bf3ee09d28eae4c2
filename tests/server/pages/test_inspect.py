"""The inspector in a real browser: what it shows is what the server recorded, and everything can be reached by hand."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from support.browser import OpenPage, until
from support.pages import ANSWERS, CHAT, HOSTILE, PARSERS, WEATHER, ask, reach, traced
from support.replay import Replaying, replaying

if TYPE_CHECKING:
    from playwright.sync_api import Page

WIDE = 6000  # pixels: small traces are drawn whole, nothing is out of view
MOST_LINES = 500  # drawn at once
BOXES = """() => [...document.querySelectorAll('.scroller .box')].map((box) => ({
    ids: box.box.ids, lane: box.parentElement.dataset.lane, is: [...box.classList],
    left: box.offsetLeft, width: box.offsetWidth, text: box.innerText, label: box.getAttribute('aria-label')}))"""


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying(ANSWERS, inspect=True, **PARSERS) as up:
        yield up


def test_which_response_came_from_which(tmp_path: Path, open_page: OpenPage, pictures: Path) -> None:
    with replaying(ANSWERS, inspect=True, store=str(tmp_path / "a.db"), **PARSERS) as up:

        def create(text: str, **fields: Any) -> tuple[str, str]:
            answer = httpx.post(up.url + "/v1/responses", json={"input": text, **fields}, timeout=120)
            return answer.json()["id"], answer.headers["x-portico-trace-id"]

        first, first_trace = create("[[plain]]")
        second, second_trace = create("[[plain]] again", previous_response_id=first)
        third, _ = create("[[plain]] and again", previous_response_id=second, background=True)
        create("[[plain]] alone")
        page = open_page(f"{up.url}/inspect#{second_trace}")
        items = page.locator("#chain li")
        items.nth(2).wait_for()
        assert items.locator("button").all_inner_texts() == [first, second, third]
        assert "in the background" in items.nth(2).inner_text()
        head, _ = traced(up, second_trace)
        assert f"{head['prompt_tokens']} prompt tokens" in items.nth(1).inner_text()
        assert items.nth(1).get_attribute("aria-current") == "true"
        page.screenshot(path=pictures / "chain.png")
        items.first.locator("button").click()
        until(page, f"location.hash === '#{first_trace}'")
        until(page, "document.querySelector('#chain li[aria-current]') === document.querySelector('#chain li')")
        page.close()


def boxes(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate(BOXES)
    return found


def shown(page: Page, artifacts: list[dict[str, Any]]) -> None:
    """Wait until all of the trace is drawn."""
    until(page, "n => document.querySelectorAll('.scroller .box').length >= n", len(artifacts))


def box(page: Page, id: int) -> Any:
    return page.locator(f'.scroller .box[data-id="{id}"]')


def test_requests_are_listed_newest_first_and_as_they_come(server: Replaying, open_page: OpenPage) -> None:
    first, second = ask(server, "plain"), ask(server, "call", tools=[WEATHER])
    page = open_page(server.url + "/inspect")
    rows = page.locator("#requests li")
    rows.nth(1).wait_for()
    assert rows.evaluate_all("rows => rows.slice(0, 2).map(row => row.dataset.id)") == [second, first]
    head, _ = traced(server, second)
    text = rows.first.inner_text()
    for figure in (CHAT, "tiny", "done", f"{head['prompt_tokens']} → {head['completion_tokens']}"):
        assert figure in text
    assert "[[call]]" in text  # what was asked
    assert "1 tool" in text
    page.locator("#filter").fill("[[call]] done")
    until(page, "document.querySelectorAll('#requests li').length === 1")
    page.locator("#filter").fill("")
    until(page, "document.querySelectorAll('#requests li').length > 1")
    page.locator(f'#requests li[data-id="{second}"]').click()
    page.get_by_text("What was said, as text").click()
    page.locator(".words pre").first.wait_for()
    said = page.locator(".words pre").all_inner_texts()
    assert [said[0], *said[-3:-1]] == ["[[call]]", "Which city?", "I look it up."]
    assert json.loads(said[-1]) == {"city": "Köln 🐌", "days": 3}
    before = rows.count()
    third = ask(server, "plain", "/v1/messages", model="nobody")  # while the page is open
    page.locator(f'#requests li[data-id="{third}"]').wait_for()
    assert rows.first.get_attribute("data-id") == third
    assert rows.count() == before + 1
    page.locator("#filter").fill("messages refused")
    until(page, "document.querySelectorAll('#requests li').length === 1")
    assert rows.first.get_attribute("data-id") == third
    page.locator("#filter").fill("no such thing")
    page.get_by_text("No request fits the filter").wait_for()


def test_every_artifact_is_drawn_once_in_its_lane_with_its_mark(
    server: Replaying, open_page: OpenPage, pictures: Path
) -> None:
    trace = ask(server, "call", tools=[WEATHER])
    _, artifacts = traced(server, trace)
    page = open_page(f"{server.url}/inspect#{trace}", width=WIDE, height=1000)
    shown(page, artifacts)
    drawn = {found["ids"][0]: found for found in boxes(page)}
    assert all(len(found["ids"]) == 1 for found in drawn.values())
    assert set(drawn) == {artifact["id"] for artifact in artifacts}
    for artifact in artifacts:
        found = drawn[artifact["id"]]
        assert found["lane"] == artifact["lane"]
        assert artifact["by"] in found["is"]
        assert artifact["by"] in found["label"]
    assert {"translation", "inference"} <= {artifact["by"] for artifact in artifacts}
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.screenshot(path=pictures / "trace.png")


def test_looking_at_an_artifact_lights_its_family(server: Replaying, open_page: OpenPage, pictures: Path) -> None:
    trace = ask(server, "call", tools=[WEATHER])
    _, artifacts = traced(server, trace)
    page = open_page(f"{server.url}/inspect#{trace}", width=WIDE, height=1000)
    shown(page, artifacts)
    last_of_lane = {artifact["lane"]: artifact["id"] for artifact in artifacts}
    middle = [artifact["id"] for artifact in artifacts if artifact["kind"] in ("step", "event", "held", "chunk")][3::12]
    for id in [0, *last_of_lane.values(), *middle]:
        above, below = reach(artifacts, id)
        box(page, id).hover()
        until(page, "id => document.querySelector('.centre')?.dataset.id === String(id)", id)
        lit = {one["ids"][0]: one["is"] for one in boxes(page)}
        assert {one for one, classes in lit.items() if "ancestor" in classes} == above
        assert {one for one, classes in lit.items() if "descendant" in classes} == below
        family = {id} | above | below
        links = sum(parent in family for one in artifacts if one["id"] in family for parent in one["of"])
        assert page.locator(".lines path").count() == min(links, MOST_LINES)
        readout = page.locator(".readout").inner_text()
        assert f"made from {len(above)}, led to {len(below)}" in readout
    page.mouse.move(5, 5)
    assert page.locator(".centre").count() == 0
    page.set_viewport_size({"width": 1280, "height": 800})
    chunk = [artifact["id"] for artifact in artifacts if artifact["kind"] == "chunk"][1]
    box(page, chunk).hover()
    page.screenshot(path=pictures / "hover.png")


def test_the_way_from_a_chunk_to_its_tokens_is_told_in_words(server: Replaying, open_page: OpenPage) -> None:
    trace = ask(server, "plain")
    _, artifacts = traced(server, trace)
    chunk = [artifact for artifact in artifacts if artifact["kind"] == "chunk"][2]
    above, _ = reach(artifacts, chunk["id"])
    page = open_page(f"{server.url}/inspect#{trace}/{chunk['id']}")
    page.locator(".family .entry").first.wait_for()
    told = page.locator(".family section").first
    assert {int(id) for id in told.locator(".entry").evaluate_all("all => all.map(one => one.dataset.goto)")} == above
    steps = [artifacts[id] for id in sorted(above) if artifacts[id]["kind"] == "step"]
    ids = [str(token) for step in steps for token in step["data"]["ids"]]
    assert told.locator(".chip small").all_inner_texts() == ids
    wire = page.locator(".details pre").inner_text()
    assert wire.replace("⏎", "") == chunk["data"]["bytes"]
    told.locator(f'.entry[data-goto="{steps[0]["id"]}"]').first.click()
    page.wait_for_url(f"**#{trace}/{steps[0]['id']}")
    assert page.locator(".details h3").inner_text() == "engine step"
    assert page.locator(".details .mark").inner_text() == "inference"


def test_what_was_held_back_is_drawn_as_long_as_it_lasted(
    open_page: OpenPage, server: Replaying, pictures: Path
) -> None:
    answers = ANSWERS | {"alarm": f"{ANSWERS['alarm']}, <tool_cal"}
    with replaying(answers, inspect=True, interval=0.03, **PARSERS) as paced:
        trace = ask(paced, "alarm", tools=[WEATHER])
        _, artifacts = traced(paced, trace)
        holds = [artifact for artifact in artifacts if artifact["kind"] == "held"]
        assert any("header of a call" in hold["data"]["reason"] for hold in holds)
        page = open_page(f"{paced.url}/inspect#{trace}", width=WIDE, height=1000)
        shown(page, artifacts)
        page.locator('[data-axis="time"]').click()
        until(page, "document.querySelectorAll('.scroller .flag').length > 0")
        drawn = {found["ids"][0]: found for found in boxes(page)}
        scale = max(found["left"] for found in drawn.values()) / max(artifact["at"] for artifact in artifacts)
        for hold in holds:
            found = drawn[hold["id"]]
            assert hold["data"]["reason"] in found["label"]
            assert found["width"] == pytest.approx(hold["took"] * scale, abs=4)
            assert found["left"] == pytest.approx(hold["at"] * scale, abs=4)
        longest = max(holds, key=lambda hold: float(hold["took"]))
        assert drawn[longest["id"]]["text"] == longest["data"]["reason"]
        page.set_viewport_size({"width": 1280, "height": 800})
        page.locator('[data-axis="order"]').click()
        box(page, longest["id"]).click()
        assert longest["data"]["reason"] in page.locator(".details .reason").inner_text()
        assert page.locator(".details pre").inner_text() == longest["data"]["text"]
        page.screenshot(path=pictures / "held.png")
        page.close()


def test_an_error_names_the_layer_that_refused(server: Replaying, open_page: OpenPage, pictures: Path) -> None:
    page = open_page(server.url + "/inspect")
    for name, fields, verb in (
        ("plain", {"temperature": "hot"}, "Refused"),
        ("plain", {"model": "nobody"}, "Refused"),
        ("fails", {}, "It broke off"),
    ):
        trace = ask(server, name, **fields)
        head, _ = traced(server, trace)
        layer = head["error"]["layer"]
        row = page.locator(f'#requests li[data-id="{trace}"]')
        row.wait_for()
        until(
            page,
            "([id, words]) => document.querySelector(`#requests li[data-id=${id}]`).innerText.includes(words)",
            [trace, head["error"]["message"]],
        )
        row.click()
        banner = page.locator(".refusal", has_text=head["error"]["message"])
        banner.wait_for()
        assert banner.locator("strong").inner_text().startswith(verb)
        assert layer in banner.inner_text()
        page.locator(".box.error").first.wait_for()
        assert page.locator(".box.error").count() == 1
        page.screenshot(path=pictures / f"error-{layer}.png")


def test_by_keyboard_alone(server: Replaying, open_page: OpenPage) -> None:
    wanted, newest = ask(server, "call", tools=[WEATHER]), ask(server, "plain")
    _, artifacts = traced(server, wanted)
    page = open_page(server.url + "/inspect")
    page.locator(f'#requests li[data-id="{newest}"]').wait_for()
    press = page.keyboard.press

    def focused(property: str) -> str:
        return str(page.evaluate(f"String(document.activeElement.{property})"))

    press("/")
    assert focused("id") == "filter"
    press("ArrowDown")  # into the list, to the one that is shown
    assert focused("dataset.id") == newest
    press("ArrowDown")
    press("Enter")
    page.wait_for_url(f"**#{wanted}")
    shown(page, artifacts[:20])
    for _ in range(30):
        press("Tab")
        if focused("className").startswith("box"):
            break
    here = int(focused("dataset.id"))
    assert artifacts[here]["kind"] == "http_request"
    for key, lane in (
        ("ArrowDown", "prompt"),
        ("ArrowDown", "tokens"),
        ("ArrowDown", "text"),
        ("ArrowRight", "text"),
        ("ArrowDown", "events"),
    ):
        press(key)
        here = int(focused("dataset.id"))
        assert artifacts[here]["lane"] == lane
        assert page.locator(".centre").get_attribute("data-id") == str(here)
        above, _ = reach(artifacts, here)
        assert page.locator(".ancestor").count() > 0
        assert {int(id) for id in page.locator(".ancestor").evaluate_all("a => a.map(b => b.dataset.id)")} <= above
    press("Enter")
    page.wait_for_url(f"**#{wanted}/{here}")
    for _ in range(30):
        press("Tab")
        if focused("className").startswith("entry"):
            break
    goto = focused("dataset.goto")
    press("Enter")
    page.wait_for_url(f"**#{wanted}/{goto}")
    press("Shift+Tab")
    assert page.evaluate("document.activeElement !== document.body")


def test_a_request_is_followed_while_it_runs(open_page: OpenPage, pictures: Path) -> None:
    turns = threading.Semaphore(0)
    with replaying(ANSWERS, inspect=True, turns=turns, keep_alive=0.5, **PARSERS) as slow:
        page = open_page(slow.url + "/inspect")
        page.locator("#empty").wait_for()
        asking = threading.Thread(target=ask, args=(slow, "call"), kwargs={"tools": [WEATHER]})
        asking.start()
        page.locator("#requests li.open").wait_for()
        seen = []
        for _ in range(3):
            turns.release(5)
            until(page, "n => document.querySelectorAll('.scroller .chunk').length > n", (seen or [1])[-1])
            seen.append(page.locator(".scroller .chunk").count())
            assert page.locator(".badge.open").count() == 1
        page.screenshot(path=pictures / "live.png")
        turns.release(1000)
        assert seen == sorted(set(seen))
        page.locator("#requests li.ok").wait_for()
        page.locator(".badge.ok").wait_for()
        asking.join()
        trace = page.locator("#requests li").first.get_attribute("data-id")
        _, artifacts = traced(slow, str(trace))
        page.set_viewport_size({"width": WIDE, "height": 900})
        shown(page, artifacts)
        assert sorted(found["ids"][0] for found in boxes(page)) == [artifact["id"] for artifact in artifacts]
        page.close()  # the server waits for those who follow


def test_what_the_first_token_waited_for_adds_up(server: Replaying, open_page: OpenPage) -> None:
    trace = ask(server, "plain")
    _, artifacts = traced(server, trace)
    page = open_page(f"{server.url}/inspect#{trace}")
    page.locator(".waterfall tr").nth(5).wait_for()
    stages = page.evaluate(
        """async id => {
            const { Trace, firstToken } = await import('/assets/trace/model.js');
            const { trace: head, artifacts } = await (await fetch(`/inspect/traces/${id}`)).json();
            const trace = new Trace(head);
            artifacts.forEach((one) => trace.put(one));
            return firstToken(trace);
        }""",
        trace,
    )
    assert page.locator(".waterfall th").all_inner_texts() == [stage["name"] for stage in stages]
    reached = 0.0
    for stage in stages:
        assert stage["from"] == reached
        assert stage["to"] >= reached
        reached = stage["to"]
    chunk = artifacts[stages[-1]["id"]]
    assert chunk["kind"] == "chunk"
    assert reached == chunk["at"] + chunk["took"]
    model = next(stage for stage in stages if stage["by"] == "inference")
    assert artifacts[model["id"]]["kind"] == "step"
    assert model["to"] - model["from"] <= reached


def test_thousands_of_artifacts_stay_light(server: Replaying, open_page: OpenPage, pictures: Path) -> None:
    trace = ask(server, "long")
    _, artifacts = traced(server, trace)
    assert len(artifacts) > 5000
    page = open_page(f"{server.url}/inspect#{trace}")
    page.locator(".scroller .step").first.wait_for()
    assert page.locator(".scroller .box").count() < 400
    page.locator(".lanes").get_by_role("button").first.focus()
    page.keyboard.press("0")
    page.locator(".merged").first.wait_for()
    found = boxes(page)
    assert len(found) < 400
    assert sorted(id for one in found for id in one["ids"]) == [artifact["id"] for artifact in artifacts]  # none lost
    page.screenshot(path=pictures / "five-thousand.png")
    page.locator('[data-lane="wire"] .merged').nth(3).click()  # zooms in
    page.locator(".scroller .chunk:not(.merged)").first.wait_for()
    most, made = page.evaluate(
        """async () => {
            const [scroller, frame] = [document.querySelector('.scroller'), () => new Promise(requestAnimationFrame)];
            let [most, made] = [0, 0];
            const watch = new MutationObserver((records) => {
                for (const record of records) made += record.addedNodes.length;
            });
            await frame();
            watch.observe(scroller, {childList: true, subtree: true});
            for (let i = 0; i < 20; i++) {
                scroller.scrollLeft += 300;
                await frame();
                await frame();
                most = Math.max(most, scroller.querySelectorAll('.box').length);
            }
            return [most, made];
        }"""
    )
    assert most < len(artifacts) // 4  # how close together they lie is the machine's doing
    assert made < 20 * 400


def test_two_requests_side_by_side(server: Replaying, open_page: OpenPage, pictures: Path) -> None:
    one = ask(server, "plain", messages=[{"role": "user", "content": "The same beginning, then one. [[plain]]"}])
    two = ask(
        server, "alarm", messages=[{"role": "user", "content": "The same beginning, then two. [[alarm]]"}], seed=1
    )
    page = open_page(f"{server.url}/inspect#{one}")
    page.get_by_role("button", name="Compare").click()
    page.locator(f'#requests li[data-id="{two}"]').click()
    page.wait_for_url(f"**#{one}..{two}")
    page.locator("#compared table").wait_for()
    assert page.locator("#trace").is_hidden()
    row = page.locator("#compared tr", has=page.get_by_role("rowheader", name="completion tokens", exact=True))
    heads = [traced(server, id)[0] for id in (one, two)]
    figures = [str(head["completion_tokens"]) for head in heads]
    assert row.locator("td").all_inner_texts() == [*figures, "≠"]
    assert page.get_by_role("rowheader", name="stage: the model").count() == 1
    parts = page.locator("#compared pre[aria-label^='What was asked'] mark").all_inner_texts()
    assert [part[:3] for part in parts] == ["one", "two"]
    assert page.locator("#compared pre[aria-label^='The answer']").count() == 2
    page.screenshot(path=pictures / "compared.png")
    page.locator("#compared thead button").first.click()
    page.wait_for_url(f"**#{one}")
    page.locator(".scroller .box").first.wait_for()
    assert page.locator("#compared").is_hidden()
    page.goto(f"{server.url}/inspect#{one}..tr_none")
    page.locator("#compared [role=alert]", has_text="cannot be compared").wait_for()


def test_zoom_keeps_its_place(server: Replaying, open_page: OpenPage) -> None:
    trace = ask(server, "call", tools=[WEATHER])
    page = open_page(f"{server.url}/inspect#{trace}")
    page.locator(".scroller .step").first.wait_for()
    for axis in ("order", "time"):
        page.locator(f'[data-axis="{axis}"]').click()
        assert page.locator(f'[data-axis="{axis}"]').get_attribute("aria-pressed") == "true"
        for key in "0++++":
            page.locator(".scroller .box").first.focus()
            page.keyboard.press(key)
        wide = page.evaluate("document.querySelector('.sheet').offsetWidth")
        sight = page.evaluate("document.querySelector('.scroller').clientWidth")
        assert wide > sight * 2
        page.locator(".scroller").hover()
        page.keyboard.down("Control")
        page.mouse.wheel(0, 120)
        page.keyboard.up("Control")
        until(page, "wide => document.querySelector('.sheet').offsetWidth < wide", wide)
        page.locator(".scroller .box").first.focus()
        page.keyboard.press("0")
        until(
            page,
            """() => Math.abs(document.querySelector('.sheet').offsetWidth
                    - document.querySelector('.scroller').clientWidth) < 20""",
        )


def test_recorded_text_is_only_ever_text(server: Replaying, open_page: OpenPage) -> None:
    trace = ask(server, "hostile", messages=[{"role": "user", "content": f"{HOSTILE}[[hostile]]"}], user=HOSTILE)
    refused = ask(server, "plain", tool_choice=HOSTILE)
    page = open_page(f"{server.url}/inspect#{trace}")
    page.locator(".scroller .box").first.wait_for()
    for _, id in sorted({one["kind"]: one["id"] for one in traced(server, trace)[1]}.items()):
        page.goto(f"{server.url}/inspect#{trace}/{id}")
        until(page, "id => document.querySelector('.scroller .selected')?.dataset.id === String(id)", id)
    page.goto(f"{server.url}/inspect#{refused}")
    page.locator(".refusal").wait_for()
    assert page.evaluate("window.broken") is None
    assert page.locator("main img").count() == 0


def test_an_address_leads_to_an_artifact_and_back(server: Replaying, open_page: OpenPage) -> None:
    one, two = ask(server, "plain"), ask(server, "call")
    page = open_page(f"{server.url}/inspect#{one}/3")
    page.locator(".selected").wait_for()
    assert page.locator(".selected").get_attribute("data-id") == "3"
    page.locator(f'#requests li[data-id="{two}"]').wait_for()
    page.evaluate(  # another is chosen while a scrolled view waits to be drawn
        """id => {
            document.querySelector('.scroller').dispatchEvent(new Event('scroll'));
            document.querySelector(`#requests li[data-id="${id}"]`).click();
        }""",
        two,
    )
    page.wait_for_url(f"**#{two}")
    page.go_back()
    until(page, "id => document.title.startsWith(id)", one)
    page.reload()
    page.locator(".selected").wait_for()
    page.goto(f"{server.url}/inspect#tr_unknown")
    page.get_by_text("This trace is gone").wait_for()


def test_an_export_is_what_the_server_has(server: Replaying, open_page: OpenPage) -> None:
    trace = ask(server, "plain")
    page = open_page(f"{server.url}/inspect#{trace}")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export JSON").click()
    assert download.value.suggested_filename == f"{trace}.json"
    exported = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert exported == httpx.get(f"{server.url}/inspect/traces/{trace}").json()


def test_a_key_is_asked_for_and_kept(open_page: OpenPage, pictures: Path) -> None:
    with replaying(ANSWERS, inspect=True, keys=["sesame"], **PARSERS) as guarded:
        trace = ask(guarded, "plain", key="sesame")
        page = open_page(guarded.url + "/inspect")
        page.get_by_label("API key").fill("wrong")
        page.screenshot(path=pictures / "key.png")
        page.keyboard.press("Enter")
        page.get_by_text("That key was refused").wait_for()
        page.get_by_label("API key").fill("sesame")
        page.keyboard.press("Enter")
        page.locator(f'#requests li[data-id="{trace}"]').wait_for()
        page.locator(".scroller .chunk").first.wait_for()
        page.reload()
        page.locator(".scroller .chunk").first.wait_for()
        assert page.locator("dialog").count() == 0
        page.close()


def test_a_redacted_trace_says_so(open_page: OpenPage) -> None:
    with replaying(ANSWERS, inspect=True, redact=True, **PARSERS) as server:
        trace = ask(server, "plain", tools=[WEATHER])
        _, artifacts = traced(server, trace)
        page = open_page(f"{server.url}/inspect#{trace}", width=WIDE, height=900)
        shown(page, artifacts)
        for _, id in sorted({one["kind"]: one["id"] for one in artifacts}.items()):
            box(page, id).click()
            page.locator(".details .redacted").wait_for()
        assert not re.search("Grüße|words|get_weather", page.locator("body").inner_text())
        page.close()


def test_the_theme_is_chosen_and_kept(server: Replaying, open_page: OpenPage) -> None:
    page = open_page(server.url + "/inspect")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.locator("#theme").click()
    dark = page.evaluate(colour)
    assert dark != light
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    page.reload()
    assert page.evaluate(colour) == dark
