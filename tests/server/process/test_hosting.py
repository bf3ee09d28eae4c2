"""``portico engine``: an engine in a process without a front door, and front doors that use it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx
import pytest

from portico.config import load_settings
from portico.errors import BadRequestError
from portico.server.process.hosting import host
from support.certificates import write_pair
from support.server import running_host, running_server
from support.wait import SAFETY, until


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ({"host": "0.0.0.0"}, "--api-key"),
        ({"engine": "portico://other:1"}, "elsewhere"),
        ({"engine": "grpc://other:1"}, "elsewhere"),
        ({"engine": "nonsense"}, "Unknown engine"),
    ],
)
def test_what_cannot_be_hosted_is_told(flags: dict[str, str], word: str, smollm2_path: Path) -> None:
    with pytest.raises(BadRequestError, match=word):
        host(load_settings({"model": str(smollm2_path), **flags}))


@pytest.mark.slow
def test_a_front_door_uses_it_until_it_leaves(smollm2_path: Path, tmp_path: Path) -> None:
    """Over TLS and with a key; told to leave, the host lets a running answer end, and ends well."""
    certificate, private = write_pair(tmp_path, "engine")
    script = tmp_path / "script.jsonl"
    script.write_text(json.dumps({"text": "word " * 30}) + "\n")
    options = ("--engine", f"replay:{script}", "--replay-rate", "40", "--api-key", "k", "--drain-timeout", "600")
    secured = ("--grpc-tls-cert", certificate, "--grpc-tls-key", private)
    with running_host(smollm2_path, *options, *secured) as engine:
        engine.process.send_signal(signal.SIGHUP)  # which ends nothing
        until(lambda: "the settings were read anew: nothing has changed" in engine.log())
        trusted = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificate), "PORTICO_ENGINE_API_KEY": "k"}
        with running_server("--engine", engine.url, "--log-level", "warning", env=trusted) as up:
            ask = {"prompt": "Hi", "stream": True, "max_tokens": 1000}
            text, told = "", False
            with httpx.stream("POST", f"{up.url}/v1/completions", json=ask, timeout=SAFETY) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: {"):
                        text += json.loads(line[6:])["choices"][0]["text"]
                        if not told:
                            told = True
                            engine.process.send_signal(signal.SIGTERM)
            assert text == "word " * 30
            assert engine.process.wait(SAFETY) == 0
            assert "Traceback" not in engine.log() + up.log()
