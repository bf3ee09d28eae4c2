"""A second browser engine for tests: Debian's Firefox, which speaks WebDriver BiDi by itself; no driver is needed.

Playwright drives only a Firefox of its own. What the pages must do everywhere is little enough for the few commands
below. A page that logs an error or breaks in a script is reported, as ``support.browser`` has it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from support.wait import SAFETY

PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "messaging-system.rsexperimentloader.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "remote.active-protocols": 1,
    "services.settings.server": "data:,#none",
    "toolkit.telemetry.enabled": False,
    "ui.prefersReducedMotion": 1,
}


class Firefox:
    """A browser with one page. ``complaints`` is what its pages logged as errors."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = count(1)
        self.complaints: list[str] = []
        self._call("session.new", capabilities={})
        self._call("session.subscribe", events=["log.entryAdded"])
        self._page = self._call("browsingContext.getTree")["contexts"][0]["context"]

    def open(self, url: str, *, width: int = 1280, height: int = 800) -> None:
        viewport = {"width": width, "height": height}
        self._call("browsingContext.setViewport", context=self._page, viewport=viewport)
        self._call("browsingContext.navigate", context=self._page, url=url, wait="complete")

    def run(self, script: str) -> Any:
        """The value of a function body in the page, by way of JSON."""
        target = {"context": self._page}
        function = f"async () => JSON.stringify(await (async () => {{ {script} }})() ?? null)"
        found = self._call("script.callFunction", functionDeclaration=function, target=target, awaitPromise=True)
        assert found["type"] == "success", found.get("exceptionDetails", found)
        return json.loads(found["result"]["value"])

    def load(self, script: str) -> None:
        """Run a whole script in the page, for what it defines."""
        expression = {"expression": script, "target": {"context": self._page}, "awaitPromise": False}
        assert self._call("script.evaluate", **expression)["type"] == "success"

    def until(self, condition: str) -> None:
        """Wait until an expression is true in the page."""
        deadline = time.monotonic() + SAFETY
        while not self.run(f"return Boolean({condition});"):
            assert time.monotonic() < deadline, f"never true: {condition}"
            time.sleep(0.05)

    def picture(self, file: Path) -> None:
        shown = self._call("browsingContext.captureScreenshot", context=self._page)["data"]
        file.write_bytes(base64.b64decode(shown))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=SAFETY))
            if message.get("method") == "log.entryAdded" and message["params"]["level"] == "error":
                self.complaints.append(str(message["params"].get("text")))
            if message.get("id") == number:
                assert message["type"] == "success", message
                found: dict[str, Any] = message["result"]
                return found


@contextmanager
def firefox(directory: Path, *, dark: bool = False) -> Iterator[Firefox]:
    """Firefox with a new profile in ``directory``; skips where there is none."""
    executable = shutil.which("firefox-esr") or shutil.which("firefox")
    if executable is None:
        pytest.skip("Firefox is the second browser that pages are tried in: apt-get install firefox-esr")
    profile = directory / "profile"
    profile.mkdir(parents=True)
    preferences = {**PREFERENCES, "layout.css.prefers-color-scheme.content-override": 0 if dark else 1}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in preferences.items()]
    (profile / "user.js").write_text("\n".join(lines) + "\n")
    log = directory / "firefox.log"
    command = [executable, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    with log.open("wb") as output:
        home = {**os.environ, "HOME": str(directory)}  # it wants one that is its user's own
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=home)
    try:
        deadline = time.monotonic() + SAFETY
        while not (found := re.search(r"WebDriver BiDi listening on (ws://\S+)", log.read_text(errors="replace"))):
            if process.poll() is not None:
                pytest.skip(f"Firefox does not start here: {log.read_text(errors='replace')[-300:]}")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.05)
        with connect(f"{found[1]}/session", max_size=None, compression=None, open_timeout=SAFETY) as socket:
            yield Firefox(socket)
    finally:
        process.terminate()
        process.wait(SAFETY)
