"""Scores and rerankings over an embedding model: how near texts are to each other, as the cosine of their vectors.

The score is in -1..1, and only its order means much. ``/v1/score`` has vLLM's shape, ``/v1/rerank`` Jina's and vLLM's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AliasChoices, Field

from portico.errors import BadRequestError
from portico.generation import Model
from portico.protocols.bounds import Items
from portico.protocols.openai.embeddings import EmbeddedRequest
from portico.protocols.openai.usage import input_usage
from portico.protocols.validation import RequestModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["RerankRequest", "ScoreRequest", "pairs", "query_and_documents", "rerank_body", "score_body"]


class ScoreRequest(EmbeddedRequest):
    """POST /v1/score: ``text_1`` against ``text_2``, one to many or pair by pair; vLLM has two more names for each."""

    text_1: str | Items[str] = Field(validation_alias=AliasChoices("text_1", "queries", "data_1"))
    text_2: str | Items[str] = Field(validation_alias=AliasChoices("text_2", "documents", "data_2"))


class RerankDocument(RequestModel):
    """A document in the form of an object."""

    text: str


class RerankRequest(EmbeddedRequest):
    """POST /v1/rerank: ``documents`` in the order of their nearness to ``query``."""

    query: str
    documents: Items[str | RerankDocument]
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool | None = None


def pairs(request: ScoreRequest, model: Model) -> tuple[list[str], list[str]]:
    """Both sides' texts, checked; the first side has one text or as many as the second."""
    first, second = (side if isinstance(side, list) else [side] for side in (request.text_1, request.text_2))
    _check(first, "text_1", model)
    _check(second, "text_2", model)
    if len(first) not in (1, len(second)):
        raise BadRequestError(
            f"'text_1' must hold one text or as many as 'text_2'; it has {len(first)}, and 'text_2' {len(second)}.",
            param="text_1",
        )
    return first, second


def query_and_documents(request: RerankRequest, model: Model) -> tuple[list[str], list[str]]:
    """The query, as a list of one, and the documents' texts, checked."""
    documents = [one if isinstance(one, str) else one.text for one in request.documents]
    _check([request.query], "query", model)
    _check(documents, "documents", model)
    return [request.query], documents


def _check(texts: Sequence[str], param: str, model: Model) -> None:
    if not texts or not all(texts):
        raise BadRequestError(f"'{param}' must not be empty, nor hold an empty text.", param=param)
    if len(texts) > model.limits.inputs:
        raise BadRequestError(f"'{param}' may hold at most {model.limits.inputs} texts.", param=param)


def _cosines(vectors: npt.NDArray[np.float32], split: int) -> list[float]:
    """Row by row, the first ``split`` rows against the rest; a single first row against each."""
    import numpy as np  # ten megabytes: only where there are vectors

    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return [float(row.sum(dtype=np.float64)) for row in unit[:split] * unit[split:]]


def score_body(
    vectors: npt.NDArray[np.float32], split: int, prompt_tokens: Sequence[int], model: Model, *, name: str, created: int
) -> dict[str, Any]:
    """The answer of ``/v1/score``; the first ``split`` of ``vectors`` are those of the first side."""
    return {
        "id": f"score-{name}",
        "object": "list",
        "created": created,
        "model": model.name,
        "data": [
            {"index": index, "object": "score", "score": score} for index, score in enumerate(_cosines(vectors, split))
        ],
        "usage": input_usage(prompt_tokens),
    }


def rerank_body(
    request: RerankRequest, vectors: npt.NDArray[np.float32], prompt_tokens: Sequence[int], model: Model, *, name: str
) -> dict[str, Any]:
    """The answer of ``/v1/rerank``, nearest first; the first of ``vectors`` is the query's."""
    cosines = _cosines(vectors, 1)
    results: list[dict[str, Any]] = []
    for index in sorted(range(len(cosines)), key=lambda one: -cosines[one])[: request.top_n]:
        result: dict[str, Any] = {"index": index, "relevance_score": cosines[index]}
        if request.return_documents is not False:
            document = request.documents[index]
            result["document"] = {"text": document if isinstance(document, str) else document.text}
        results.append(result)
    return {"id": f"rerank-{name}", "model": model.name, "usage": input_usage(prompt_tokens), "results": results}
