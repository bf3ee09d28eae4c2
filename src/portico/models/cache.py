"""Where models lie, and how one gets there whole or not at all.

A model is a directory ``<cache>/models/<name>``. It is filled under another name beside it and renamed when complete,
so what stands under its own name is always whole; a file lock keeps two pulls of one model apart.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from portico.models.errors import PullError

__all__ = ["cache_root", "install", "lock", "model_directory", "models_root", "staging"]


def cache_root() -> Path:
    """Portico's cache directory: ``PORTICO_CACHE``, or ``portico`` in ``XDG_CACHE_HOME`` (by default ``~/.cache``)."""
    if own := os.environ.get("PORTICO_CACHE"):
        return Path(own).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification: a relative path there is to be ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "portico"


def models_root() -> Path:
    return cache_root() / "models"


def model_directory(name: str) -> Path:
    """Where the model ``name`` lies once it is pulled; it exists only when it is complete."""
    return models_root() / name


@contextmanager
def lock(name: str, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the right to write the model ``name``; calls ``on_wait`` once if another process has it.

    Raises ``PullError`` when the cache directory cannot be written.
    """
    try:
        models_root().mkdir(parents=True, exist_ok=True)
        file_lock = FileLock(models_root() / f".{name}.lock")
        try:
            file_lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            file_lock.acquire()
    except OSError as error:
        raise PullError(
            f"cannot write to the cache directory {models_root()}: {error.strerror}; set PORTICO_CACHE to another place"
        ) from error
    try:
        yield
    finally:
        file_lock.release()


@contextmanager
def staging(name: str) -> Iterator[Path]:
    """An empty directory on the cache's file system for making the model ``name``; gone afterwards.

    Call under ``lock(name)``: leftovers of a pull that was killed are removed first.
    """
    prefix = f".{name}.partial-"
    for leftover in models_root().glob(f"{prefix}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=models_root()))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def install(name: str, complete: Path) -> Path:
    """Put the directory ``complete`` in place as the model ``name`` and return where it is now."""
    for file in complete.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    target = model_directory(name)
    shutil.rmtree(target, ignore_errors=True)
    complete.replace(target)
    return target
