"""From what a user calls a model to the file that holds it.

A model is called by a catalogue name (``smollm2``), by the path of a GGUF file, or by its place on a hub
(``hf:org/repo/file.gguf``, ``hf:org/repo:Q4_K_M`` or ``hf:org/repo``). It is served under the catalogue name, or under
the file's stem.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from portico.errors import ModelNotFoundError
from portico.models import hub
from portico.models.catalogue import CATALOGUE, ModelKind
from portico.models.facts import ModelFacts, facts, kind
from portico.models.gguf import GGUFError
from portico.models.parts import parts, stem
from portico.models.pull import installed_weights, pull
from portico.models.wheel import Progress

__all__ = ["InstalledModel", "ResolvedModel", "ensure", "expected", "installed", "resolve"]


@dataclass(frozen=True)
class ResolvedModel:
    """A model that is here.

    ``name`` is what it is served as, ``path`` its GGUF file (the first of several parts), ``tokenizer_path`` the
    ``tokenizer.json`` that was pulled with it, which then goes before the vocabulary in the GGUF.
    """

    name: str
    path: Path
    kind: ModelKind
    tokenizer_path: Path | None


@dataclass(frozen=True)
class InstalledModel:
    """A model in a cache: ``spec`` is what ``resolve`` finds it by."""

    spec: str
    path: Path
    facts: ModelFacts


def resolve(spec: str, progress: Progress | None = None, *, again: bool = False) -> ResolvedModel:
    """Find the model ``spec`` and fetch it if it is not here yet (``again``: even if it is).

    Raises ``ModelNotFoundError`` when there is no such thing, ``PullError`` when it cannot be fetched, and
    ``GGUFError`` when a file is not GGUF.
    """
    if model := CATALOGUE.get(spec):
        path = pull(model, progress, again=again)
        tokenizer = path.with_name("tokenizer.json")
        return ResolvedModel(spec, path, model.kind, tokenizer if tokenizer.is_file() else None)
    if spec.startswith(hub.PREFIX):
        wanted = hub.locate(spec, progress, again=again)
        path = hub.fetch(wanted, progress or (lambda step, done, total: None), again=again)
        return ResolvedModel(wanted.name, path, kind(path), None)
    path = Path(spec).expanduser()
    if path.is_file():
        first, *others = parts(path)
        if absent := next((part for part in (first, *others) if not part.is_file()), None):
            raise ModelNotFoundError(f"{path.name} is a part of a split model, and {absent.name} is not beside it")
        return ResolvedModel(stem(first), first, kind(first), None)
    raise ModelNotFoundError(
        f"no model {spec!r}: it is neither a file here, nor hf:org/repo, hf:org/repo:Q4_K_M or hf:org/repo/file.gguf, "
        f"nor one of {', '.join(CATALOGUE)}"
    )


def expected(spec: str) -> tuple[str, ModelKind | None]:
    """What the model ``spec`` will be called, and what it is for as far as that is known, before it is looked for."""
    if model := CATALOGUE.get(spec):
        return spec, model.kind
    if spec.startswith(hub.PREFIX):
        return hub.expected_name(spec), None
    path = Path(spec).expanduser()
    try:
        return (stem(path), kind(parts(path)[0])) if path.is_file() else (path.name, None)
    except (GGUFError, OSError):
        return stem(path), None


def ensure(spec: str, progress: Progress | None = None) -> Path:
    """The GGUF file of the model ``spec``, fetched if it is not here yet; see ``resolve``."""
    return resolve(spec, progress).path


def installed() -> list[InstalledModel]:
    """The models that need no network: pulled ones, then those in the hub cache. Unreadable files are left out."""
    places = [(name, installed_weights(model)) for name, model in CATALOGUE.items()]
    places += [(wanted.spec, path) for wanted, path in hub.in_cache()]
    models = []
    for spec, path in places:
        try:
            models += [InstalledModel(spec, path, facts(path))] if path else []
        except (GGUFError, OSError):
            continue
    return models
