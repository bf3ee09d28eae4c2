"""Mistral's models, whose reference is the package mistral-common: it writes tokens, not text.

Every version of their tokenizer has its own format, so the reference itself does the writing (``portico[mistral]``). We
bring the conversation into the form it takes: call ids of nine letters or digits, arguments as text, thoughts only
where the version knows them. Media are refused: the reference would fetch them itself, past the guarded fetcher.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from portico.errors import BadRequestError, NotSupportedError
from portico.extras import installing
from portico.prompting.capabilities import Capabilities
from portico.prompting.messages import normalise
from portico.prompting.renderers.base import Rendered, RenderRequest, plain_tools
from portico.prompting.syntax import Syntax
from portico.prompting.tail import prompt_tail
from portico.prompting.variables import EFFORTS, nearest_effort, request_variables

__all__ = ["MistralRenderer"]

TAKES = Capabilities(object_arguments=False, short_call_ids=True)
SYNTAX = Syntax("string", frozenset({"reasoning_effort"}), {})
HEADERS = ("[/INST]", "[/TOOL_RESULTS]")
KNOWN_KEYS = ("role", "content", "tool_calls", "tool_call_id", "name", "reasoning")
THINKS, TAKES_EFFORT = 13, 15  # tokenizer versions


class MistralRenderer:
    """Writes prompts with the tokenizer file at ``path``: ``tekken.json`` or ``tokenizer.model.v*``.

    Raises ``NotSupportedError`` where mistral-common is not installed.
    """

    def __init__(
        self, path: str | Path, *, defaults: Mapping[str, Any] | None = None, allowed: Collection[str] = ()
    ) -> None:
        try:
            from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
        except ImportError:
            raise NotSupportedError(
                "This model's prompts are written by mistral-common, which is not installed: "
                f"{installing('mistral')}, or start the server with --chat-template."
            ) from None
        self.defaults = dict(defaults or {})
        self.allowed = frozenset(allowed)
        self._tokenizer: Any = MistralTokenizer.from_file(str(path))
        self._version = int("".join(filter(str.isdigit, str(self._tokenizer.version.value)))[:2] or 0)
        self._lock = threading.Lock()  # the reference does not promise to be safe to share

    def render(self, request: RenderRequest) -> Rendered:
        from mistral_common.exceptions import MistralCommonException
        from mistral_common.protocol.instruct.request import ChatCompletionRequest
        from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
        from pydantic import ValidationError

        opens = request.opens_answer
        conversation = normalise(request.messages_with_schema, TAKES)
        kwargs, passed_over = request_variables(request.kwargs, SYNTAX, allowed=self.allowed)
        messages = [{key: message[key] for key in KNOWN_KEYS if key in message} for message in conversation.messages]
        if not opens and not request.continue_final_message:
            raise NotSupportedError(
                "This model's prompts always end where an answer begins: leave add_generation_prompt out.",
                param="add_generation_prompt",
            )
        for message in messages:
            if self._version < THINKS:
                message.pop("reasoning", None)
            if message["role"] != "tool":
                message.pop("name", None)
        effort = kwargs.get("reasoning_effort") or request.reasoning_effort or self.defaults.get("reasoning_effort")
        extra = {"reasoning_effort": nearest_effort(str(effort), EFFORTS)} if effort else {}
        if self._version < TAKES_EFFORT:
            extra = {}
        try:
            asked: Any = ChatCompletionRequest.from_openai(
                messages,
                plain_tools(request.tools, full=True),
                continue_final_message=bool(request.continue_final_message),
                **extra,
            )
            with self._lock:
                ids = list(self._tokenizer.encode_chat_completion(asked).tokens)
                text = self._tokenizer.decode(ids, special_token_policy=SpecialTokenPolicy.KEEP)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(step) for step in first["loc"])
            raise BadRequestError(
                f"This model cannot take the conversation: {where}: {first['msg']}", param="messages"
            ) from None
        except (MistralCommonException, ValueError, TypeError, AssertionError) as error:
            raise BadRequestError(
                f"This model cannot take the conversation: {str(error)[:1000]}", param="messages"
            ) from None
        return Rendered(
            text=text,
            token_ids=ids,
            tail=prompt_tail(text, HEADERS),
            begins_with_bos=True,
            passed_over=passed_over,
            left_out=conversation.left_out,
        )
