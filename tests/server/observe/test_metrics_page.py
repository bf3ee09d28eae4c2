"""The page about metrics says what the server counts, all of it and nothing else."""

from __future__ import annotations

import re

from portico.config import Settings
from portico.events import EngineOutput, SamplingParams
from portico.generation import Generation, GenerationSpec
from portico.server.observe.metrics import Metrics
from support.generation import tiny_tokenizer
from support.shared import ROOT

PAGE = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")


def test_the_table_of_metrics() -> None:
    told = re.findall(r"^\| `(portico_\w+)` \| (\w+) \| ([\w, ]*)\| (.+) \|$", PAGE, re.M)
    metrics = Metrics()
    labelled = {
        name.removesuffix("_total"): ", ".join(one._labelnames)
        for one in vars(metrics).values()
        if (name := getattr(one, "_name", None)) and hasattr(one, "_labelnames")
    }
    counted = [
        (
            family.name + {"counter": "_total", "info": "_info"}.get(family.type, ""),
            family.type,
            labelled.get(family.name, ""),
            family.documentation,
        )
        for family in metrics._registry.collect()
        if not family.name.startswith(("process_", "vllm:"))
    ]
    assert [(name, kind, labels.strip(), text) for name, kind, labels, text in told] == counted


def test_a_model_that_drifts_shows() -> None:
    """Recoveries by kind and by the format that the answer was read in."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    rules = SamplingParams(max_tokens=200)
    spec = GenerationSpec(request_id="r", prompt_ids=[1], sampling=rules, tool_parser="hermes", tools=tools)
    generation = Generation(spec, tiny_tokenizer())
    ids = tiny_tokenizer().encode('<tool_call>{"name": "f", "args": {"a": 1}}</tool_call>')
    generation.choices[0].feed(EngineOutput("r-0", ids, finish_reason="stop"))
    metrics = Metrics()
    metrics.over([generation])
    labels = 'kind="arguments under another name",parser="hermes"'
    assert f"portico_parser_recoveries_total{{{labels}}} 1.0" in metrics.render().decode()


def test_every_flag_exists() -> None:
    flags = {"--" + name.replace("_", "-") for name in Settings.model_fields}
    of_commands = {"--follow", "--artifact", "--url", "--export", "--model", "--pull"}
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) <= flags | of_commands
