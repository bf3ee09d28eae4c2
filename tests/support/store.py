"""Real databases for tests: SQLite's file, and Debian's own PostgreSQL on a free port, always stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.wait import SAFETY

__all__ = ["Postgres", "postgres"]

USER = "postgres"  # made by Debian's package; the server refuses to be root's


def _programs() -> Path | None:
    """Where PostgreSQL's programs are, the newest version's; Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    return Path(elsewhere).resolve().parent if elsewhere else None


class Postgres:
    """A server that can be stopped hard, and started again over the same data."""

    def __init__(self, directory: Path, programs: Path) -> None:
        self.directory = directory
        self.programs = programs
        self.user = USER if os.getuid() == 0 else None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        if self.user:
            shutil.chown(directory, self.user)
        self._run("initdb", "-D", directory / "data", "-U", "portico", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://portico:a-secret@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Returns when it takes connections."""
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "off"}
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.directory / "data"]
                + [f"-c{name}={value}" for name, value in options.items()],
                user=self.user,
                cwd=self.directory,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + SAFETY
        while subprocess.run([self.programs / "pg_isready", "-q", "-h127.0.0.1", f"-p{self.port}"]).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.directory / "log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """As a crash would: every connection is cut."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(SAFETY)
            self._process = None

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        import psycopg

        name = f"test_{os.urandom(6).hex()}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]  # a name, not a value
        return self.url(name)

    def _run(self, program: str, *arguments: str | Path) -> None:
        subprocess.run([self.programs / program, *arguments], user=self.user, check=True, capture_output=True, cwd="/")


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server of its own, until the block ends. Skips the test where PostgreSQL is not installed."""
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed")
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    directory = Path(tempfile.mkdtemp(prefix="portico-postgres-"))
    try:
        server = Postgres(directory, programs)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that the tests of a session share, each with a database of its own."""
    with running_postgres() as server:
        yield server
