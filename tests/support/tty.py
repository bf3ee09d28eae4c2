"""A command on a real terminal, as a person uses it: a pseudo-terminal, what is seen, and keys."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.wait import SAFETY

ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78])")


class OnTerminal:
    """A process and its terminal. ``seen`` is all it has written, without what only moves and colours."""

    def __init__(self, process: subprocess.Popen[bytes], leader: int) -> None:
        self.process = process
        self._leader = leader
        self._read = b""
        self._from = 0

    @property
    def seen(self) -> str:
        return ESCAPES.sub("", self._read.decode("utf-8", "replace")).replace("\r", "")

    def expect(self, text: str) -> str:
        """Wait until ``text`` is seen behind what was expected before; what came in between."""
        deadline = time.monotonic() + SAFETY
        while (at := self.seen.find(text, self._from)) < 0:
            assert time.monotonic() < deadline, f"never seen: {text!r} in {self.seen[self._from :]!r}"
            if not self._more():
                raise AssertionError(f"it ended without {text!r}: {self.seen[self._from :]!r}")
        between, self._from = self.seen[self._from : at], at + len(text)
        return between

    def type(self, keys: str) -> None:
        os.write(self._leader, keys.encode())

    def paste(self, text: str) -> None:
        """What a terminal sends for pasted text."""
        self.type(f"\x1b[200~{text}\x1b[201~")

    def wait(self) -> int:
        """Its exit status, all it wrote being read."""
        while self._more():
            pass
        return self.process.wait(SAFETY)

    def _more(self) -> bool:
        """Read what there is; False where nothing comes any more."""
        ready, _, _ = select.select([self._leader], [], [], 0.1)
        if not ready:
            return True
        try:
            piece = os.read(self._leader, 1 << 16)
        except OSError:  # how the end of a terminal is told
            return False
        self._read += piece
        while (asked := self._read.find(b"\x1b[6n")) >= 0:  # where the cursor is: at the beginning of the line
            self._read = self._read[:asked] + self._read[asked + 4 :]
            os.write(self._leader, b"\x1b[1;1R")
        return bool(piece)


@contextmanager
def on_terminal(*arguments: str, home: Path, width: int = 100) -> Iterator[OnTerminal]:
    """``portico`` with these arguments on a terminal of its own; what it keeps lies under ``home``."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "XDG_STATE_HOME": str(home), "HOME": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-m", "portico", *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
    )
    os.close(follower)
    try:
        yield OnTerminal(process, leader)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(SAFETY)
        os.close(leader)
