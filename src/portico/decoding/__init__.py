"""Tokens become text: the streaming detokenizer, stop strings, and log-probabilities in OpenAI's shapes."""

from portico.decoding.detokenizer import Detokenizer
from portico.decoding.logprobs import CompletionLogprobs, chat_logprobs, prompt_logprobs
from portico.decoding.stops import StopStrings

__all__ = ["CompletionLogprobs", "Detokenizer", "StopStrings", "chat_logprobs", "prompt_logprobs"]
