"""What several tests need: where the shared material lies, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def shared_path(relative: str) -> Path:
    """The file ``relative`` of the shared test material; skips the calling test where it is absent."""
    base = Path(os.environ.get("PORTICO_SHARED") or ROOT.parent / "shared")
    path = base / relative
    if not path.exists():
        pytest.skip(
            f"shared test material not found: {relative} (looked in ../shared; set PORTICO_SHARED)",
            allow_module_level=True,
        )
    return path
