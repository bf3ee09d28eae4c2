"""How SQL is run: in a few threads, in transactions, and faults told as ``StoreError``.

A *work* is a function of a connection. Those that write and come together share a transaction (``together``); where one
of them raises, nothing of it is kept, and each has one of its own. They take the write lock of SQLite when they begin:
a transaction that reads first and then finds that it cannot write would have to be done again. A connection that turns
out to be lost before the work was done is made anew, once; whether a commit arrived is never guessed.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeAlias, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from portico.errors import OverloadedError
from portico.store.faults import busy, fault, is_lost, lost, spoken
from portico.threads import Threads

__all__ = ["Database"]

log = logging.getLogger("portico")

READERS: Final = 2
CONNECTIONS: Final = READERS + 2  # kept: one that writes, and one for what this process does beside
ENDINGS: Final = 1 << 14  # writes that may wait: whatever a server has under way may end at once, and is to be kept
REST: Final = 1.0  # seconds for which a database that could not be reached is not tried again

Work: TypeAlias = Callable[[Connection], Any]
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Database:
    """One database: a ``Path`` is SQLite's, a URL is PostgreSQL's. Nothing is opened before the first work."""

    def __init__(self, where: Path | URL, patience: float) -> None:
        """``patience``: seconds to wait for a lock that another process holds, and for a connection."""
        self.where = where
        self.patience = patience
        engine = _sqlite(where, patience) if isinstance(where, Path) else _postgresql(where, patience)
        self._engine = engine
        self._reader = engine if isinstance(where, Path) else engine.execution_options(isolation_level="AUTOCOMMIT")
        self._reading = Threads("store reading", READERS)
        self._writing = Threads("store writing", 1, waiting=ENDINGS, together=self._all)
        self._held: Connection | None = None  # who writes leaves it open for the next who does
        self._holding = threading.Lock()
        self._closings = 0
        self._rests = 0.0  # until when it is not tried again, in the clock's time
        self._fault = ""  # what the log was told last

    async def read(
        self,
        work: Callable[Concatenate[Connection, Parameters], Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """What ``work`` returns, which only reads. Raises ``StoreError``."""
        asked = partial(self._do, self._reader.begin, partial(_with, work, args, kwargs))
        return await self._waited(self._reading.run(asked))

    async def write(
        self,
        work: Callable[Concatenate[Connection, Parameters], Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """What ``work`` returns, once what it wrote is committed. Raises ``StoreError``."""
        return await self._waited(self._writing.run(partial(_with, work, args, kwargs)))

    @staticmethod
    async def _waited(result: Awaitable[Result]) -> Result:
        try:
            return await result
        except OverloadedError:
            raise busy() from None

    def now(self, work: Callable[[Connection], Result]) -> Result:
        """As ``write``, in this thread: for commands, and for what comes before all else."""
        return self._do(self._to_write, work)

    def outside(self, work: Callable[[Connection], Result]) -> Result:
        """In this thread, without a transaction and the write lock: for readings, and what databases do in none."""
        return self._do(self._reader.begin, work)

    @property
    def shown(self) -> str:
        """Where it is, for people: without the password, which may stand in the query, too."""
        return (
            str(self.where) if isinstance(self.where, Path) else str(self.where.set(drivername="postgresql", query={}))
        )

    def close(self) -> None:
        """Let go of every connection."""
        with self._holding:
            held, self._held = self._held, None
            self._closings += 1
        if held is not None:
            held.close()
        self._engine.dispose()

    def _all(self, works: Sequence[Work]) -> Sequence[Any]:
        """What these return or raise, once what they wrote is committed."""
        inside = False

        def in_one(connection: Connection) -> list[Any]:
            nonlocal inside
            inside = True
            results = [work(connection) for work in works]
            inside = False
            return results

        try:
            return self._do(self._to_write, in_one)
        except Exception as error:
            if len(works) == 1 or not inside:  # it could not begin, or not be committed
                return [error] * len(works)
        return [self._all([work])[0] for work in works]

    @contextmanager
    def _to_write(self) -> Iterator[Connection]:
        """A transaction that writes, on the connection of the one before: to have it from the pool each time costs
        more than to insert a row."""
        with self._holding:
            held, self._held = self._held, None
            closings = self._closings
        if held is not None and (lite := _lite(held)) is not None and lite.is_stale:
            held.close()
            held = None
        connection = self._engine.connect() if held is None else held
        try:
            with connection.begin():
                if (lite := _lite(connection)) is not None:
                    lite.execute("BEGIN IMMEDIATE")
                yield connection
        except BaseException:
            connection.close()
            raise
        with self._holding:
            spare: Connection | None = connection
            if closings == self._closings:  # none was let go of meanwhile
                spare, self._held = self._held, connection  # where two threads have written side by side
        if spare is not None:
            spare.close()

    def _do(
        self, transaction: Callable[[], AbstractContextManager[Connection]], work: Callable[[Connection], Result]
    ) -> Result:
        if time.monotonic() < self._rests:
            raise lost()
        again = True
        while True:
            done = connected = False
            try:
                with transaction() as connection:
                    connected = True
                    result = work(connection)
                    done = True
            except (SQLAlchemyError, sqlite3.Error) as error:
                if again and not done and isinstance(error, DBAPIError) and error.connection_invalidated:
                    again = False
                    continue
                if not connected and is_lost(error):
                    self._rests = time.monotonic() + REST
                if (said := spoken(error)) != self._fault:
                    self._fault = said
                    log.error("the store: %s", said)
                raise fault(error) from error
            if self._fault:
                self._fault = ""
                log.warning("the store is back")
            return result


def _with(work: Callable[..., Result], args: Any, kwargs: Any, connection: Connection) -> Result:
    return work(connection, *args, **kwargs)


def _sqlite(path: Path, patience: float) -> Engine:
    """Connections to the file, which must exist: one that was removed is not silently begun anew."""
    uri = f"file:{quote(str(path.absolute()))}?mode=rw"

    def opened() -> _Connection:
        file = _identity(path)  # before it is opened: what is put in its place meanwhile is another
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=patience,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            factory=_Connection,
        )
        connection.path, connection.file = path, file
        return connection

    engine = create_engine(
        "sqlite://",
        paramstyle="named",
        creator=opened,
        poolclass=QueuePool,
        pool_size=CONNECTIONS,
        max_overflow=4,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def connected(connection: _Connection, record: Any) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a commit outlives a power cut, too

    @event.listens_for(engine, "checkout")
    def taken(connection: _Connection, record: Any, proxy: Any) -> None:
        if connection.is_stale:
            raise DisconnectionError("the file was removed or replaced")

    return engine


class _Connection(sqlite3.Connection):
    """Knows which file it was opened on."""

    path: Path
    file: tuple[int, int] | None

    @property
    def is_stale(self) -> bool:
        """Whether the file was removed or replaced: SQLite would go on with one that has no name any more."""
        return self.file != _identity(self.path)

    def close(self) -> None:
        """Close it; if another file lies in the place of its own it stays open.

        The last to close a file removes its journal, by name: by then the journal of that other file.
        """
        if self.is_stale:
            _LEFT_OPEN.append(self)
        else:
            super().close()


_LEFT_OPEN: Final[list[_Connection]] = []


def _lite(connection: Connection) -> _Connection | None:
    """SQLite's own connection, where it is one of those."""
    driver = connection.connection.driver_connection
    return driver if isinstance(driver, _Connection) else None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _postgresql(url: URL, patience: float) -> Engine:
    return create_engine(
        url,
        pool_size=CONNECTIONS,
        max_overflow=4,
        hide_parameters=True,
        connect_args={
            "connect_timeout": max(2, round(patience)),
            "application_name": "portico",
            "tcp_user_timeout": max(2000, round(patience * 1000)),
            **({} if "options" in url.query else {"options": f"-c lock_timeout={round(patience * 1000)}"}),
        },
    )
