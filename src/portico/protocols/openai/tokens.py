"""``/tokenize``, ``/detokenize`` and the ``render`` routes: what a request becomes, in vLLM's shapes."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import Field, model_validator

from portico.decoding import Detokenizer
from portico.errors import BadRequestError
from portico.generation import Generation, Model
from portico.prompting import Prompt
from portico.protocols.bounds import BATCH, IDS, Objects, TokenIds, batches, largest
from portico.protocols.openai.schema import MOST_MESSAGES, ConversationFields
from portico.protocols.validation import RequestModel, fault

__all__ = ["DetokenizeRequest", "TokenizeRequest", "detokenized", "rendered", "tokenized", "tokenizer_info"]


class TokenizeRequest(ConversationFields):
    """POST /tokenize: a text, or a conversation as in chat completions."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[Objects, Field(min_length=1, max_length=MOST_MESSAGES)] | None = None
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise fault("prompt", "send either 'prompt' or 'messages'")
        return self


class DetokenizeRequest(RequestModel):
    """POST /detokenize."""

    model: str | None = None
    tokens: Annotated[TokenIds, IDS]
    skip_special_tokens: bool | None = None


def tokenized(request: TokenizeRequest, prompt: Prompt, model: Model) -> dict[str, Any]:
    """The answer of ``/tokenize``."""
    body: dict[str, Any] = {
        "count": len(prompt.token_ids),
        "max_model_len": model.context_length,
        "tokens": prompt.token_ids,
    }
    if request.return_token_strs:
        body["token_strs"] = [model.tokenizer.id_to_token(token) for token in prompt.token_ids]
    return body


def detokenized(request: DetokenizeRequest, model: Model) -> dict[str, Any]:
    """The answer of ``/detokenize``."""
    if request.tokens and largest(request.tokens) >= model.vocab_size:
        raise BadRequestError(f"'tokens' holds an id beyond the vocabulary of {model.vocab_size}.", param="tokens")
    skip = bool(request.skip_special_tokens)
    if len(request.tokens) <= BATCH:
        return {"prompt": model.tokenizer.decode(request.tokens, skip_special_tokens=skip)}
    decoder = Detokenizer(model.tokenizer, skip_special_tokens=skip)  # holds nothing up, and what it takes is little
    pieces = [decoder.feed(ids) for ids in batches(request.tokens)]
    return {"prompt": "".join(pieces) + decoder.close()}


def tokenizer_info(model: Model) -> dict[str, Any]:
    """The answer of ``/tokenizer_info``: what a ``tokenizer_config.json`` says, in its words."""
    tokenizer = model.tokenizer
    special = {
        str(token): {"content": name, "special": token in tokenizer.special_ids}
        for name, token in sorted(tokenizer.added_tokens.items(), key=lambda one: one[1])
    }
    return {
        "tokenizer_class": tokenizer.kind,
        **tokenizer.special_tokens,
        "added_tokens_decoder": special,
        "vocab_size": tokenizer.vocab_size,
        "model_max_length": model.context_length,
        **({} if tokenizer.chat_template is None else {"chat_template": tokenizer.chat_template}),
    }


def rendered(generation: Generation, prompt: Prompt) -> dict[str, Any]:
    """The answer of a ``render`` route: the request as the engine would get it."""
    spec = generation.spec
    return {
        "request_id": spec.request_id,
        "prompt": prompt.text,
        "token_ids": list(spec.prompt_ids),
        "n": spec.n,
        "stop": list(spec.stop),
        "sampling_params": msgspec.to_builtins(spec.sampling, str_keys=True, order="deterministic"),
        "constraint": None if spec.constraint is None else spec.constraint.lark,
    }
