"""Many requests in one: OpenAI's batches and Anthropic's message batches, two views of one record."""
