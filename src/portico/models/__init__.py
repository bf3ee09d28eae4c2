"""Finding and fetching weights: a short name, a path or a hub address in, a GGUF file on this machine out."""

from portico.models.cache import models_root
from portico.models.catalogue import CATALOGUE, CatalogueModel, ModelKind
from portico.models.errors import OfflineError, PullError
from portico.models.facts import ModelFacts, facts
from portico.models.removing import Removable, removable
from portico.models.resolve import InstalledModel, ResolvedModel, ensure, expected, installed, resolve
from portico.models.wheel import Progress

__all__ = [
    "CATALOGUE",
    "CatalogueModel",
    "InstalledModel",
    "ModelFacts",
    "ModelKind",
    "OfflineError",
    "Progress",
    "PullError",
    "Removable",
    "ResolvedModel",
    "ensure",
    "expected",
    "facts",
    "installed",
    "models_root",
    "removable",
    "resolve",
]
