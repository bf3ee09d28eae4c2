"""A real vLLM for the tests that are marked ``vllm``.

They are skipped unless asked for, because they need a second environment of several gigabytes and minutes to start. In
one with vLLM in it (0.32.0 was tested, its CPU build), and a directory with SmolLM2 135M Instruct in Hugging Face's
layout:

    pip install '.[test,gateways]'
    PORTICO_VLLM_MODEL=DIR pytest -m vllm tests/engines

``PORTICO_VLLM_ARGS`` are further options of vLLM, such as ``--enforce-eager --dtype float32 --max-model-len 2048``.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from support import server as support_server
from support.server import RunningServer, running_server

MODEL = os.environ.get("PORTICO_VLLM_MODEL", "")
ARGUMENTS = os.environ.get("PORTICO_VLLM_ARGS", "")
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}

needs_vllm = [
    pytest.mark.vllm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed in this environment"),
    pytest.mark.skipif(not MODEL, reason="PORTICO_VLLM_MODEL names no model directory"),
]


def vllm_server(*arguments: str, options: str = "") -> AbstractContextManager[RunningServer]:
    """``portico serve --engine vllm`` with the model as ``smollm2``; ``options`` are vLLM's."""
    support_server.START_SECONDS = 600
    engine = ("--engine", "vllm", "--engine-args", f"{ARGUMENTS} {options}", "--served-model-name", "smollm2")
    return running_server(MODEL, *engine, *arguments, env=ENVIRONMENT)


@contextmanager
def vllms_own_server() -> Iterator[int]:
    """``vllm serve --grpc``; its port. It may still be loading."""
    support_server.START_SECONDS = 600
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    vllm = shutil.which("vllm", path=str(Path(sys.executable).parent)) or "vllm"
    named = ("--served-model-name", "smollm2", "--host", "127.0.0.1", "--port", str(port))
    command = [vllm, "serve", MODEL, "--grpc", *named, *ARGUMENTS.split()]
    process = subprocess.Popen(
        command, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(120)


def write_adapter(directory: Path, strength: float, rank: int = 4) -> Path:
    """A LoRA adapter for the model, in PEFT's layout: random directions on every layer's queries and values, which
    change nothing at ``strength`` 0."""
    from safetensors.numpy import save_file

    config = json.loads((Path(MODEL) / "config.json").read_text())
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    widths = {"q_proj": hidden, "v_proj": hidden // heads * config["num_key_value_heads"]}
    random = np.random.default_rng(1)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for name, width in widths.items():
            at = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{at}.lora_A.weight"] = random.normal(size=(rank, hidden)).astype(np.float32)
            weights[f"{at}.lora_B.weight"] = (strength * random.normal(size=(width, rank))).astype(np.float32)
    directory.mkdir()
    save_file(weights, directory / "adapter_model.safetensors")
    facts = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "bias": "none"}
    (directory / "adapter_config.json").write_text(json.dumps({**facts, "target_modules": sorted(widths)}))
    return directory
