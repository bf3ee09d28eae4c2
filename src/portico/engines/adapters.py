"""How the LoRA adapters of each engine lie on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["GGUF", "PEFT", "AdapterForm"]


@dataclass(frozen=True)
class AdapterForm:
    """``wanted`` tells people what ``fits``."""

    wanted: str
    fits: Callable[[Path], bool]


PEFT: Final = AdapterForm(
    "a directory with an adapter_config.json", lambda path: (path / "adapter_config.json").is_file()
)
GGUF: Final = AdapterForm("a GGUF file", lambda path: path.suffix == ".gguf" and path.is_file())
