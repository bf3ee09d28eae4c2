"""Tokens become text: the streaming detokenizer, stop strings, and log-probabilities in OpenAI's shapes."""

from portico.decoding.detokenizer import Detokenizer

__all__ = ["Detokenizer"]
