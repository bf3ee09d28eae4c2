"""What the tests of coding agents share: an empty home, nothing within reach but this machine, and a model's calls."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

NOWHERE = "http://127.0.0.1:9"  # nobody is there: what is not on this machine is out of reach


def call(name: str, **arguments: str) -> str:
    """The call as a model of the Hermes family writes it."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"


def run_agent(
    command: Sequence[str], directory: Path, home: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run an agent in ``directory``, with ``home`` and these variables for all that it knows of the world."""
    own = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    proxies = {"HTTPS_PROXY": NOWHERE, "HTTP_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1,localhost"}
    return subprocess.run(
        command,
        cwd=directory,
        env={**own, **proxies, "HOME": str(home), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
