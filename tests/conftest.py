"""Makes ``support`` importable from every test module."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from support_models import smollm2_path  # noqa: E402, F401  (fixtures for every test)
