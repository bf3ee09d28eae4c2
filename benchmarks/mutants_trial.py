"""What ``mutants.py`` runs over a copy of the checkout in which all faults of a box are planted, each of them asleep.

    python mutants_trial.py FAULTS TOLD TEST…     (FAULTS: JSON list of names; TOLD: gets a JSON line per fault)

The tests are collected once and run whole once, to learn which come by which function and how long they take. Then,
for each fault, a fork of this process wakes it and runs the tests that come by until one fails, the quickest first.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from weakref import WeakKeyDictionary

import planted
import pytest
from _pytest.runner import runtestprotocol

from portico.constraints.cache import BoundedCache

OURS = ("portico", "support", "tests")
PLUGINS = ("pytest_asyncio.plugin", "_hypothesis_pytestplugin")  # no others: each costs time


class Trial:
    """A pytest plugin that runs this in place of the tests."""

    def __init__(self, faults: list[str], told: Path) -> None:
        self._faults, self._told = faults, told
        self._forget: list[Callable[[], object]] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed:
            return None  # not all could be collected, as pytest will say
        took: dict[pytest.Item, tuple[float, float]] = {}  # seconds of the processor, and of the wall
        tests: dict[str, list[pytest.Item]] = defaultdict(list)
        planted.wake(planted.WATCH)
        for item, failure, *seconds in _run(session.items):
            if failure:
                pytest.exit(f"{item.nodeid} fails before anything is awake:\n{failure}", 1)
            took[item] = (seconds[0], seconds[1])
            for function in planted.taken():
                tests[function].append(item)
        planted.wake("")
        gc.collect()
        self._forget = _kept()
        gc.freeze()
        for fault in self._faults:
            items = _ordered({item: took[item] for item in tests[fault.partition("__mutmut_")[0]]})
            limits = [sum(each) for each in zip(*(took[item] for item in items), strict=True)]
            outcome = self._tried(fault, items, *limits) if items else "no test"
            with self._told.open("a") as file:
                file.write(json.dumps([fault, outcome]) + "\n")
        return True

    def _tried(self, fault: str, items: list[pytest.Item], processor: float, wall: float) -> str:
        child = os.fork()
        if not child:
            limit = int(time.process_time() + 3 * processor + 5)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            planted.wake(fault)
            for forget in self._forget:
                forget()
            os._exit(any(failure for _, failure, *_ in _run(items)))
        until = time.monotonic() + 3 * wall + 10
        while time.monotonic() < until:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return "survived" if code == 0 else "seen" if code == 1 else "too long"
            time.sleep(0.02)
        os.kill(child, 9)
        os.waitpid(child, 0)
        return "too long"


def _run(items: Iterable[pytest.Item]) -> Iterator[tuple[pytest.Item, str, float, float]]:
    """Run tests one by one: what failed of each, and its seconds of the processor and of the wall."""
    items = list(items)
    for item, following in zip_longest(items, items[1:]):
        began = time.process_time(), time.monotonic()
        reports = runtestprotocol(item, log=False, nextitem=following)
        failure = "\n".join(report.longreprtext for report in reports if report.failed)
        yield item, failure, time.process_time() - began[0], time.monotonic() - began[1]


def _ordered(took: dict[pytest.Item, tuple[float, float]]) -> list[pytest.Item]:
    """Quick tests first, where each further example of a test function counts as if it took longer."""
    examples: Counter[str] = Counter()
    weights = {}
    for item, (_, wall) in sorted(took.items(), key=lambda pair: pair[1]):
        function = item.nodeid.partition("[")[0]
        examples[function] += 1
        weights[item] = wall * examples[function]
    return sorted(weights, key=weights.__getitem__)


def _kept() -> list[Callable[[], object]]:
    """What empties the caches of Portico and of its tests: those of functions, those that objects keep of themselves,
    and what is remembered between requests."""
    found: list[Callable[[], object]] = []
    for one in gc.get_objects():
        kind = type(one)
        if kind is functools._lru_cache_wrapper and str(getattr(one, "__module__", "")).startswith(OURS):
            found.append(one.cache_clear)
        elif kind is BoundedCache:
            found.append(functools.partial(one.__init__, one.entries, one.size))
        elif str(kind.__module__).startswith(OURS) and hasattr(one, "__dict__"):
            kept = [name for name in vars(one) if isinstance(getattr(kind, name, None), functools.cached_property)]
            found += [functools.partial(vars(one).pop, name, None) for name in kept]
    modules = [module for name, module in sys.modules.items() if name.startswith(OURS)]
    every = [one for module in modules for one in vars(module).values() if isinstance(one, WeakKeyDictionary)]
    return [*found, *(one.clear for one in every)]


if __name__ == "__main__":
    faults, told, *tests = sys.argv[1:]
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    options = [word for name in PLUGINS for word in ("-p", name)]
    trial = Trial(json.loads(Path(faults).read_text()), Path(told))
    sys.exit(pytest.main([*options, "-p", "no:cacheprovider", "--rootdir=.", "-o", "timeout=0", *tests], [trial]))
