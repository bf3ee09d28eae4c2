"""vLLM's engine core behind Portico's front door: GPUs, many of them, many machines.

    engine      the ``Engine`` in the front door: starts the process that has vLLM, and another when it dies
    process     that process, seen from the front door
    child       that process, seen from inside
    core        the ``Engine`` in it: vLLM's own client of its engine core, one batch of outputs per step
    messages    requests and outputs as vLLM's core has them
    names       what is used of vLLM, in the versions that are known

vLLM has a process of its own because loading takes minutes, which must not hold up the event loop, and because what
dies with a core (workers, sockets, threads, memory of GPUs) is cleared away whole by ending one group of processes.

Needs the extra ``portico[vllm]``. The client's interface is not a stable one of vLLM's: ``names`` has the versions.
"""

from portico.engines.vllm.engine import VllmEngine

__all__ = ["VllmEngine"]
