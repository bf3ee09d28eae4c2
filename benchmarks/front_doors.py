"""The front doors that ``versus.py`` sets beside each other: how each is found and started, and what stands behind it.

Behind every one plays the same script at the same pace, Portico's replay engine in a process of its own (in the front
door's, where it says so): over ``portico://``, over vLLM's gRPC, or as vLLM's engine core (``vllm_core.py``). So what
is measured at the port is the front door's work, with its hop to the engine, and nobody's inference.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from portico import models
from portico.models.cache import cache_root
from portico.prompting import load_tokenizer
from portico.protocols.grpc.tokenizer_files import tokenizer_zip

MODEL: Final = "smollm2"
VLLM: Final = "vllm==0.33.0"

Words = Sequence[str]  # a command; its places in braces are filled in when it is started


class Absent(Exception):
    """A front door is not here; its text says why, in a line."""


@dataclass(frozen=True)
class FrontDoor:
    """``program`` finds what is run with ``options`` (raises ``Absent``); ``engine`` is the command of its engine."""

    name: str
    program: Callable[[], Words]
    options: Words
    engine: Words = ()
    environment: dict[str, str] = field(default_factory=dict)


# -- programs ---------------------------------------------------------------------------------------------------------


def portico() -> Words:
    return (sys.executable, "-m", "portico")


def beside(name: str, otherwise: str) -> Callable[[], Words]:
    """The program of that name in this environment, or on the path."""

    def find() -> Words:
        found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
        if found is None:
            raise Absent(f"not installed: {otherwise}")
        return (found,)

    return find


def vllm_rs() -> Words:
    """vLLM's Rust front end: of an installed vLLM, on the path, or as ``fetch_vllm_rs`` left it."""
    package = find_spec("vllm")
    places = [*(package.submodule_search_locations or () if package else ())]
    for place in (*(Path(place) / "vllm-rs" for place in places), _kept()):
        if place.is_file():
            return (str(place),)
    return beside("vllm-rs", "--fetch takes it out of vLLM's wheel (340 MB)")()


def fetch_vllm_rs() -> None:
    """Take the front end, one file, out of the wheel on the package index, and keep that alone."""
    if _kept().is_file():
        return
    with tempfile.TemporaryDirectory() as directory:
        pip = [sys.executable, "-m", "pip"] if find_spec("pip") else ["pip"]
        subprocess.run([*pip, "download", "--quiet", "--no-deps", "--dest", directory, VLLM], check=True)
        _kept().parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(next(Path(directory).glob("*.whl"))) as wheel:
            whole = Path(wheel.extract("vllm/vllm-rs", directory))
        whole.chmod(0o755)
        shutil.move(whole, _kept())


def _kept() -> Path:
    return cache_root() / "benchmarks" / VLLM / "vllm-rs"


def llama_server() -> Words:
    raise Absent("it computes in the process that listens: see benchmarks/engine_llamacpp.py --beside")


# -- what they are given ----------------------------------------------------------------------------------------------


def checkpoint(directory: Path) -> Path:
    """The model in Hugging Face's layout, without weights: what a front end reads of it."""
    tokenizer = load_tokenizer(models.resolve(MODEL).path)
    with zipfile.ZipFile(io.BytesIO(tokenizer_zip(tokenizer))) as files:
        files.extractall(directory)
    shape = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "dtype": "float32", **shape}
    config |= {"num_key_value_heads": 3, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": 1 << 16}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


_QUIET: Final = ("--store", "none", "--log-level", "warning", "--max-in-flight", "4096")
_SERVE: Final = ("serve", "--port", "{port}", *_QUIET)
_REPLAY: Final = ("--engine", "replay:{script}", "--replay-rate", "{rate}")
_VLLM: Final = ("--host", "127.0.0.1", "--port", "{port}", "--served-model-name", MODEL)
_ELSEWHERE: Final = ("--data-parallel-size-local", "0", "--data-parallel-address", "127.0.0.1")
_WAITING: Final = (*_ELSEWHERE, "--data-parallel-rpc-port", "{engine}")

_HOST: Final = (*portico(), "engine", *_REPLAY, "--grpc-port", "{engine}")
_GRPC: Final = (*portico(), "serve", *_REPLAY, "--port", "{unused}", "--grpc-port", "{engine}", *_QUIET)
_CORE: Final = (
    *(sys.executable, str(Path(__file__).with_name("vllm_core.py"))),
    *("--front-end", "tcp://127.0.0.1:{engine}", "--script", "{script}", "--rate", "{rate}"),
)

FRONT_DOORS: Final = (
    FrontDoor("portico, engine inside", portico, (*_SERVE, *_REPLAY)),
    FrontDoor("portico, portico://", portico, (*_SERVE, "--engine", "portico://127.0.0.1:{engine}"), _HOST),
    FrontDoor("portico, grpc://", portico, (*_SERVE, "--engine", "grpc://127.0.0.1:{engine}"), _GRPC),
    FrontDoor(
        "smg, grpc://",
        beside("smg", "pip install 'portico[gateways]'"),
        (
            *("launch", "--backend", "vllm", "--worker-urls", "grpc://127.0.0.1:{engine}", "--log-level", "error"),
            *("--host", "127.0.0.1", "--port", "{port}", "--prometheus-port", "{other}"),
        ),
        _GRPC,
    ),
    FrontDoor("vllm-rs, engine core", vllm_rs, ("serve", "{checkpoint}", *_VLLM, *_WAITING), _CORE),
    FrontDoor(
        "vllm serve, engine core",
        beside("vllm", "pip install vllm"),
        ("serve", "{checkpoint}", *_VLLM, *_WAITING),
        _CORE,
        {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
    ),
    FrontDoor("llama.cpp's server", llama_server, ()),
)
