"""Finding and fetching weights: a short name, a path or a hub address in, a GGUF file on this machine out."""

from portico.models.catalogue import CATALOGUE, CatalogueModel
from portico.models.errors import OfflineError, PullError
from portico.models.resolve import ResolvedModel, ensure, resolve
from portico.models.wheel import Progress

__all__ = [
    "CATALOGUE",
    "CatalogueModel",
    "OfflineError",
    "Progress",
    "PullError",
    "ResolvedModel",
    "ensure",
    "resolve",
]
