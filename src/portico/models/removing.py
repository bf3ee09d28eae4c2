"""Taking a model out of the cache: what ``pull`` and the hub's library put there, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from portico.errors import BadRequestError, ModelNotFoundError
from portico.models import cache, hub
from portico.models.catalogue import CATALOGUE
from portico.models.pull import installed_weights

__all__ = ["Removable", "removable"]


@dataclass(frozen=True)
class Removable:
    """A model in a cache: ``files`` are what goes with it, ``size`` their bytes. ``directory`` goes as a whole."""

    spec: str
    files: tuple[Path, ...]
    size: int
    directory: Path | None = None

    def remove(self) -> None:
        """Delete it. Raises ``OSError``."""
        if self.directory is not None:
            with cache.lock(self.spec):
                shutil.rmtree(self.directory)
        for file in self.files:
            file.unlink(missing_ok=True)


def removable(spec: str) -> Removable:
    """The model ``spec`` in a cache. Raises ``ModelNotFoundError`` where there is none, and ``BadRequestError`` for
    files that are no part of a cache."""
    if model := CATALOGUE.get(spec):
        if installed_weights(model) is not None:
            directory = cache.model_directory(model.name)
            files = tuple(path for path in directory.rglob("*") if path.is_file())
            return Removable(spec, files, sum(file.stat().st_size for file in files), directory)
    elif spec.startswith(hub.PREFIX):
        wanted = hub.cached(spec)
        if wanted is not None:
            files = tuple(hub.files_of(wanted))
            size = sum(file.stat().st_size for file in files if not file.is_symlink())
            return Removable(wanted.spec, files, size)
    elif Path(spec).expanduser().exists():
        raise BadRequestError(f"{spec} is in no cache: it is your own, delete it yourself")
    raise ModelNotFoundError(f"{spec} is not here; 'portico models' lists what is")
