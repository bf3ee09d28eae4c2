"""Embeddings: texts or token ids -> vectors, as numbers or as base64 of little-endian float32.

A ``dimensions`` below the model's own cuts each vector and makes it unit length again, which is meaningful for models
trained for it (Matryoshka) and harmless to ask of others.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from pydantic import Field

from portico.errors import BadRequestError, ContextLengthError
from portico.generation import Model
from portico.protocols.bounds import largest
from portico.protocols.openai.schema import Int64, RequestId, Texts, one_by_one
from portico.protocols.openai.usage import input_usage
from portico.protocols.validation import RequestModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["EmbeddedRequest", "EmbeddingRequest", "body", "check_lengths", "inputs", "shortened"]


class EmbeddedRequest(RequestModel):
    """What all requests have in common whose texts are embedded."""

    model: str | None = None
    user: str | None = None
    # vLLM's extensions
    truncate_prompt_tokens: Annotated[int, Field(ge=-1)] | None = None
    truncation_side: Literal["left", "right"] | None = None  # which end is cut off
    priority: Int64 | None = None
    request_id: RequestId | None = None


class EmbeddingRequest(EmbeddedRequest):
    """POST /v1/embeddings."""

    input: Texts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    add_special_tokens: bool | None = None  # vLLM's


def inputs(request: EmbeddingRequest, model: Model) -> list[str | list[int]]:
    """The inputs, each text or token ids, checked. Raises ``BadRequestError``."""
    found = one_by_one(request.input)
    if not found or any(not one for one in found):
        raise BadRequestError("'input' must not be empty.", param="input")
    if len(found) > model.limits.inputs:
        raise BadRequestError(f"At most {model.limits.inputs} inputs are allowed in one request.", param="input")
    if request.truncate_prompt_tokens is None:
        check_lengths(request, [[] if isinstance(one, str) else one for one in found], model)
    if any(not isinstance(one, str) and largest(one) >= model.vocab_size for one in found):
        raise BadRequestError(f"'input' holds a token id beyond the vocabulary of {model.vocab_size}.", param="input")
    size = model.embedding_size
    if request.dimensions is not None and size is not None and request.dimensions > size:
        raise BadRequestError(f"'dimensions' must be at most {size} for this model.", param="dimensions")
    return found


def check_lengths(
    request: EmbeddedRequest, token_ids: Sequence[list[int]], model: Model, param: str = "input"
) -> list[list[int]]:
    """Inputs within the model's context: cut where the client asks for it, else refused.

    What the model expects around every text ([CLS], [SEP], EOS) stays there when the text in it is cut.
    """
    limit = model.context_length
    if request.truncate_prompt_tokens is not None:
        wanted = request.truncate_prompt_tokens
        limit = limit if wanted == -1 else min(wanted, limit)
        if limit < 1:
            raise BadRequestError("'truncate_prompt_tokens' must be -1 or at least 1.", param="truncate_prompt_tokens")
        return [_cut(ids, limit, model, request.truncation_side or "right") for ids in token_ids]
    for position, ids in enumerate(token_ids):
        if len(ids) > limit:
            raise ContextLengthError(
                f"Input {position} has {len(ids)} tokens; this model takes {limit}. Shorten it, or send "
                "'truncate_prompt_tokens': -1 to have it cut.",
                param=param,
            )
    return list(token_ids)


def _cut(ids: list[int], limit: int, model: Model, side: str) -> list[int]:
    if len(ids) <= limit:
        return ids
    prefix, suffix = list(model.tokenizer.special.prefix_ids), list(model.tokenizer.special.suffix_ids)
    if len(suffix) >= limit or ids[len(ids) - len(suffix) :] != suffix:
        suffix = []
    if len(prefix) + len(suffix) >= limit or ids[: len(prefix)] != prefix:
        prefix = []
    room = limit - len(prefix) - len(suffix)
    text = ids[len(prefix) : len(ids) - len(suffix)]
    return [*prefix, *(text[-room:] if side == "left" else text[:room]), *suffix]


def shortened(request: EmbeddingRequest, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``vectors`` of shape (inputs, size) as the request wants them: cut to ``dimensions``, then of unit length."""
    if request.dimensions is not None and request.dimensions < vectors.shape[1]:
        import numpy as np  # ten megabytes: only where there are vectors

        vectors = vectors[:, : request.dimensions]
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.where(norms == 0, 1, norms)
    return vectors


def body(
    request: EmbeddingRequest, vectors: npt.NDArray[np.float32], prompt_tokens: Sequence[int], model: Model
) -> bytes:
    """The response body for ``vectors`` of shape (inputs, size)."""
    import numpy as np

    rows = np.ascontiguousarray(shortened(request, vectors), dtype="<f4")
    coded: Iterable[Any] = rows
    if request.encoding_format == "base64":
        coded = (base64.b64encode(row.tobytes()).decode("ascii") for row in rows)
    data = [{"object": "embedding", "index": index, "embedding": value} for index, value in enumerate(coded)]
    return orjson.dumps(
        {"object": "list", "data": data, "model": model.name, "usage": input_usage(prompt_tokens)},
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
