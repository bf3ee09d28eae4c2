"""LiteLLM against a server, in a process of its own: ``python litellm_client.py URL KEY``. Prints one JSON value.

It wants an older ``openai`` than the one the other tests use, so it may live in an environment of its own; then
``PORTICO_LITELLM_PYTHON`` is that environment's interpreter.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # prices would be fetched from the network

import litellm
from pydantic import BaseModel

litellm.telemetry = False
litellm.suppress_debug_info = True

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}]


class City(BaseModel):
    city: str


def ask(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def main(url: str, key: str) -> dict[str, Any]:
    where = {"api_base": f"{url}/v1", "api_key": key, "num_retries": 0}
    told: dict[str, Any] = {}
    for provider in ("openai", "hosted_vllm"):
        common: dict[str, Any] = {"model": f"{provider}/tiny", "max_tokens": 4000, **where}

        whole = litellm.completion(messages=ask("[[thinks]]"), **common)
        chunks = list(
            litellm.completion(
                messages=ask("[[thinks]]"), stream=True, stream_options={"include_usage": True}, **common
            )
        )
        rebuilt = litellm.stream_chunk_builder(chunks)
        request = ask("[[calls]]")
        first = litellm.completion(messages=request, tools=TOOLS, **common).choices[0]
        streamed = litellm.stream_chunk_builder(
            list(litellm.completion(messages=request, tools=TOOLS, stream=True, **common))
        ).choices[0]
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": "sunny [[answer]]"}
            for call in first.message.tool_calls
        ]
        second = litellm.completion(messages=[*request, first.message, *results], tools=TOOLS, **common).choices[0]
        structured = litellm.completion(messages=ask("[[json]]"), response_format=City, **common)
        later = asyncio.run(litellm.acompletion(messages=ask("[[plain]]"), **common))
        errors = []
        for bad in ({"model": f"{provider}/nobody"}, {"temperature": -1}, {"api_key": "wrong"}):
            try:
                litellm.completion(messages=ask("x"), **{**common, **bad})
            except Exception as error:
                errors.append(type(error).__name__)
        told[provider] = {
            "text": whole.choices[0].message.content,
            "reasoning": getattr(whole.choices[0].message, "reasoning_content", None),
            "usage": [whole.usage.prompt_tokens, whole.usage.completion_tokens],
            "rebuilt": rebuilt.choices[0].message.content,
            "rebuilt_reasoning": getattr(rebuilt.choices[0].message, "reasoning_content", None),
            "rebuilt_usage": [rebuilt.usage.prompt_tokens, rebuilt.usage.completion_tokens],
            "finish": [first.finish_reason, streamed.finish_reason],
            "calls": [[json.loads(c.function.arguments) for c in m.message.tool_calls] for m in (first, streamed)],
            "second": second.message.content,
            "structured": City.model_validate_json(structured.choices[0].message.content).city,
            "later": later.choices[0].message.content,
            "errors": errors,
        }
    embedded = litellm.embedding(model="openai/tiny", input=["a", "b"], **where)
    told["embeddings"] = [len(one["embedding"]) for one in embedded.data]
    text = litellm.text_completion(model="text-completion-openai/tiny", prompt="[[plain]]", max_tokens=100, **where)
    told["text_completion"] = text.choices[0].text
    return told


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
