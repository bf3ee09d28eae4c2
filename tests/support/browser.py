"""A real browser for tests: Debian's chromium driven by playwright, and every page watched while it is used.

A page that logs an error, breaks in a script, misses a file of its own or asks another host for anything fails its
test, whatever the test was about. Pictures go to ``$PORTICO_ARTIFACTS``, where that is set.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from support.js import PACKAGE
from support.wait import SAFETY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
REFUSED = "Failed to load resource: the server responded with a status of 4"  # the network's report, not an error

OpenPage = Callable[..., "Page"]


def until(page: Page, script: str, argument: Any = None) -> None:
    """Wait until ``script`` is true in the page. Playwright's own way runs text as code later, which the pages'
    policy forbids."""
    deadline = time.monotonic() + SAFETY
    while not page.evaluate(script, argument):
        assert time.monotonic() < deadline, f"never true: {script} of {argument!r}"
        page.wait_for_timeout(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Of one module, because playwright keeps the thread's event loop running, which async tests need."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: pip install playwright")
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("chromium is needed for the pages: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """What the pages of a module share: their scripts are fetched and compiled once, which is half of opening one."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(SAFETY * 1000)
    yield context
    context.close()


@pytest.fixture(scope="module")
def forget(context: BrowserContext) -> Callable[[str], None]:
    """``forget(origin)``: nothing is remembered that its pages have kept, once they are closed."""
    session = context.new_cdp_session(context.new_page())
    return lambda origin: session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})


@pytest.fixture
def open_page(context: BrowserContext, forget: Callable[[str], None]) -> Iterator[OpenPage]:
    """``open_page(url, width=1280, height=800, dark=False)``: the page, in a browser that remembers nothing of other
    tests."""
    pages, origins, complaints = [], set(), []

    def open_(url: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> Page:
        where = urlsplit(url)
        origins.add(f"{where.scheme}://{where.netloc}")

        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and not message.text.startswith(REFUSED):
                complaints.append(f"{message.type}: {message.text}")

        def asked(request: Request) -> None:
            if urlsplit(request.url).netloc not in (where.netloc, ""):
                complaints.append(f"another host: {request.url}")

        def answered(response: Response) -> None:
            if response.status >= 400 and "/assets/" in response.url:
                complaints.append(f"missing: {response.url}")

        page = context.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
        page.on("request", asked)
        page.on("response", answered)
        page.goto(url)
        return page

    yield open_
    for page in pages:
        page.close()
    for origin in origins:
        forget(origin)
    assert not complaints, "\n".join(complaints)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go."""
    wanted = os.environ.get("PORTICO_ARTIFACTS")
    folder = Path(wanted) if wanted else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def violations(js: Any) -> Callable[[Page], list[str]]:
    """``violations(page)``: what the axe accessibility checker finds wrong by WCAG 2.2 A and AA and its own advice."""
    source = (PACKAGE / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")

    def check(page: Page) -> list[str]:
        page.evaluate(source)
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{found['id']}: {node['html'][:300]}\n{node['failureSummary']}"
            for found in result["violations"]
            for node in found["nodes"]
        ]

    return check


def main_thread_tasks(trace: bytes) -> list[float]:
    """Milliseconds of processor time that each task of the page's main thread took; waiting for a processor is none."""
    events = json.loads(trace)["traceEvents"]
    main = {(one["pid"], one["tid"]) for one in events if one.get("args", {}).get("name") == "CrRendererMain"}
    return [one["tdur"] / 1000 for one in events if (one["pid"], one["tid"]) in main and "tdur" in one]


def heap(page: Page) -> float:
    """Bytes of the page's objects, garbage left out."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used: float = session.send("Runtime.getHeapUsage")["usedSize"]
    return used
