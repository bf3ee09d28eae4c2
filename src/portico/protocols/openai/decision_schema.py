"""The request of decisions: an input, and the questions about it (OpenAI's API of autumn 2026)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from portico.protocols.bounds import Items, Objects
from portico.protocols.openai.schema import Text
from portico.protocols.validation import RequestModel, fault

__all__ = ["Choice", "DecisionRequest", "Part", "Predicate", "Question", "Score"]

MOST_QUESTIONS = 400
MOST_OPTIONS = 255


class TextPart(RequestModel):
    """Words."""

    type: Literal["input_text"]
    text: Text


class ImagePart(RequestModel):
    """A picture."""

    type: Literal["input_image"]
    image_url: Text
    detail: str | None = None


class JsonPart(RequestModel):
    """Data, shown as JSON."""

    type: Literal["input_json"]
    data: dict[str, Any] | Objects


def _tag(value: object) -> str | None:
    """The branch of a union that a value means; names of branches are not part of a field's path."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return kind.title().replace("_", "") if isinstance(kind, str) else None


_PARTS = Discriminator(
    _tag,
    custom_error_type="unknown_part",
    custom_error_message="'type' should be input_text, input_image or input_json",
)
Part: TypeAlias = Annotated[
    Annotated[TextPart, Tag("InputText")]
    | Annotated[ImagePart, Tag("InputImage")]
    | Annotated[JsonPart, Tag("InputJson")],
    _PARTS,
]


class Question(RequestModel):
    """What all questions have."""

    name: str | None = None
    instructions: Annotated[Text, Field(min_length=1)] | Annotated[Items[Part], Field(min_length=1)]


class Predicate(Question):
    """How likely something is."""

    type: Literal["predicate"]


class Option(RequestModel):
    """One of the options of a choice."""

    value: str | bool
    description: str | None = None


class Choice(Question):
    """One of several options."""

    type: Literal["choice"]
    choices: Annotated[Items[Option], Field(min_length=2, max_length=MOST_OPTIONS)]

    @model_validator(mode="after")
    def _unique(self) -> Choice:
        seen: set[tuple[type, str | bool]] = set()
        for index, option in enumerate(self.choices):
            if (key := (type(option.value), option.value)) in seen:
                raise fault("choices", f"choice {index} is there already; each must be unique")
            seen.add(key)
        return self


class Level(RequestModel):
    """One step of a score."""

    label: str
    description: str | None = None


class Score(Question):
    """A place on a scale, whose levels are given from the lowest to the highest."""

    type: Literal["score"]
    levels: Annotated[Items[Level], Field(min_length=2, max_length=MOST_OPTIONS)]


AnyQuestion: TypeAlias = Annotated[
    Annotated[Predicate, Tag("Predicate")] | Annotated[Choice, Tag("Choice")] | Annotated[Score, Tag("Score")],
    Discriminator(
        _tag, custom_error_type="unknown_question", custom_error_message="'type' should be predicate, choice or score"
    ),
]


class DecisionRequest(RequestModel):
    """POST /v1/decisions."""

    model: str | None = None
    input: Annotated[Text, Field(min_length=1)] | Annotated[Objects, Field(min_length=1)]
    questions: Annotated[Items[AnyQuestion], Field(min_length=1, max_length=MOST_QUESTIONS)]
    # without effect: prefixes are shared by themselves, and within one API key alone
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: str | None = None
