"""What the tests of constraints share: the vocabulary, a model over it, a checker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from portico.constraints import Checker
from support.vocabulary import Model, read_vocabulary


@pytest.fixture(scope="session")
def model(smollm2_path: Path) -> Model:
    return Model(read_vocabulary(smollm2_path))


@pytest.fixture(scope="session")
def checker(model: Model) -> Iterator[Checker]:
    checker = Checker(model.vocabulary)
    yield checker
    checker.close()
