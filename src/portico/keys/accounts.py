"""What every key has in flight and has used, in one table that all processes of a server share, and no other counts.

A row of the table is a key's account: its windows, and how many requests each process has in flight with it. While one
process looks and counts no other may, so limits hold exactly, over however many processes; counting costs a few
microseconds when a request begins and when it ends, and nothing in between. A process begins with nothing in flight, so
what one that was killed had is forgotten.

Tokens are counted when a request goes to its engine, before anybody knows how many they will be: those of the prompt,
and as many as the answer may have where the request says so, else ``ANSWER`` for each choice; never more than the limit
itself, or some requests could never be served. When the answer has ended, what was counted too much is given back where
it was counted; what it took more (which only an answer without a bound can, or one that alone may be more than the
limit) is counted then, and later requests wait for it.

Servers that share a store tell each other now and then what they have counted (``tell``, ``hear``); between two times
they do not know of each other's requests. What a server told outlives it, so that a day's limit does, too.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec

from portico.errors import OverloadedError, RateLimitError
from portico.keys.key import Key
from portico.keys.spans import DAY, MINUTE, Snapshot, Window

__all__ = ["ANSWER", "VISIT", "Accounts", "Reservation", "Standing", "Visit", "table_size"]

ANSWER: Final = 1024  # tokens
ACCOUNTS: Final = 4096

_WORD: Final = 8  # bytes
_NAME: Final = 4  # words: SHA-256 of the owner
_SPANS: Final = (MINUTE, MINUTE, DAY)  # requests, tokens, tokens
_HEAD: Final = 3  # words before the accounts: how many there are, when others were last told, the server's number
_ENDS: Final = [*accumulate((span.words for span in _SPANS), initial=_NAME)]


_TOUCHED, _OTHERS, _OWN = range(_ENDS[-1], _ENDS[-1] + 3)  # what changed; in flight elsewhere, and with each process


def _words(rows: int) -> int:
    """Of one account."""
    return _OWN + rows


def table_size(rows: int) -> int:
    """Bytes of a table for so many processes. Only what is used of it takes memory."""
    return (_HEAD + ACCOUNTS * _words(rows)) * _WORD


class Standing(NamedTuple):
    """How a key stands with one limit: ``reset`` is in how many seconds nothing will be left of what was used."""

    limit: int
    remaining: int
    reset: float


class Told(msgspec.Struct, array_like=True, frozen=True):
    """What a server tells of an account."""

    requests: Snapshot
    tokens: Snapshot
    day: Snapshot
    in_flight: int


class Account:
    """One key's row of the table."""

    def __init__(self, view: memoryview[int]) -> None:
        windows = [Window(view[start:][: span.words], span) for start, span in zip(_ENDS, _SPANS, strict=False)]
        self.name = view[:_NAME].tobytes()
        self.requests, self.tokens, self.day = windows
        self.places = view[_OTHERS:]
        self._touched = view[_TOUCHED : _TOUCHED + 1]

    @property
    def in_flight(self) -> int:
        """How many requests, here and elsewhere."""
        return sum(self.places)

    def touch(self) -> None:
        """Something is counted that others are to be told of."""
        self._touched[0] = 1

    def news(self, now: float) -> bytes | None:
        """What others are to be told, if anything."""
        own = sum(self.places[1:])
        if not self._touched[0] and not own:
            return None
        self._touched[0] = 0
        told = Told(self.requests.snapshot(now), self.tokens.snapshot(now), self.day.snapshot(now), own)
        return msgspec.msgpack.encode(told)

    def hear(self, told: Iterable[bytes], living: Iterable[bytes], now: float) -> None:
        """That is all that others have counted; those that are ``living`` have requests in flight, too."""
        all_told = [_read(one) for one in told]
        self.requests.hear([one.requests for one in all_told], now)
        self.tokens.hear([one.tokens for one in all_told], now)
        self.day.hear([one.day for one in all_told], now)
        self.places[0] = sum(_read(one).in_flight for one in living)


def _read(told: bytes) -> Told:
    return msgspec.msgpack.decode(told, type=Told)


class Accounts:
    """One process's view of the table; it counts what is in flight in ``row``. Without ``memory`` there is no other.

    ``lock`` is held while it looks and counts. ``clock`` gives unix seconds.
    """

    def __init__(
        self,
        memory: mmap.mmap | None = None,
        rows: int = 1,
        row: int = 0,
        lock: Callable[[], AbstractContextManager[object]] = nullcontext,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.lock = lock
        self.clock = clock
        self.place = 1 + row
        self._words = _words(rows)
        self._view = memoryview(memory or mmap.mmap(-1, table_size(rows))).cast("q")
        self._known: dict[bytes, Account] = {}
        with lock():
            self._view[2] = self._view[2] or secrets.randbits(62)
            for account in self.all():
                account.places[self.place] = 0
                account.touch()
        self.server = f"{self._view[2]:x}"  # what others know it by

    def visit(self, key: Key, *, later: bool = False) -> Visit:
        """A request with that key, of which nothing is counted yet. One that is to be answered ``later`` takes no
        place, and of the limits only the day's counts."""
        return Visit(self, key, later)

    def of(self, owner: str) -> Account:
        """The account of that owner; the lock must be held. Raises ``OverloadedError`` where there is no room."""
        return self._named(hashlib.sha256(owner.encode()).digest())

    def _named(self, name: bytes) -> Account:
        if name not in self._known and not any(account.name == name for account in self.all()):
            count = self._view[0]
            if count == ACCOUNTS:
                raise OverloadedError("More API keys are in use than this server can count; restart it.")
            self._row(count)[:_NAME] = memoryview(name).cast("q")
            self._view[0] = count + 1
            list(self.all())
        return self._known[name]

    def all(self) -> Iterator[Account]:
        """Every account; the lock must be held."""
        for index in range(len(self._known), self._view[0]):
            account = Account(self._row(index))
            self._known[account.name] = account
        yield from self._known.values()

    def tell(self) -> dict[str, bytes]:
        """What others are to be told, by the names of accounts."""
        with self.lock():
            now = self.clock()
            told = {account.name.hex(): account.news(now) for account in self.all()}
        return {name: news for name, news in told.items() if news is not None}

    def untold(self, names: Iterable[str]) -> None:
        """Others could not be told of these: they are to be told again."""
        with self.lock():
            for name in names:
                self._named(bytes.fromhex(name)).touch()

    def hear(self, name: str, told: Iterable[bytes], living: Iterable[bytes]) -> None:
        """See ``Account.hear``. Raises ``OverloadedError``."""
        with self.lock():
            self._named(bytes.fromhex(name)).hear(told, living, self.clock())

    def turn(self, seconds: float) -> bool:
        """Whether it is this process that settles with others now: some process does, every so many seconds."""
        now = int(self.clock() * 1000)
        with self.lock():
            if 0 <= now - self._view[1] < seconds * 1000:
                return False
            self._view[1] = now
            return True

    def _row(self, index: int) -> memoryview[int]:
        return self._view[_HEAD + index * self._words :][: self._words]


class Visit:
    """One request with a key."""

    def __init__(self, accounts: Accounts, key: Key, later: bool) -> None:
        self._accounts = accounts
        self._key = key
        self._later = later
        self._account: Account | None = None  # once it is counted
        self._slot = 0
        self._reserved = 0

    def enter(self, most: int | None) -> None:
        """Take a place, of ``most``, and count a request. Raises ``RateLimitError``; then nothing is counted."""
        key, accounts = self._key, self._accounts
        bounds = [bound for bound in (most, key.in_flight) if bound is not None]
        if not bounds and not key.requests_per_minute and not self._limits:
            return
        with accounts.lock():
            account, now = accounts.of(key.owner), accounts.clock()
            if bounds and account.in_flight >= min(bounds):
                raise RateLimitError(
                    f"At most {min(bounds)} requests may be in flight with one API key; try again.", retry_after=1
                )
            if key.requests_per_minute:
                self._must_fit(account.requests, key.requests_per_minute, 1, now, "requests per minute")
            for window, limit, unit in self._windows(account):
                self._must_fit(window, limit, 1, now, unit)
            account.places[accounts.place] += 1
            self._slot = account.requests.add(1, now)
            account.touch()
            self._account = account

    def leave(self) -> None:
        """The request is over. If nothing of it went to an engine, it does not count."""
        if self._account is None:
            return
        with self._accounts.lock():
            self._account.places[self._accounts.place] -= 1
            self._account.touch()
            if not self._reserved:
                self._account.requests.correct(-1, self._slot, self._accounts.clock())
        self._account = None

    def reserve(self, prompt: int, answer: int) -> Reservation:
        """Count these tokens, before an engine gets them. Raises ``RateLimitError``, and counts nothing then."""
        found = Reservation(self)
        if self._limits:
            accounts = self._accounts
            with accounts.lock():
                now = accounts.clock()
                account = accounts.of(self._key.owner)
                windows = list(self._windows(account))
                for window, limit, unit in windows:
                    if prompt > limit:
                        raise RateLimitError(
                            f"The prompt has {prompt} tokens; with this API key {limit} {unit} may be used. Shorten it."
                        )
                    self._must_fit(window, limit, min(prompt + answer, limit), now, unit)
                for window, limit, _ in windows:
                    amount = min(prompt + answer, limit)
                    found.counted.append((window, amount, window.add(amount, now)))
                account.touch()
        self._reserved += 1
        return found

    def settle(self, reservation: Reservation, tokens: int) -> None:
        """So many tokens were used of what was counted."""
        if reservation.counted:
            with self._accounts.lock():
                now = self._accounts.clock()
                self._accounts.of(self._key.owner).touch()
                for window, amount, slot in reservation.counted:
                    if tokens < amount:
                        window.correct(tokens - amount, slot, now)
                    else:
                        window.add(tokens - amount, now)

    def cancel(self, reservation: Reservation) -> None:
        """No engine has taken it."""
        self.settle(reservation, 0)
        self._reserved -= 1

    def standing(self) -> tuple[Standing | None, Standing | None]:
        """How the key stands with requests, and with tokens: of its two limits of these the one with less left."""
        key, accounts = self._key, self._accounts
        if self._later or not (key.requests_per_minute or self._limits):
            return None, None
        with accounts.lock():
            account, now = accounts.of(key.owner), accounts.clock()
            requests = None
            if key.requests_per_minute:
                requests = _standing(account.requests, key.requests_per_minute, now)
            tokens = [_standing(window, limit, now) for window, limit, _ in self._windows(account)]
        return requests, min(tokens, key=lambda one: one.remaining, default=None)

    @property
    def _limits(self) -> bool:
        """Whether its tokens are counted."""
        return bool(self._key.tokens_per_day or (self._key.tokens_per_minute and not self._later))

    def _windows(self, account: Account) -> Iterator[tuple[Window, int, str]]:
        """The windows in which its tokens are counted, with their limits."""
        key = self._key
        if key.tokens_per_minute and not self._later:
            yield account.tokens, key.tokens_per_minute, "tokens per minute"
        if key.tokens_per_day:
            yield account.day, key.tokens_per_day, "tokens per day"

    def _must_fit(self, window: Window, limit: int, amount: int, now: float, unit: str) -> None:
        used = window.total(now)
        if used + amount <= limit:
            return
        seconds = max(1, math.ceil(window.wait(limit - amount, now)))
        raise RateLimitError(
            f"The limit of this API key is {limit} {unit}: {used} are used and {amount} asked for. "
            f"Try again in {seconds} s.",
            retry_after=seconds,
        )


class Reservation:
    """Tokens that are counted for a flight until it is known how many they are."""

    def __init__(self, visit: Visit) -> None:
        self.counted: list[tuple[Window, int, int]] = []  # a window, how many, in which slot
        self._visit: Visit | None = visit

    def settle(self, tokens: int) -> None:
        """So many were used. Only the first word counts."""
        if self._visit is not None:
            self._visit.settle(self, tokens)
            self._visit = None

    def cancel(self) -> None:
        """No engine has taken it: nothing was used."""
        if self._visit is not None:
            self._visit.cancel(self)
            self._visit = None


def _standing(window: Window, limit: int, now: float) -> Standing:
    return Standing(limit, max(0, limit - window.total(now)), window.wait(0, now))


VISIT: ContextVar[Visit | None] = ContextVar("visit", default=None)  # what this task works for
