"""Models that are split over several files: ``name-00001-of-00003.gguf``. llama.cpp opens all of them by the first."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TypeVar

__all__ = ["parts", "stem"]

_PART = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})")

AnyPath = TypeVar("AnyPath", bound=PurePath)


def parts(path: AnyPath) -> list[AnyPath]:
    """All files that belong to this one, the first first; itself where it is no part."""
    if (part := _PART.fullmatch(path.stem)) is None:
        return [path]
    count = int(part["count"])
    return [path.with_name(f"{part['stem']}-{number:05}-of-{count:05}{path.suffix}") for number in range(1, count + 1)]


def stem(path: PurePath) -> str:
    """The file's stem, without the number of a part."""
    return part["stem"] if (part := _PART.fullmatch(path.stem)) else path.stem
