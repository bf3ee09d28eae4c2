"""What several protocols say of sampling in the same words."""

from __future__ import annotations

from msgspec.structs import replace

from portico.events import SamplingParams
from portico.generation import Model

__all__ = ["defaulted", "nucleus", "temperature"]

HOTTEST = 100.0  # above it every token is as likely as another, and numbers get too large for engines


def temperature(wanted: float | None) -> float:
    """The temperature as engines take it: 1 where the request has none."""
    return 1.0 if wanted is None else min(wanted, HOTTEST)


def nucleus(top_p: float | None, top_k: int | None) -> tuple[float, int]:
    """``top_p`` and ``top_k`` as engines take them: neutral values where the request has none.

    A ``top_p`` of 0, which clients may send, leaves nothing but the most likely token.
    """
    if top_p == 0:
        return 1.0, 1
    return 1.0 if top_p is None else top_p, max(0, top_k or 0)


def defaulted(params: SamplingParams, request: object, model: Model) -> SamplingParams:
    """``params`` with the operator's values for ``model`` where ``request``, which has the same names, says nothing."""
    unsaid = {
        name: value
        for name, value in model.sampling.items()
        if name != "max_tokens" and getattr(request, name, None) is None
    }
    return replace(params, **unsaid) if unsaid else params
