"""The ``Engine`` over a process that has vLLM.

While none is loaded the engine is not healthy, and requests are refused at once rather than kept for minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portico.engines.adapters import PEFT
from portico.engines.revived import SILENCE, RevivedEngine
from portico.engines.vllm.process import Load, VllmProcess

__all__ = ["VllmEngine"]


class VllmEngine(RevivedEngine):
    """``model`` is a directory in Hugging Face's layout, or a name on its hub; ``arguments`` are options of
    ``vllm serve``; ``loras`` maps names of adapters to their directories, and is
    None where there never will be any."""

    adapter_form = PEFT

    def __init__(
        self,
        model: str,
        arguments: Sequence[str] = (),
        *,
        name: str,
        loras: Mapping[str, str] | None = None,
        silence: float = SILENCE,
    ) -> None:
        super().__init__(silence=silence, adapters=loras)
        self._load = Load(model, name, list(arguments), None if loras is None else self._adapters)

    def _new_process(self) -> VllmProcess:
        return VllmProcess(self._load)
