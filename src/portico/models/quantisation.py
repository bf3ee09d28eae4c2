"""Which of a repository's GGUF files to take, where only the repository is named, or a quantisation of it.

``Q4_K_M`` is what the field has come to take where nobody says otherwise: about a quarter of the size of the full
weights, for a loss that is hard to see. What does not fit into the memory that is free is not taken unasked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from portico.errors import ModelNotFoundError
from portico.models.errors import PullError
from portico.models.parts import parts

__all__ = ["Choice", "choose", "free_memory", "quantisation"]

USUAL: Final = "Q4_K_M"
FULL: Final = frozenset({"F16", "BF16", "F32"})  # as they came out of training: not taken where there is anything less
ROOM: Final = 1.15  # of a file's size: weights, and the least of a cache beside them

_TAG = re.compile(
    r"(?:^|[-_./])(UD-)?((?:I?Q|TQ)\d(?:_[A-Z0-9]+)*|MXFP4(?:_MOE)?|BF16|F16|F32)(?=$|[-./])", re.IGNORECASE
)
_OTHER = re.compile(r"mmproj|imatrix", re.IGNORECASE)  # GGUF files that are no language model


@dataclass(frozen=True)
class Choice:
    """A file (the first of several parts), its quantisation, and its size in bytes with all parts."""

    file: str
    quantisation: str
    size: int


def quantisation(file: str) -> str:
    """What the path of a GGUF file says of how its weights are stored, such as ``Q4_K_M``; empty if it does not."""
    found = _TAG.findall(str(PurePosixPath(file).with_suffix("")))
    return "".join(found[-1]).upper() if found else ""


def choose(files: Mapping[str, int], wanted: str | None, memory: int | None) -> Choice:
    """Of ``files`` (path -> bytes) the one that is ``wanted``, or else the one that suits such free ``memory``, which
    None is unknown. Raises ``ModelNotFoundError`` where there is none, and ``PullError`` where none fits."""
    found = sorted(_choices(files), key=lambda one: one.size)
    if not found:
        raise ModelNotFoundError("the repository has no GGUF file that is a language model")
    if wanted is not None:
        named = [one for one in found if one.quantisation.removeprefix("UD-") == wanted.upper().removeprefix("UD-")]
        if not named:
            known = ", ".join(dict.fromkeys(one.quantisation for one in found if one.quantisation))
            raise ModelNotFoundError(
                f"the repository has no file of the quantisation {wanted}; it has {known or 'none'}"
            )
        return named[0]
    fitting = [one for one in found if memory is None or one.size * ROOM <= memory]
    if not fitting:
        least, room = found[0], (memory or 0) / 1e9
        raise PullError(
            f"nothing of the repository fits into the {room:.1f} GB of memory that are free; its smallest file, "
            f"{least.quantisation or least.file}, has {least.size / 1e9:.1f} GB; name a file to take it even so"
        )
    usual = [one for one in fitting if one.quantisation == USUAL]
    return (usual or [one for one in fitting if one.quantisation not in FULL] or fitting)[-1]


def _choices(files: Mapping[str, int]) -> list[Choice]:
    found = []
    for file in files:
        together = [str(part) for part in parts(PurePosixPath(file))]
        first = file.lower().endswith(".gguf") and not _OTHER.search(file) and together[0] == file
        if first and all(part in files for part in together):
            found.append(Choice(file, quantisation(file), sum(files[part] for part in together)))
    return found


def free_memory() -> int | None:
    """Bytes of memory that this process could still take; None where the system does not say."""
    free = [_free_of_machine(), _free_of_group(Path("/sys/fs/cgroup"))]
    return min((one for one in free if one is not None), default=None)


def _free_of_machine() -> int | None:
    try:
        text = Path("/proc/meminfo").read_text()
        return int(text.partition("MemAvailable:")[2].split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _free_of_group(group: Path) -> int | None:
    """What a container may take beyond what it has."""
    try:
        return int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return None
