"""The ``Engine`` over a process that has vLLM.

While none is loaded the engine is not healthy, and requests are refused at once rather than kept for minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portico.engines.revived import SILENCE, RevivedEngine
from portico.engines.vllm.process import Load, VllmProcess

__all__ = ["VllmEngine"]


class VllmEngine(RevivedEngine):
    """``model`` is a directory in Hugging Face's layout, or a name on its hub; ``arguments`` are options of
    ``vllm serve``; ``loras`` maps names of adapters to their directories, and is
    None where there never will be any."""

    def __init__(
        self,
        model: str,
        arguments: Sequence[str] = (),
        *,
        name: str,
        loras: Mapping[str, str] | None = None,
        silence: float = SILENCE,
    ) -> None:
        super().__init__(silence=silence)
        self._load = Load(model, name, list(arguments), None if loras is None else dict(loras))

    def _new_process(self) -> VllmProcess:
        return VllmProcess(self._load)

    async def adapt(self, name: str, path: str | None) -> None:
        """Load or unload an adapter, in this process and in those that take its place."""
        await (await self._available()).adapt(name, path)
        assert self._load.loras is not None
        if path is not None:
            self._load.loras[name] = path
        else:
            self._load.loras.pop(name, None)
