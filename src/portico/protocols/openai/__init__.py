"""OpenAI's API: chat completions, completions, embeddings, models (platform.openai.com/docs/api-reference).

Field names and defaults are OpenAI's; extension fields have vLLM's names. Where the two differ, OpenAI's holds.
"""
