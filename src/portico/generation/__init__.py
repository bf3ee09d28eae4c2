"""One request on its way through the line."""

from portico.generation.choice import Choice, Delta, Held
from portico.generation.generation import Generation, Usage
from portico.generation.model import Card, Limits, Model
from portico.generation.opening import answer_opening
from portico.generation.promise import Promise, promised
from portico.generation.spec import GenerationSpec
from portico.generation.thinking import thought_budget
from portico.generation.tokens import TokenChoice, TokenGeneration
from portico.generation.watch import Watch, watched

__all__ = [
    "Card",
    "Choice",
    "Delta",
    "Generation",
    "GenerationSpec",
    "Held",
    "Limits",
    "Model",
    "Promise",
    "TokenChoice",
    "TokenGeneration",
    "Usage",
    "Watch",
    "answer_opening",
    "promised",
    "thought_budget",
    "watched",
]
