"""Every page in a second browser engine: it does its work there too, within any window, and axe finds nothing."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from support.batches import chat_line, create, wait_for
from support.firefox import firefox
from support.js import PACKAGE
from support.pages import ANSWERS, PARSERS, WEATHER, ask
from support.replay import replaying

pytestmark = pytest.mark.slow

WIDTHS = (320, 390, 1440)
PLAY = """
    document.getElementById('message').value = 'Weather in Köln? [[call]]';
    document.getElementById('sample-tools').click();
    document.getElementById('send').click();
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_page_works_in_firefox(tmp_path: Path, pictures: Path, js: object, dark: bool) -> None:
    axe = (PACKAGE / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    with (
        firefox(tmp_path, dark=dark) as browser,
        replaying(ANSWERS, inspect=True, store=str(tmp_path / "a.db"), **PARSERS) as server,
    ):
        with httpx.Client(base_url=server.url, timeout=600) as client:
            batch = wait_for(client, create(client, [chat_line("a", "[[plain]]")]))["id"]
        one, two = ask(server, "call", tools=[WEATHER]), ask(server, "plain")
        pages = {
            "inspect": (f"/inspect#{one}", "document.querySelector('.scroller .box')"),
            "compared": (f"/inspect#{one}..{two}", "document.querySelector('#compared table')"),
            "batches": (f"/batches#{batch}", "document.querySelector('dl.figures')?.innerText.includes('1')"),
            "play": ("/play", "document.querySelector('#model option')"),
        }
        for name, (path, there) in pages.items():
            for width in WIDTHS:
                browser.open("about:blank")
                browser.open(server.url + path, width=width, height=900)
                browser.until(there)
                if name == "play":
                    browser.run(PLAY)
                    browser.until("document.querySelector('.results') && document.querySelector('.scroller .box')")
                    said = browser.run("return document.querySelector('.call pre').textContent;")
                    assert "Köln 🐌" in said
                assert browser.run("return document.documentElement.scrollWidth;") <= width, (name, width)
                browser.picture(pictures / f"firefox-{name}-{width}-{'dark' if dark else 'light'}.png")
            light = browser.run("return matchMedia('(prefers-color-scheme: light)').matches;")
            assert light is not dark
            browser.load(axe)
            found = browser.run("return (await axe.run(document, {resultTypes: ['violations']})).violations;")
            assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found] == [], name
        assert browser.complaints == []
