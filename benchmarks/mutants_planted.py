"""What planted code imports in place of mutmut's trampolines; ``mutants.py`` puts it beside the code, as ``planted``.

A function stays the one it is, with nothing between it and its callers, or deep recursion and every call would cost
more than they do; to wake a fault is to give its function the fault's code. Beside the faults of a function lies its
first variant, which is none: it says that it was called. What is awake stands in a file, for processes that tests
start as well, few of which see the environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, MethodType

AWAKE, ELSEWHERE = (Path(__file__).with_name(name) for name in ("awake", "called"))
WATCH = "watch"  # awake in place of a fault: all the variants that say that they were called

MutantDict = dict[str, FunctionType | MethodType]
_planted: list[tuple[FunctionType, MutantDict]] = []
_called: set[str] = set()
_watcher = 0  # the process that asks for what was called


def wrap_in_trampoline(variants: MutantDict, is_classmethod: bool = False) -> Callable[[FunctionType], FunctionType]:
    """What decorates each function in planted code; ``variants`` is filled later."""

    def remembered(function: FunctionType) -> FunctionType:
        _planted.append((function, variants))
        return function

    return remembered


def wake(fault: str | None = None) -> None:
    """Wake this fault and no other; at a module's end, the one that is awake elsewhere."""
    global _watcher
    if fault is not None:
        AWAKE.write_text(fault)
        _watcher = os.getpid()
    awake = AWAKE.read_text() if AWAKE.exists() else ""
    for function, variants in _planted:
        module, _, name = awake.rpartition(".")
        if awake == WATCH:
            name = next((name for name in variants if name.endswith("__mutmut_1")), "")
        elif module != function.__globals__["__spec__"].name:  # its __name__ may be __main__
            name = ""
        variant = variants.get(name) or variants.get("_mutmut_orig", function)
        code = variant.__func__ if isinstance(variant, MethodType) else variant
        function.__code__ = code.__code__
        function.__defaults__, function.__kwdefaults__ = code.__defaults__, code.__kwdefaults__


def called() -> None:
    """Said by a function's first variant; in another process than the one that asks, by way of a file."""
    frame = sys._getframe(1)
    name = f"{frame.f_globals['__spec__'].name}.{frame.f_code.co_name.rpartition('__mutmut_')[0]}"
    if os.getpid() == _watcher:
        _called.add(name)
    else:
        with ELSEWHERE.open("a") as file:
            file.write(f"{name}\n")


def taken() -> set[str]:
    """The functions that were called since this was last asked."""
    found = _called | set(ELSEWHERE.read_text().split() if ELSEWHERE.exists() else ())
    _called.clear()
    ELSEWHERE.unlink(missing_ok=True)
    return found
