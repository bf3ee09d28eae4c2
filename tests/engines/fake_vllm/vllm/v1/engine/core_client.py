import asyncio
import json
import os
import subprocess
import sys
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

from vllm import __version__

DEADLY = 666
DEADLY_FOR_ONE = 667
STALLING = 668


class EngineCoreClient:
    @staticmethod
    def make_async_mp_client(config: Any, executor: type, log_stats: bool) -> "EngineCoreClient":
        return EngineCoreClient(log_stats)

    def __init__(self, log_stats: bool) -> None:
        self._log_stats = log_stats
        self.resources = SimpleNamespace(engine_dead=False, engine_manager=SimpleNamespace(failed_proc_name=None))
        self._stalled = False
        self._running: dict[str, list[int]] = {}
        self._changed = asyncio.Event()
        heeding = "SIG_IGN" if os.environ.get("FAKE_VLLM_STUBBORN") else "SIG_DFL"
        helping = f"import signal, time; signal.signal(signal.SIGTERM, signal.{heeding}); time.sleep(1000)"
        self._note("helper", pid=subprocess.Popen([sys.executable, "-S", "-c", helping]).pid)

    def shutdown(self) -> None:
        self._note("shutdown")

    async def get_supported_tasks_async(self) -> tuple[str, ...]:
        if self._stalled:
            await asyncio.Event().wait()
        return ("generate",)

    async def add_lora_async(self, adapter: Any) -> bool:
        if adapter.lora_path.endswith("misfit"):
            raise RuntimeError("its rank is too high")
        self._note("adapted", name=adapter.lora_name, path=adapter.lora_path)
        return True

    async def remove_lora_async(self, number: int) -> bool:
        self._note("adapted", number=number)
        return True

    async def add_request_async(self, request: Any) -> None:
        self._note("add", **asdict(request))
        ids = request.prompt["prompt_token_ids"]
        if ids[0] == DEADLY:
            self.resources.engine_dead = True
        if ids[0] == DEADLY_FOR_ONE:
            self.resources.engine_manager.failed_proc_name = "EngineCore_DP1"
        self._stalled = self._stalled or ids[0] == STALLING
        self._running[request.request_id] = list(ids)
        self._changed.set()

    async def abort_requests_async(self, request_ids: list[str]) -> None:
        self._note("abort", request_ids=request_ids)
        for request_id in request_ids:
            self._running.pop(request_id, None)

    async def reset_prefix_cache_async(self) -> bool:
        return not self._running

    async def get_output_async(self) -> Any:
        await asyncio.sleep(0.01)
        while not self._running or self._stalled:
            self._changed.clear()
            await self._changed.wait()
        if self.resources.engine_dead:
            raise RuntimeError("the core is dead")
        step = []
        for request_id, ids in list(self._running.items()):
            token = ids.pop(0)
            if not ids:
                del self._running[request_id]
            step.append(
                SimpleNamespace(
                    request_id=request_id, new_token_ids=[token], finish_reason=None if ids else "length",
                    new_logprobs=None, new_prompt_logprobs_tensors=None, prefill_stats=None,
                    **({"error": None} if __version__ == "0.33.0" else {}),
                )
            )  # fmt: skip
        stats = SimpleNamespace(kv_cache_usage=len(self._running) / 4) if self._log_stats else None
        return SimpleNamespace(engine_index=0, outputs=step, scheduler_stats=stats)

    @staticmethod
    def _note(what: str, **facts: Any) -> None:
        if name := os.environ.get("FAKE_VLLM_LOG"):
            with open(name, "a", encoding="utf-8") as log:
                log.write(json.dumps({"what": what, **facts}) + "\n")
