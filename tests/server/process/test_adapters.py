"""Adapters of the embedded engine as models of a server: given at start, loaded and unloaded by clients, and back after
an unload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from support import tiny_models
from support.server import SAFETY, running_server


def test_adapters_are_models(tmp_path: Path) -> None:
    model = tiny_models.write("llama", tmp_path / "tiny.gguf")
    (tmp_path / "more").mkdir()
    first = tiny_models.write_adapter(model, tmp_path / "first.gguf")
    tiny_models.write_adapter(model, tmp_path / "more" / "second.gguf", seed=2)
    with running_server(model, "--lora", f"first={first}", "--lora-dir", tmp_path / "more") as server:

        def ask(path: str, **body: Any) -> httpx.Response:
            return httpx.post(server.url + path, json=body, timeout=SAFETY)

        def said(name: str) -> str:
            body = {"prompt": [5, 9, 14, 3, 7], "max_tokens": 12, "temperature": 0, "ignore_eos": True}
            told = ask("/v1/completions", model=name, **body).json()
            assert told["model"] == name
            return str(told["choices"][0]["text"])

        def parents() -> dict[str, str | None]:
            return {one["id"]: one.get("parent") for one in httpx.get(f"{server.url}/v1/models").json()["data"]}

        assert parents() == {"tiny": None, "first": "tiny"}
        loaded = ask("/v1/load_lora_adapter", lora_name="second", lora_path="second.gguf")
        assert loaded.status_code == 200, loaded.text
        assert parents() == {"tiny": None, "first": "tiny", "second": "tiny"}
        answers = {name: said(name) for name in parents()}
        assert len(set(answers.values())) == 3
        assert ask("/v1/models/tiny/unload").json()["state"] == "unloaded"
        assert {name: said(name) for name in parents()} == answers
        for name in ("first", "second"):
            assert ask("/v1/unload_lora_adapter", lora_name=name).status_code == 200
        assert ask("/v1/models/tiny/unload").json()["state"] == "unloaded"
        assert ask("/v1/models/tiny/load").json()["state"] == "loaded"
        assert parents() == {"tiny": None}
        refused = ask("/v1/load_lora_adapter", lora_name="x", lora_path="../tiny.gguf")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "lora_path")
