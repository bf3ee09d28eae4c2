"""The pictures that the README opens with, from real runs: ``docs/terminal.svg``, ten seconds of ``portico chat``, and
``docs/play.png``, the playground with an answer (needs playwright and chromium).

    python examples/pictures.py
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from html import escape
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parents[1] / "docs"
QUESTION = "What is a portico?"
SECONDS = 10.0
WIDTH, LINE, LETTER = 88, 20, 8.43  # columns, pixels, pixels
FONT = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


class Piece(NamedTuple):
    """Text that came at a time, in seconds; ``told`` on standard error."""

    at: float
    text: str
    told: bool


def chatted() -> list[Piece]:
    """What ``portico chat`` wrote, as it came."""
    options = ["--temperature", "0", "--max-tokens", "90"]
    command = [sys.executable, "-m", "portico", "chat", QUESTION, *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stderr is not None
    began, found = 0.0, []
    while data := os.read(process.stdout.fileno(), 4096):
        began = began or time.perf_counter() - 0.8  # the model is loaded; the question stands there for a moment
        found.append(Piece(time.perf_counter() - began, data.decode("utf-8", "ignore"), False))
    found.append(Piece(time.perf_counter() - began, process.stderr.read().decode(), True))
    process.wait()
    return found


def drawn(pieces: list[Piece]) -> str:
    """An SVG in which the text appears as it came."""
    row, column, texts = 1, 0, []
    for at, text, told in pieces:
        for word in re.findall(r"\n|[^\s]+|[^\S\n]+", text.rstrip("\n") if told else text):
            if word == "\n" or column + len(word.rstrip()) > WIDTH:
                row, column = row + 1, 0
            if word.strip():
                place = f'x="{16 + column * LETTER:.1f}" y="{44 + row * LINE}"'
                style = f"animation-delay:{min(at, SECONDS):.2f}s"
                texts.append(
                    f'<text class="{"told" if told else "said"}" {place} style="{style}">{escape(word)}</text>'
                )
            column += len(word) if word != "\n" and (column or word.strip()) else 0
    height, width = 44 + (row + 1) * LINE, 32 + WIDTH * LETTER
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">
<title>portico chat answers a question in a terminal</title>
<style>
  text {{ font: 14px {FONT}; fill: #ebe8e2; white-space: pre; }}
  .said, .told {{ opacity: 0; animation: come 1ms forwards; }}
  .told {{ fill: #a5aab5; }}
  .typed {{ fill: #74d9a3; }}
  @keyframes come {{ to {{ opacity: 1; }} }}
  @media (prefers-reduced-motion: reduce) {{ .said, .told {{ animation: none; opacity: 1; }} }}
</style>
<rect width="100%" height="100%" rx="8" fill="#131519"/>
<text x="16" y="34"><tspan class="typed">$</tspan> portico chat "{escape(QUESTION)}"</text>
{chr(10).join(texts)}
</svg>
"""


def photographed(target: Path) -> None:
    """The playground with an answer and its trace."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "portico", "serve", "--inspect", "--port", "0", "--store", "none"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        url = next(found[0] for line in server.stdout if (found := re.search(r"http://127[^/\s]+", line)))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1400, "height": 820})
            page.goto(f"{url}/play")
            page.locator("#model option").first.wait_for(state="attached")
            page.locator("#max_tokens").fill("80")
            page.locator("#temperature").fill("0")
            page.locator("#message").fill("Give me two reasons to visit Oslo, as a list.")
            page.locator("#send").click()
            page.locator(".foot", has_text="finish").wait_for(timeout=600_000)
            page.locator(".scroller [data-type='Content']").first.click()
            page.wait_for_timeout(1000)
            page.screenshot(path=target)
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    (DOCS / "terminal.svg").write_text(drawn(chatted()), encoding="utf-8")
    photographed(DOCS / "play.png")
