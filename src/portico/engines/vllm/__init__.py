"""vLLM's engine core behind Portico's front door: GPUs, many of them, many machines.

    engine      the ``Engine``: vLLM's own client of its engine core, one batch of outputs per step
    messages    requests and outputs as vLLM's core has them

Needs the extra ``portico[vllm]``; nothing of vLLM is imported before an engine is started. The client's interface is
not a stable one of vLLM's; the tested version is 0.32.0.
"""

from portico.engines.vllm.engine import VllmEngine

__all__ = ["VllmEngine"]
