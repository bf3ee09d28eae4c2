"""Adapters that are loaded and unloaded while the engine runs, and what is refused."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from portico.server.http.app import build_app
from portico.server.http.auth import Keys
from portico.server.http.gate import Gate
from portico.server.line.model import ServedModel
from portico.server.line.offers import Offer, Offers
from portico.server.line.served import Served
from portico.server.routes.adapters import LOAD, UNLOAD, AdapterHandlers
from support.generation import tiny_model


class Taking:
    def __init__(self) -> None:
        self.had: list[tuple[str, str | None]] = []

    async def adapt(self, name: str, path: str | None) -> None:
        self.had.append((name, path))


class House:
    """A server with one model, whose adapters lie in ``directory``."""

    def __init__(self, directory: Path | None, engine: object, *, stays: bool = False) -> None:
        self.offer = Offer(["tiny"], cast(Any, None), lora_dir=directory, stays=stays)
        line = cast(Any, SimpleNamespace(using=nullcontext, engine=engine))
        self.offer.has(ServedModel(tiny_model(), ["tiny"], line))
        self.served = Served(Offers([self.offer]))
        self._app = build_app(AdapterHandlers(self.served).routes(), Keys(()), Gate(4), max_body=1 << 16, host=None)

    def post(self, path: str, **body: Any) -> httpx.Response:
        async def main() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                return await client.post(path, json=body)

        return asyncio.run(main())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("in/poet", "out"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "adapter_config.json").write_text("{}")
    return tmp_path / "in"


def test_they_come_and_go(directory: Path) -> None:
    engine = Taking()
    house = House(directory, engine)
    assert house.post(LOAD, lora_name="bard", lora_path="poet").status_code == 200
    card = house.served.card("bard")
    assert (card.parent, card.root) == ("tiny", "bard")
    assert house.post(LOAD, lora_name="bard", lora_path="poet").status_code == 400
    assert house.post(LOAD, lora_name="bard", lora_path="poet", load_inplace=True).status_code == 200
    assert house.post(UNLOAD, lora_name="bard").status_code == 200
    assert house.post(UNLOAD, lora_name="bard").status_code == 404
    assert not house.served.has("bard")
    path = str(directory / "poet")
    assert engine.had == [("bard", path), ("bard", path), ("bard", None)]


@pytest.mark.parametrize("path", ["../out", "nothing", "poet/..", "/", "poet/../../out", "\x00"])
def test_only_the_operator_s_directory_is_looked_at(path: str, directory: Path) -> None:
    engine = Taking()
    told = House(directory, engine).post(LOAD, lora_name="x", lora_path=path)
    assert told.status_code == 400
    assert told.json()["error"]["param"] == "lora_path"
    assert not engine.had


def test_where_there_are_none(directory: Path) -> None:
    for house, words in (
        (House(None, Taking()), "no --lora-dir"),
        (House(directory, object()), "takes no adapters"),
        (House(directory, Taking(), stays=True), "--workers"),
    ):
        told = house.post(LOAD, lora_name="x", lora_path="poet")
        assert (told.status_code, told.json()["error"]["code"]) == (400, "unsupported")
        assert words in told.json()["error"]["message"]
    assert House(directory, Taking()).post(LOAD, lora_name="tiny", lora_path="poet").status_code == 400
