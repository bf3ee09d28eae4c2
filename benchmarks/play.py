"""How smooth the playground stays under a long answer: the tasks of its main thread, at a steady pace.

    python benchmarks/play.py [--text mixed] [--tokens 20000] [--rate 200] [--json]

A page in Debian's Chromium, and in it an answer of so many tokens of Markdown, ``rate`` a second: a bit of all that
there is, or nothing but one paragraph, listing, list or table. Told are the tasks that took longer than 50 ms, by the
browser's own count (time, in which other processes may have run) and in processor time, beside those of an empty page
over the same time; what the page's objects take after it, and how many nodes it has. The answer has its trace below
it, as everywhere in the playground.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.browser import ARGUMENTS, heap, main_thread_tasks
from support.pages import MIXED, PARSERS
from support.replay import replaying

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LONG = 50.0  # milliseconds
WATCH = """
    window.long = [];
    new PerformanceObserver((seen) => long.push(...seen.getEntries().map((one) => one.duration)))
        .observe({ entryTypes: ['longtask'] });
"""
TEXTS = {  # what it begins with, and what comes again and again
    "mixed": ("", MIXED),
    "paragraph": ("", "word **and** `word` "),
    "listing": ("```python\n", "value = compute(1, 'two')  # why\n"),
    "list": ("", "- an item with **weight** in it\n"),
    "table": ("| a | b |\n|---|---|\n", "| some | words |\n"),
}
STEP = 3  # tokens that the tests' server gives at a time


def watched(browser: Browser, page: Page, wait: Any) -> dict[str, Any]:
    """The tasks while ``wait`` waits."""
    page.evaluate("long.length = 0")
    browser.start_tracing(page=page, categories=["toplevel"])
    wait()
    cpu = main_thread_tasks(browser.stop_tracing())
    time = page.evaluate("long")
    return {
        "tasks": len(cpu),
        "longest_cpu_ms": round(max(cpu, default=0.0), 1),
        "over_50_ms_cpu": sum(one > LONG for one in cpu),
        "longest_ms": round(max(time, default=0.0), 1),
        "over_50_ms": len(time),
    }


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Both pages' figures."""
    from playwright.sync_api import sync_playwright

    beginning, part = TEXTS[given.text]
    answer = beginning + part * -(-given.tokens // len(part))  # a character is a token of the tests' tiny model
    seconds = given.tokens / given.rate
    with (
        replaying({"text": answer}, inspect=True, interval=STEP / given.rate, **PARSERS) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(0)
        page.add_init_script(WATCH)
        page.goto("about:blank")
        page.evaluate(WATCH)
        nothing = watched(browser, page, lambda: page.wait_for_timeout(min(seconds, 20) * 1000))
        page.goto(server.url + "/play")
        page.locator("#model option").first.wait_for(state="attached")
        before = heap(page)

        def answered() -> None:
            page.locator("#send").click()
            for state in ("", "!"):
                while not page.evaluate(f"{state}document.getElementById('send').disabled"):
                    page.wait_for_timeout(100)

        found = watched(browser, page, answered)
        found["heap_mb"] = round((heap(page) - before) / 1e6, 1)
        found["nodes"] = page.evaluate("document.querySelectorAll('*').length")
        found["told"] = page.locator(".foot").inner_text()
        browser.close()
    return {"answer": found, "empty page": nothing}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", choices=TEXTS, default="mixed")
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=200.0, help="tokens a second")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = measure(given)
    if given.json:
        print(json.dumps(found))
        return
    for name, figures in found.items():
        print(name, ", ".join(f"{key} {value}" for key, value in figures.items()), sep=": ")


if __name__ == "__main__":
    main()
