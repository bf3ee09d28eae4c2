"""Answers of any length in a real browser: what a token costs does not grow with what came before it."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest

from support.browser import OpenPage, heap, main_thread_tasks, until
from support.pages import HOSTILE, MIXED, PARSERS
from support.replay import Replaying, replaying

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TOKENS = 20_000
SHAPES = {  # each some blocks of the longest that are kept open
    "mixed": MIXED * 30,
    "one paragraph": "word **and** `word` " * 700,
    "no space at all": "x" * 14_000,
    "one listing": "```python\n" + "value = compute(1, 'two')  # why\n" * 420 + "```\n",
    "one list": "- an item with **weight** in it\n" * 420,
    "one table": "| a | b |\n|---|---|\n" + "| some | words |\n" * 800,
    "half-open": "$$ \\( [a](b **c `d " * 700,
    "empty lines": "\n" * 14_000,
    "hostile": HOSTILE * 120,
}
FEED = """async ({ pieces }) => {
    const { Flow } = await import('/assets/play/flow.js');
    const flow = new Flow(() => 0);  // only growth counts, no clock
    document.body.append(flow.element);
    const finished = new Set();
    const observer = new MutationObserver(() => {});
    const all = { subtree: true, childList: true, characterData: true };
    observer.observe(flow.element, all);
    let touched = 0, late = 0, largest = 0;
    const step = () => {
        const before = flow.spent;
        flow.step();
        largest = Math.max(largest, flow.spent - before);
        for (const { target, addedNodes, removedNodes } of observer.takeRecords()) {
            touched += addedNodes.length + removedNodes.length + 1;
            for (let node = target; node; node = node.parentNode) late += finished.has(node);
            late += [...removedNodes].filter((node) => finished.has(node)).length;
        }
        const blocks = [...flow.element.querySelectorAll('.block')];
        const pieces = blocks.pop()?.querySelectorAll('pre > code:not(:last-child)') ?? [];  // of an open listing
        for (const element of [...blocks, ...pieces]) finished.add(element);
    };
    for (const piece of pieces) {
        flow.add(piece);
        step();
    }
    flow.end();
    while (flow.behind) step();
    observer.disconnect();
    const found = {
        spent: flow.spent, touched, late, largest, html: flow.element.innerHTML, text: flow.element.textContent,
        foreign: flow.element.querySelectorAll('script, img, iframe, style, form, [onerror], [onclick]').length,
    };
    flow.element.remove();
    return found;
}"""


@pytest.fixture(scope="module")
def server() -> Iterator[Replaying]:
    with replaying({"mixed": MIXED * 100, "short": MIXED * 4}, inspect=True, **PARSERS) as up:
        yield up


def cut(text: str, most: int) -> list[str]:
    """The text in random pieces of up to ``most`` characters."""
    chance = random.Random(0)
    pieces = []
    while text:
        size = chance.randint(1, most)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def feed(page: Page, pieces: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(FEED, {"pieces": pieces})
    return found


def test_what_is_finished_is_never_touched_again(server: Replaying, open_page: OpenPage) -> None:
    page = open_page(server.url + "/play")
    for name, text in SHAPES.items():
        found = feed(page, cut(text, 24))
        assert found["late"] == 0, name
        assert found["spent"] <= 12 * len(text), name  # characters read, again and again
        assert found["largest"] <= 30_000, name  # by one call
        assert found["touched"] <= 20 * len(text) / 3, name  # nodes made, removed or changed: per token
        assert found["foreign"] == 0, name


def test_how_an_answer_is_cut_does_not_matter(server: Replaying, open_page: OpenPage) -> None:
    page = open_page(server.url + "/play")
    small = ("a $5 and $6 b", "```\nnever closed", "| a |\n|---|\n| b |", "**open", "\r\nx\r\n")
    for text in (MIXED * 5, HOSTILE, *small):
        whole = feed(page, [text])
        for most in (1, 7, 1000):
            assert feed(page, cut(text, most))["html"] == whole["html"], text
    assert "<math" in feed(page, [MIXED])["html"]
    assert "hljs-keyword" in feed(page, [MIXED])["html"]
    assert "<math" not in feed(page, ["a $5 and $6 b"])["html"]


GOES_ON = """async ({ pieces, of }) => {
    const { Flow } = await import('/assets/play/flow.js');
    const flow = new Flow(() => 0);
    const step = () => flow.step();
    for (const piece of pieces) (flow.add(piece), step());
    flow.end();
    while (flow.behind) step();
    const all = (wanted) => [...flow.element.querySelectorAll(wanted)];
    return {
        items: all('ol').map((list) => [list.start, list.childElementCount]), lists: all('.block > ol').length,
        listings: all('.listing').length, code: all('.listing pre').map((pre) => pre.textContent),
        coloured: all('code').every((code) => code.querySelector('.hljs-number')),
        rows: all('tbody tr').length, heads: all('thead').length, tables: all('table').length,
        paragraphs: all('p').map((one) => one.textContent), on: all('.block.on').length, blocks: all('.block').length,
        heading: all('.block:not(.on) > p').at(-1)?.textContent,
    };
}"""


def test_what_is_long_goes_on_as_if_it_had_not_been_cut(server: Replaying, open_page: OpenPage) -> None:
    page = open_page(server.url + "/play")

    def shown(text: str) -> Any:
        return page.evaluate(GOES_ON, {"pieces": cut(text + "\nThe end.", 90)})

    numbered = shown("".join(f"{n}. item {n}\n" for n in range(5, 405)) + "\n")
    place = 5
    for start, items in numbered["items"]:  # every list is numbered from where the one before ended
        assert start == place
        place += items
    assert place == 405
    assert 2 < numbered["lists"] == numbered["blocks"] - 1 == numbered["on"] + 1
    lines = "".join(f"value_{n} = {n}\n" for n in range(600))
    for code in (lines, "x = 1\n" + "x" * 9000):
        listing = shown(f"```python\n{code.rstrip()}\n```\n")
        assert (listing["listings"], listing["blocks"]) == (1, 2)
        assert listing["code"] == [code.rstrip()]
    assert shown(f"```python\n{lines}```\n")["coloured"]
    table = shown("| a | b |\n|---|---|\n" + "".join(f"| some | {n} |\n" for n in range(1000)) + "\n")
    assert table["rows"] == 1000
    assert table["tables"] == table["heads"] == table["blocks"] - 1 == 2
    sentences = "".join(f"It is sentence {n}. " for n in range(400))
    prose = shown(sentences + "\n\n")
    assert prose["on"] >= 2
    assert all(one.rstrip().endswith(".") for one in prose["paragraphs"])
    assert "".join(one.rstrip() + " " for one in prose["paragraphs"][:-1]) == sentences
    for found in (numbered, listing, table, prose):
        assert found["heading"] == "The end."


def test_the_libraries_are_those_that_are_named() -> None:
    folder = resources.files("portico.server") / "pages" / "vendor"
    named = dict(re.findall(r"^\| (\w+\.js) .* ([0-9a-f]{64}) \|$", (folder / "README.md").read_text("utf-8"), re.M))
    there = {file.name: file.read_bytes() for file in folder.iterdir() if file.name.endswith(".js")}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in there.items()} == named


ASKING = """
    window.told = { works: 0, asked: {} };  // what is done in frames, and what there has the page laid out at once
    let within = false;
    const asked = window.requestAnimationFrame.bind(window);
    window.requestAnimationFrame = (work) => asked((now) => {
        within = true;
        told.works += 1;
        work(now);
        within = false;
    });
    const note = (name) => within && (told.asked[name] = (told.asked[name] ?? 0) + 1);
    const measures = (of, names) => {
        for (const name of names) {
            const { get, set } = Object.getOwnPropertyDescriptor(of, name);
            Object.defineProperty(of, name, {
                configurable: true,
                get() { note(name); return get.call(this); },
                set(value) { note(name); set?.call(this, value); },
            });
        }
    };
    const sides = (start) => ['Width', 'Height', 'Top', 'Left'].map((side) => start + side);
    measures(Element.prototype, [...sides('client'), ...sides('scroll')]);
    measures(HTMLElement.prototype, [...sides('offset'), 'innerText']);
    for (const of of [Element, Range])
        for (const name of ['getBoundingClientRect', 'getClientRects', 'scrollIntoView']) {
            const call = of.prototype[name];
            if (call) of.prototype[name] = function (...all) { note(name); return call.apply(this, all); };
        }
"""


def test_no_frame_has_the_page_laid_out_to_measure_it(server: Replaying, open_page: OpenPage) -> None:
    """The browser does that once, at the end of the frame; what measures in between has it done again."""
    page = open_page(server.url + "/play")
    page.add_init_script(ASKING)
    page.reload()
    page.locator("#model option").first.wait_for(state="attached")
    page.locator("#message").fill("[[short]]")
    page.locator("#send").click()
    page.locator(".foot:not(:empty)").wait_for()
    page.get_by_text("the inspector").last.wait_for()
    until(page, "/events/.test(document.getElementById('received').textContent)")
    told = page.evaluate("told")
    assert told["works"] >= 10, told
    assert told["asked"] == {}, told
    for id in ("turns", "raw"):  # and yet the end is in sight
        until(
            page,
            "id => { const e = document.getElementById(id); return e.scrollHeight - e.scrollTop - e.clientHeight < 2 }",
            id,
        )
    until(page, "document.querySelector('.scroller').scrollLeft > 0")


LOOP = "() => { let x = 1; for (let i = 0; i < 5e6; i++) x = (x * 31 + i) % 65521; return x; }"
COUNTING = """
    window.most = { nodes: 0, events: 0 };  // that one frame has put in or taken out
    const asked = window.requestAnimationFrame.bind(window);
    window.requestAnimationFrame = (work) => asked((now) => {
        const seen = new MutationObserver(() => {});
        seen.observe(document, { subtree: true, childList: true });
        work(now);
        const records = seen.takeRecords();
        const nodes = records.reduce((sum, one) => sum + one.addedNodes.length + one.removedNodes.length, 0);
        const shown = records.filter((one) => one.target.id === 'raw' && one.addedNodes.length);
        most.nodes = Math.max(most.nodes, nodes);
        most.events = Math.max(most.events, shown.length);
        seen.disconnect();
    });
"""


def loop_ms(browser: Browser, page: Page) -> float:
    """Milliseconds of processor time that a fixed piece of work takes here and now."""
    browser.start_tracing(page=page, categories=["toplevel"])
    page.evaluate(LOOP)
    return max(main_thread_tasks(browser.stop_tracing()))


@pytest.mark.slow
def test_twenty_thousand_tokens_leave_the_page_light(
    server: Replaying, browser: Browser, open_page: OpenPage, record_property: Any
) -> None:
    """They come as fast as they can, which is more at once than any pace. What a frame does is counted: no machine
    changes that. Processor time is held against a loop that tells how fast this one is just now."""
    page = open_page(server.url + "/play")
    page.add_init_script(COUNTING)
    page.reload()
    page.locator("#model option").first.wait_for(state="attached")
    before = heap(page)
    loops = [loop_ms(browser, page)]
    browser.start_tracing(page=page, categories=["toplevel"])
    page.locator("#send").click()
    until(page, "document.getElementById('send').disabled")
    until(page, "!document.getElementById('send').disabled")
    tasks = main_thread_tasks(browser.stop_tracing())
    loops.append(loop_ms(browser, page))
    foot = page.locator(".foot").inner_text()
    assert int(re.findall(r"→ (\d+) tokens", foot)[0]) >= TOKENS, foot
    most = page.evaluate("most")
    told = {"longest_ms": max(tasks), "loop_ms": loops, "heap": heap(page) - before, **most}
    record_property("figures", told)
    assert len(tasks) > 1000
    assert most["events"] <= 26, told  # one says how many are left out
    assert most["nodes"] <= 600, told
    assert max(tasks) <= 20 * max(loops), told  # a page that freezes takes thousands
    assert told["heap"] <= 64 << 20, told
    assert page.evaluate("document.querySelectorAll('#raw li').length") <= 210
    assert page.evaluate("document.querySelectorAll(':not(.markdown *)').length") < 9_000
    page.get_by_text("the inspector").last.wait_for()
