"""Detection: each family by its own markers; the shared corpus of real templates, measured."""

from __future__ import annotations

import csv
import json
import tarfile
from collections import Counter

import pytest

from portico.parsing import detect, families, reasoning_names, tool_names
from support.shared import shared_path

CLUES = [(family, clues) for family in families().values() for clues in family.clues]


@pytest.mark.parametrize(("family", "clues"), CLUES, ids=[f"{f.name}-{i}" for i, (f, _) in enumerate(CLUES)])
def test_clues_name_parsers_that_exist_and_find_them(family, clues) -> None:  # type: ignore[no-untyped-def]
    assert clues.tools is None or clues.tools in tool_names()
    assert clues.reasoning is None or clues.reasoning in reasoning_names()
    found = detect(" ".join((*clues.every, *clues.some[:1])))
    if clues.tools:
        assert found.tool_parser is not None
    if clues.reasoning:
        assert found.reasoning_parser is not None


@pytest.mark.parametrize(
    "name", [name for name in tool_names() if name not in ("hf", "json", "qwen3_json", "qwen3_xml")]
)
def test_every_tool_parser_has_a_clue_or_shares_one(name: str) -> None:
    family = next(family for family in families().values() if name in family.tools)
    clued = {clues.tools for clues in family.clues}
    assert clued - {None} or name in ("kimi_vl",), f"{family.name} cannot be detected"


def test_small_templates() -> None:
    hermes = "{{ '<tool_call>\\n{\"name\": ' }}{{ '\"arguments\": ' }}<think>"
    assert detect(hermes)[:3] == ("hermes", "qwen3", "hermes")
    assert detect({"default": "{{ messages }}", "tool_use": hermes}).tool_parser == "hermes"
    assert detect("<tool_call>\n<function=f>\n<parameter=a>").tool_parser == "qwen3_coder"
    assert detect("{{ '[TOOL_CALLS]' }}").tool_parser == "mistral"
    unknown = detect("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert unknown[:3] == (None, None, None)
    assert "content" in unknown.why
    assert detect(None).tool_parser is None


# What each family of the corpus should be found as, where its template shows the model how to call tools.
EXPECTED = {
    "apertus": {"apertus"}, "apriel": {"apriel15"}, "bielik": {"hermes"},
    "cohere": {"cohere_command3", "cohere_command4", "cohere_command_r"},
    "deepseek": {"deepseek_v3", "deepseek_v31", "deepseek_v32", "deepseek_v4"}, "exaone": {"hermes"},
    "functionary": {"functionary_v31"}, "gemma": {"gemma4", "functiongemma", "pythonic"}, "gigachat": {"gigachat3"},
    "glm": {"glm45", "glm47"}, "gpt-oss": {"openai"}, "granite": {"granite", "granite4", "granite-20b-fc"},
    "hermes": {"hermes"}, "hunyuan": {"hunyuan_a13b"}, "internlm": {"internlm"}, "jamba": {"jamba"},
    "kimi": {"kimi_k2"},
    "laguna": {"poolside_v1"}, "lfm2": {"lfm2"}, "llama3": {"llama3_json"}, "llama4": {"llama4_json"},
    "minicpm": {"minicpm5", "hermes"}, "minimax": {"minimax_m2", "minimax_m3"}, "mistral": {"mistral"},
    "muse": {"muse_glimmer"}, "nemotron": {"nemotron_deci", "qwen3_coder"}, "qwen": {"hermes", "qwen3_coder"},
    "reka": {"hermes"}, "seed-oss": {"seed_oss"}, "step": {"step3p5"}, "toolace": {"pythonic"},
}  # fmt: skip


# Labels that the templates themselves contradict. Marked as thinking: the word stands in prose, or in a remark that the
# model never thinks. Marked as not: the template cuts at ``</think>`` what DeepSeek-R1 wrote.
MISLABELLED = {
    "llamacpp__GigaChat3-10B-A1.8B.jinja", "llamacpp__GigaChat3.1-10B-A1.8B.jinja", "llamacpp__Qwen3-Coder.jinja",
    "llamacpp__unsloth-mistral-Devstral-Small-2507.jinja", "vllm__tool_chat_template_qwen3coder.jinja",
    "trl__qwen3_instruct_2507_training.jinja",
    "tokcfg__DeepSeek-R1-Distill-Qwen-32B.jinja", "vllm__tool_chat_template_deepseekr1.jinja",
    "axolotl__deepseek_v3.jinja",
}  # fmt: skip


def test_templates_of_the_corpus() -> None:
    rows = list(csv.DictReader(shared_path("corpus/chat_templates.tsv").open(), delimiter="\t"))
    with tarfile.open(shared_path("corpus/chat_templates.tar.xz")) as archive:
        files = {member.name.rsplit("/", 1)[-1]: archive.extractfile(member) for member in archive if member.isfile()}
        sources = {name: file.read().decode() for name, file in files.items() if file is not None}
    outcome: Counter[str] = Counter()
    wrong = []
    for row in rows:
        special = json.loads(row["special"] or "{}")
        found = detect(sources[row["file"]], [value for value in special.values() if isinstance(value, str)])
        if (row["reasoning"] == "y") != (found.reasoning_parser is not None) and row["file"] not in MISLABELLED:
            wrong.append((row["file"], found))
        if row["tools"] == "n" and found.tool_parser is not None:
            wrong.append((row["file"], found))
        if row["tool_calls"] == "y":
            right = found.tool_parser in EXPECTED.get(row["family"], set())
            outcome["right" if right else "wrong"] += 1
            if not right:
                wrong.append((row["file"], found))
    assert wrong == []
    assert outcome["right"] >= 90
