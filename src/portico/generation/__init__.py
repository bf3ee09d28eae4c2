"""One request on its way through the line."""

from portico.generation.generation import Choice, Delta, Generation, GenerationSpec, Usage
from portico.generation.model import Limits, Model
from portico.generation.promise import promised
from portico.generation.tokens import TokenChoice, TokenGeneration

__all__ = [
    "Choice",
    "Delta",
    "Generation",
    "GenerationSpec",
    "Limits",
    "Model",
    "TokenChoice",
    "TokenGeneration",
    "Usage",
    "promised",
]
