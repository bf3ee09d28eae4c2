"""The catalogue that Codex reads: what it says of a model is what the model's template and engine can do."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from portico.prompting import ChatTemplate, Prompter
from portico.prompting.renderers.harmony import HarmonyRenderer
from portico.protocols.responses.catalogue import catalogue
from support.generation import tiny_model, tiny_tokenizer
from support.replay import replaying
from support.templates import MODERN, STRICT


def entry(renderer: Any, **facts: Any) -> dict[str, Any]:
    tokenizer = tiny_tokenizer()
    source = ChatTemplate(renderer, tokenizer.special_tokens) if isinstance(renderer, str) else renderer
    model = tiny_model(prompter=Prompter(tokenizer, source), **{"reasoning_parser": "qwen3", **facts})
    [found] = catalogue([("tiny", model)])
    return found


@pytest.mark.parametrize(
    ("renderer", "efforts", "usual"),
    [
        (MODERN, ["none", "medium"], "medium"),  # a switch
        (STRICT, [], None),  # no word for it
        ("{{ raise_exception('not so short') }}", [], None),
        (HarmonyRenderer(), ["low", "medium", "high"], "medium"),
    ],
    ids=["switch", "none", "refuses", "efforts"],
)
def test_how_hard_it_can_think_is_what_its_template_tells_apart(
    renderer: Any, efforts: list[str], usual: str | None
) -> None:
    found = entry(renderer)
    assert [level["effort"] for level in found["supported_reasoning_levels"]] == efforts
    assert found["default_reasoning_level"] == usual
    assert entry(renderer, reasoning_parser=None)["supported_reasoning_levels"] == []


def test_it_stands_beside_openais_list_for_those_who_tell_their_version() -> None:
    with replaying({"a": "b"}, names=("tiny", "small"), context_length=9000) as up:
        plain = httpx.get(up.url + "/v1/models").json()
        found = httpx.get(up.url + "/v1/models?client_version=0.171.0").json()
    assert "models" not in plain
    assert found.pop("models")[1]["slug"] == "small"
    assert found == plain
    assert catalogue([("e", tiny_model(capabilities=frozenset({"embed"})))]) == []
