"""The files of a batch on this machine: the requests that go in, the results that come out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import rich_click as click

__all__ = ["first_url", "written"]

LONGEST: Final = 32 << 20  # bytes of a line that are looked at


def first_url(file: Path) -> str:
    """Where the first line of requests wants to go. Raises ``UsageError`` where that is no line of a batch."""
    with file.open("rb") as lines:
        for line in iter(lambda: lines.readline(LONGEST), b""):
            if not line.strip():
                continue
            try:
                url = json.loads(line.decode("utf-8-sig"))["url"]
            except (ValueError, TypeError, KeyError, RecursionError):
                url = None
            if not isinstance(url, str):
                raise click.UsageError(
                    f'{file}: the first line is no JSON object with "custom_id", "method", "url" and "body".'
                )
            return url
    raise click.UsageError(f"{file} has no lines.")


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that is at ``path`` when all of it is there, and not before."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
