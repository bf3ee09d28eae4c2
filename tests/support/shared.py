"""What several tests need: where the shared material lies, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def shared_file(relative: str) -> Path | None:
    """The file ``relative`` of the shared test material, if it is here."""
    base = Path(os.environ.get("PORTICO_SHARED") or ROOT.parent / "shared")
    return path if (path := base / relative).exists() else None


def shared_path(relative: str) -> Path:
    """The file ``relative`` of the shared test material; skips the calling test where it is absent."""
    path = shared_file(relative)
    if path is None:
        pytest.skip(
            f"shared test material not found: {relative} (looked in ../shared; set PORTICO_SHARED)",
            allow_module_level=True,
        )
    return path
