"""``/v1/load_lora_adapter`` and ``/v1/unload_lora_adapter``, as vLLM has them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from portico.protocols.validation import RequestModel

__all__ = ["LoadAdapterRequest", "UnloadAdapterRequest"]

Name = Annotated[str, Field(min_length=1, max_length=256)]


class LoadAdapterRequest(RequestModel):
    """``lora_path`` is an adapter in the operator's ``--lora-dir``. ``model`` is the one to adapt, where there are
    several. ``load_inplace`` loads over an adapter of the same name."""

    lora_name: Name
    lora_path: Annotated[str, Field(min_length=1, max_length=4096)]
    model: str | None = None
    load_inplace: bool = False


class UnloadAdapterRequest(RequestModel):
    """``model`` is the one that is adapted, where there are several."""

    lora_name: Name
    model: str | None = None
