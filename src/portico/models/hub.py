"""GGUF files from a Hugging Face hub: ``hf:org/repo/file.gguf``, or ``hf:org/repo@revision/folder/file.gguf``.

``hf:org/repo:Q4_K_M`` is the file of that quantisation, and ``hf:org/repo`` one that suits this machine: see
``quantisation``. What is in the cache already is taken before anything else.

The hub's own library does the work, with the cache, token, mirror and offline switch that the user has set up for it.
A file that is in its cache is used without asking the network. A model split over several files
(``…-00001-of-00003.gguf``) is fetched whole; llama.cpp opens it by its first file.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from portico.errors import ModelNotFoundError, PorticoError
from portico.models.errors import OfflineError, PullError
from portico.models.parts import parts, stem
from portico.models.quantisation import choose, free_memory
from portico.models.wheel import Progress

__all__ = ["PREFIX", "HubFile", "cached", "expected_name", "fetch", "files_of", "in_cache", "locate", "parse"]

PREFIX = "hf:"
_SPEC = re.compile(
    r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?/(?P<file>(?:[^/\0]+/)*[^/\0]+\.gguf)", re.ASCII
)
_REPO = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?::(?P<quantisation>[\w-]+))?", re.ASCII)


@dataclass(frozen=True)
class HubFile:
    """A GGUF file of a hub repository; ``file`` is its path in there."""

    repo: str
    file: str
    revision: str | None = None

    @property
    def name(self) -> str:
        """What the model is served as: the file's stem, without the number of a part."""
        return stem(PurePosixPath(self.file))

    @property
    def spec(self) -> str:
        return f"{PREFIX}{self.repo}{'@' + self.revision if self.revision else ''}/{self.file}"

    @property
    def parts(self) -> list[str]:
        """Paths of all files that belong to this one, the first first."""
        return [str(part) for part in parts(PurePosixPath(self.file))]


def parse(spec: str) -> HubFile:
    """Read ``hf:org/repo[@revision]/path/file.gguf``. Raises ``ModelNotFoundError`` for anything else."""
    if (match := _SPEC.fullmatch(spec)) is None or ".." in match["file"].split("/"):
        raise ModelNotFoundError(f"{spec!r} is not of the form hf:org/repo/file.gguf")
    return HubFile(match["repo"], match["file"], match["revision"])


def locate(spec: str, progress: Progress | None = None, *, again: bool = False) -> HubFile:
    """The file that ``spec`` means, which names one, a quantisation or only a repository; ``again`` asks the hub though
    there is one in the cache. Raises as ``fetch`` does, and as ``quantisation.choose``."""
    if (match := _REPO.fullmatch(spec)) is None:
        return parse(spec)
    repo, revision, wanted = match["repo"], match["revision"], match["quantisation"]
    if not again and revision is None and (here := _cached(repo, wanted)) is not None:
        return here
    memory = free_memory()
    try:
        choice = choose(_listed(repo, revision), wanted, memory)
    except PorticoError as error:
        raise type(error)(f"{repo}: {error.message}") from None
    if progress is not None:
        why = "" if wanted or memory is None else f", which fits into {memory / 1e9:.1f} GB of free memory"
        progress(f"taking {choice.quantisation or choice.file}{why}", 0, choice.size)
    return HubFile(repo, choice.file, revision)


def expected_name(spec: str) -> str:
    """What the model ``spec`` will be served as, as far as that is known without asking the hub."""
    if (match := _REPO.fullmatch(spec)) is None:
        return parse(spec).name
    here = _cached(match["repo"], match["quantisation"])
    return here.name if here is not None else match["repo"].partition("/")[2]


def cached(spec: str) -> HubFile | None:
    """The file that ``spec`` means, if it is in the cache."""
    if (match := _REPO.fullmatch(spec)) is not None:
        return _cached(match["repo"], match["quantisation"])
    wanted = parse(spec)
    return wanted if any((one.repo, one.file) == (wanted.repo, wanted.file) for one, _ in in_cache()) else None


def files_of(model: HubFile) -> Iterator[Path]:
    """All that the cache has of a model: its names, and the bytes that no other name stands for."""
    from huggingface_hub import scan_cache_dir

    every = [
        (file.file_path.relative_to(revision.snapshot_path).as_posix(), file)
        for repository in scan_cache_dir().repos
        if repository.repo_id == model.repo and repository.repo_type == "model"
        for revision in repository.revisions
        for file in revision.files
    ]
    needed = {file.blob_path for path, file in every if path not in model.parts}
    for path, file in every:
        if path in model.parts:
            yield file.file_path
            if file.blob_path not in needed and file.blob_path != file.file_path:
                needed.add(file.blob_path)  # it is named once
                yield file.blob_path


def _cached(repo: str, wanted: str | None) -> HubFile | None:
    found = [pair for one, path in in_cache() if one.repo == repo for pair in zip(one.parts, parts(path), strict=True)]
    try:
        return HubFile(repo, choose({name: path.stat().st_size for name, path in found}, wanted, None).file)
    except (ModelNotFoundError, OSError):
        return None


def _listed(repo: str, revision: str | None) -> dict[str, int]:
    """The files of a repository, with their sizes in bytes."""
    from huggingface_hub import HfApi

    with _in_words(f"the files of {repo}", repo, revision):
        found = HfApi().model_info(repo, revision=revision, files_metadata=True).siblings or []
    return {one.rfilename: one.size or 0 for one in found}


def fetch(wanted: HubFile, progress: Progress, *, again: bool = False) -> Path:
    """The path of ``wanted`` in the hub cache (of its first part if it is split), fetched if it is not there.

    ``again`` asks the hub whether there is a newer one even so. Raises ``OfflineError`` when the hub cannot be reached,
    ``ModelNotFoundError`` when it has no such file, and ``PullError`` when it refuses or fails otherwise.
    """
    # Only here: importing the hub's library opens an HTTP stack that local models do not need.
    from huggingface_hub import errors, hf_hub_download

    def download(*, only_cached: bool) -> Path:
        bar = _reporting_to(progress)
        first, *_ = [
            hf_hub_download(wanted.repo, part, revision=wanted.revision, local_files_only=only_cached, tqdm_class=bar)
            for part in wanted.parts
        ]
        return Path(first)

    if not again:
        try:
            return download(only_cached=True)
        except errors.LocalEntryNotFoundError:
            pass
    with _in_words(f"{wanted.file} of {wanted.repo}", wanted.repo, wanted.revision):
        return download(only_cached=False)


@contextmanager
def _in_words(what: str, repo: str, revision: str | None) -> Iterator[None]:
    """Turns what the hub's library raises into our errors."""
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise PullError(
            f"{repo} asks for its terms to be accepted: do that on its page, then run `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFoundError(f"the hub has no repository {repo}, or it is private") from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFoundError(f"{repo} has no revision {revision}") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, httpx.TransportError) as error:
        # the hub's words for: not here, and the network did not answer
        raise OfflineError(
            f"{what} is not here yet and the hub could not be reached; check the connection, or HF_ENDPOINT and "
            f"HF_HUB_OFFLINE if they are set"
        ) from error
    except errors.EntryNotFoundError as error:
        raise ModelNotFoundError(f"{repo} has no file {what.partition(' of ')[0]}") from error
    except (errors.HfHubHTTPError, OSError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise PullError(
                f"no space left on the disk for {what}: make room, or set HF_HOME to another disk, then pull again"
            ) from error
        raise PullError(f"fetching {what} failed: {error}") from error


def in_cache() -> list[tuple[HubFile, Path]]:
    """The GGUF models in the hub cache, one for all parts of a split one, those of the newest revisions only."""
    from huggingface_hub import errors, scan_cache_dir

    try:
        repositories = scan_cache_dir().repos
    except errors.CacheNotFound:
        return []
    found = []
    for repository in repositories:
        newest = max(repository.revisions, key=lambda revision: revision.last_modified, default=None)
        for file in newest.files if newest and repository.repo_type == "model" else ():
            path = file.file_path.relative_to(newest.snapshot_path).as_posix() if newest else ""
            wanted = HubFile(repository.repo_id, path)
            if path.endswith(".gguf") and wanted.parts[0] == path:
                found.append((wanted, file.file_path))
    return sorted(found, key=lambda pair: (pair[0].repo, pair[0].file))


def _reporting_to(progress: Progress) -> type[Any]:
    """A stand-in for tqdm's progress bar that tells ``progress`` instead of drawing."""

    class Bar:
        def __init__(self, *_: object, total: int | None = None, initial: int = 0, **__: object) -> None:
            self.total, self.n = total or 0, initial

        def update(self, step: float = 1) -> None:
            self.n += int(step)
            progress("fetching", self.n, max(self.total, self.n, 1))

        def update_transfer(self, step: float = 1) -> None:
            """The hub's library asks for this to know that one bar is enough for network and disk."""

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

        def __getattr__(self, _: str) -> Any:  # the rest of tqdm's methods only draw
            return lambda *_, **__: None

    return Bar
