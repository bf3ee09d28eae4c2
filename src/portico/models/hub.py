"""GGUF files from a Hugging Face hub: ``hf:org/repo/file.gguf``, or ``hf:org/repo@revision/folder/file.gguf``.

The hub's own library does the work, with the cache, token, mirror and offline switch that the user has set up for it.
A file that is in its cache is used without asking the network. A model split over several files
(``…-00001-of-00003.gguf``) is fetched whole; llama.cpp opens it by its first file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portico.errors import ModelNotFoundError
from portico.models.errors import OfflineError, PullError
from portico.models.wheel import Progress

__all__ = ["PREFIX", "HubFile", "fetch", "in_cache", "parse"]

PREFIX = "hf:"
_SPEC = re.compile(
    r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?/(?P<file>(?:[^/\0]+/)*[^/\0]+\.gguf)", re.ASCII
)
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})")


@dataclass(frozen=True)
class HubFile:
    """A GGUF file of a hub repository; ``file`` is its path in there."""

    repo: str
    file: str
    revision: str | None = None

    @property
    def name(self) -> str:
        """What the model is served as: the file's stem, without the number of a part."""
        stem = Path(self.file).stem
        return shard["stem"] if (shard := _SHARD.fullmatch(stem)) else stem

    @property
    def spec(self) -> str:
        return f"{PREFIX}{self.repo}{'@' + self.revision if self.revision else ''}/{self.file}"

    @property
    def parts(self) -> list[str]:
        """Paths of all files that belong to this one, the first first."""
        path = Path(self.file)
        if (shard := _SHARD.fullmatch(path.stem)) is None:
            return [self.file]
        count = int(shard["count"])
        return [
            path.with_name(f"{shard['stem']}-{number:05}-of-{count:05}.gguf").as_posix()
            for number in range(1, count + 1)
        ]


def parse(spec: str) -> HubFile:
    """Read ``hf:org/repo[@revision]/path/file.gguf``. Raises ``ModelNotFoundError`` for anything else."""
    if (match := _SPEC.fullmatch(spec)) is None or ".." in match["file"].split("/"):
        raise ModelNotFoundError(f"{spec!r} is not of the form hf:org/repo/file.gguf")
    return HubFile(match["repo"], match["file"], match["revision"])


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
    try:
        return download(only_cached=False)
    except errors.GatedRepoError as error:
        raise PullError(
            f"{wanted.repo} asks for its terms to be accepted: do that on its page, then run `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFoundError(f"the hub has no repository {wanted.repo}, or it is private") from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFoundError(f"{wanted.repo} has no revision {wanted.revision}") from error
    except errors.LocalEntryNotFoundError as error:  # the hub's word for: not here, and the network did not answer
        raise OfflineError(
            f"{wanted.file} of {wanted.repo} is not here yet and the hub could not be reached; check the connection, "
            f"or HF_ENDPOINT and HF_HUB_OFFLINE if they are set"
        ) from error
    except errors.EntryNotFoundError as error:
        raise ModelNotFoundError(f"{wanted.repo} has no file {wanted.file}") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise PullError(f"fetching {wanted.file} of {wanted.repo} failed: {error}") from error


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
