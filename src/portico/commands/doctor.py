"""``portico doctor``: what this machine has, what would be used, and what mends what is missing."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any, Literal, NamedTuple

import rich_click as click
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from portico import __version__
from portico.commands.options import settings_from, settings_options
from portico.config import Settings
from portico.engines.llamacpp.libllama import advice
from portico.extras import installing
from portico.models.quantisation import free_memory
from portico.terminal import Terminal, echo

__all__ = ["command"]

MARKS = {"ok": ("✓", "green"), "absent": ("–", "dim"), "broken": ("✗", "red")}
EXTRAS = {"grpc": "grpc", "mcp": "mcp", "mistral_common": "mistral", "opentelemetry.sdk": "otel", "psycopg": "postgres"}
LEAST_ROOM = 1 << 30  # bytes of disk below which no model fits


class Finding(NamedTuple):
    """One thing that was looked at. ``absent`` is what can be done without; ``mend`` is a command or advice."""

    what: str
    state: Literal["ok", "absent", "broken"]
    found: str
    mend: str = ""


@click.command("doctor")
@settings_options(["host", "port", "store"])
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config: Path | None, as_json: bool, **given: Any) -> None:
    """Look at this machine: what it has, what would be used, what is missing and the command that mends it.

    Ends with status 1 where something is broken that 'portico serve' needs.
    """
    found = list(_findings(settings_from(config, given)))
    if as_json:
        echo(json.dumps([one._asdict() for one in found], ensure_ascii=False, indent=2))
    else:
        table = Table("", "what", "found", box=None, show_header=False, pad_edge=False)
        for one in found:
            mark, style = MARKS[one.state]
            mend = Text(f"\n→ {one.mend}", style="bold") if one.mend else Text("")
            table.add_row(Text(mark, style=style), Text(one.what), Text(one.found) + mend)
        Terminal(highlight=False).print(table)
    if any(one.state == "broken" for one in found):
        sys.exit(1)


def _findings(settings: Settings) -> Iterator[Finding]:
    yield Finding("portico", "ok", f"{__version__}, Python {platform.python_version()}, {_system()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("cores", "ok", f"{cores} of {os.cpu_count()}; the engine would use {settings.threads or cores}")
    yield _memory()
    gpu = _gpu()
    yield Finding("GPU", "ok" if gpu else "absent", gpu or "no NVIDIA GPU that nvidia-smi shows")
    yield _engine()
    yield _vllm(bool(gpu))
    yield from _extras()
    yield from _models(settings)
    yield _store(settings)
    yield _port(settings)


def _system() -> str:
    library, version = platform.libc_ver()
    return f"{platform.system()} {platform.machine()}" + (f", {library} {version}" if library else "")


def _memory() -> Finding:
    """What a quantisation is chosen by."""
    free = free_memory()
    if free is None:
        return Finding("memory", "absent", "this system does not tell")
    return Finding("memory", "ok", f"{decimal(free)} free for a model and its cache")


def _gpu() -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "; ".join(done.stdout.split("\n")).strip("; ") if done.returncode == 0 else ""


def _engine() -> Finding:
    try:
        import_module("xllamacpp")
    except ImportError as error:
        return Finding("embedded engine", "broken", str(error).replace("\n", " "), advice(error))
    return Finding("embedded engine", "ok", f"llama.cpp, by xllamacpp {metadata.version('xllamacpp')}")


def _vllm(wanted: bool) -> Finding:
    try:
        return Finding("vLLM", "ok", f"{metadata.version('vllm')}, used with --engine vllm")
    except metadata.PackageNotFoundError:
        install = installing("vllm") if wanted else ""
        return Finding("vLLM", "absent", "not installed; it is for GPUs", install)


def _extras() -> Iterator[Finding]:
    for module, extra in EXTRAS.items():
        if util.find_spec(module.partition(".")[0]) is None:
            yield Finding(f"portico[{extra}]", "absent", "not installed", installing(extra))


def _models(settings: Settings) -> Iterator[Finding]:
    from portico import models

    root = models.models_root()
    here = [model.spec for model in models.installed()]
    yield _room("models", root, f"{root}: {', '.join(here) or 'none yet'}", "set PORTICO_CACHE to another disk")
    wanted = settings.model
    known = wanted in here or Path(wanted).expanduser().is_file()
    fetch = "" if known else f"portico pull {wanted}"
    yield Finding("model", "ok" if known else "absent", f"{wanted} would be served", fetch)


def _store(settings: Settings) -> Finding:
    from portico.server.process.kept import place_of

    where = place_of(settings)
    if where is None:
        return Finding("store", "absent", "nothing is kept (--store none)")
    if "://" in where:
        return Finding("store", "ok", f"{where.partition('://')[0]}, a database server")
    return _room("store", Path(where).expanduser().parent, where, "name another place with --store")


def _room(what: str, directory: Path, found: str, mend: str) -> Finding:
    """Whether there can be written, and how much."""
    place = next(one for one in (directory, *directory.parents) if one.exists())
    if not os.access(place, os.W_OK):
        return Finding(what, "broken", f"{found}: {place} cannot be written to", mend)
    free = shutil.disk_usage(place).free
    state: Literal["ok", "broken"] = "ok" if free >= LEAST_ROOM else "broken"
    return Finding(what, state, f"{found}; {decimal(free)} free", "" if state == "ok" else f"make room, or {mend}")


def _port(settings: Settings) -> Finding:
    where = f"{settings.host}:{settings.port}"
    try:
        family = socket.getaddrinfo(settings.host, settings.port)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        return Finding(
            "port", "broken", f"{where}: {error.strerror or error}", "portico serve --port 0 takes a free one"
        )
    return Finding("port", "ok", f"{where} is free")
