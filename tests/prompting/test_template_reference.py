"""Our templates as the reference renders them: plain Jinja2, set up as transformers sets it up, byte for byte.

The same law over 179 real templates and transformers itself is in ``test_golden.py``.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from portico.errors import BadRequestError
from portico.prompting import ChatTemplate
from support.templates import MODERN, OLD, PARTS, STRICT

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
CALL = {
    "id": "a1B2c3D4e",
    "type": "function",
    "function": {"name": "weather", "arguments": {"city": "Köln <b>", "n": 2}},
}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": 'It\'s "hot" & <b>', "parameters": {}}}]
USER, SYSTEM = {"role": "user", "content": "Hi 🦜\n\n  there "}, {"role": "system", "content": "Be brief."}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "a question": [USER],
    "with a system message": [SYSTEM, USER],
    "turns": [USER, {"role": "assistant", "content": "Hello.", "reasoning_content": "Hm?\n"}, USER],
    "a call": [SYSTEM, USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}],
    "its result": [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "a1B2c3D4e", "content": "sunny"},
    ],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}],
    "nobody": [],
}
TEMPLATES = {
    "modern": MODERN,
    "strict": STRICT,
    "old": OLD,
    "parts": PARTS,
    "blocks": "  {% for m in messages %}\n  {{ m.role }}\n    {% if loop.last %}\n{{ m | tojson(indent=2) }}\n"
    "    {% endif %}\n{% endfor %}\n",
    "loops": "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{{ loop.index }}"
    "{{ m.content | trim }}{% if loop.index > 1 %}{% break %}{% endif %}{% endfor %}\n\n",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
}


def reference(source: str, messages: list[dict[str, Any]], **more: Any) -> str | None:
    """What plain Jinja2 makes of it; None where the template or Jinja refuses."""

    def refuse(message: str) -> None:
        raise ValueError(message)

    def to_json(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    source = source.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    try:
        return environment.from_string(source).render(messages=messages, **TOKENS, **more)
    except Exception:
        return None


@pytest.mark.parametrize("tools", [None, TOOLS], ids=["", "tools"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_rendering_byte_for_byte(name: str, tools: Any) -> None:
    template = ChatTemplate(TEMPLATES[name], TOKENS)
    rendered = 0
    for about, messages in CONVERSATIONS.items():
        for prompt in (True, False):
            try:
                text: str | None = template.render(messages, tools, add_generation_prompt=prompt)
            except BadRequestError:
                text = None
            expected = reference(TEMPLATES[name], messages, tools=tools, add_generation_prompt=prompt)
            assert text == expected, (about, prompt)
            rendered += text is not None
    assert rendered >= 4
