"""Mistral: up to tokenizer 10 a JSON list behind one marker, since 11 a marker, a name and raw JSON for every call."""

import secrets
import string

from portico.parsing.arguments import Json
from portico.parsing.bodies import Headed, JsonObject
from portico.parsing.calls import Calls
from portico.parsing.either import Either
from portico.parsing.family import Clues, Family, Reasoning

_ALPHABET = string.ascii_letters + string.digits


def _id(index: int, name: str) -> str:
    """Mistral's templates refuse ids of any other shape."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(9))


MISTRAL = Family(
    "mistral",
    models="Mistral 7B v0.3, Mixtral 8x22B, Nemo, Large, Small, Magistral, Devstral, Ministral",
    tools={
        "mistral": Either(
            (
                Calls(JsonObject(late_id=True), section="[TOOL_CALLS]", list=("[", ", ", "]"), id=_id),
                Calls(Headed("{name}«[CALL_ID]{id}»«[ARGS]»", Json()), open="[TOOL_CALLS]", id=_id),
            )
        )
    },
    reasoning={"mistral": Reasoning(("[THINK]", "<think>"), ("[/THINK]", "</think>"))},
    ends=("</s>",),
    clues=(
        Clues(("[TOOL_CALLS]",), tools="mistral"),
        Clues(("[THINK]",), reasoning="mistral"),
    ),
)
