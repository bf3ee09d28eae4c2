"""Messages become tokens: chat templates, tokenizers, messages and their media.

    tokenizer = load_tokenizer("model-directory")
    template = ChatTemplate(tokenizer.chat_template, tokenizer.special_tokens)
    text = template.render([{"role": "user", "content": "Hi"}], add_generation_prompt=True)

``Prompter`` joins the two for a server: lenient client messages in, the exact prompt of the model out.
"""

from portico.prompting.messages import Conversation, MediaPart, normalise
from portico.prompting.prompter import Prompt, Prompter
from portico.prompting.renderers import JinjaRenderer, Rendered, Renderer, RenderRequest, known_renderer, speaks_harmony
from portico.prompting.tail import prompt_tail
from portico.prompting.template import ChatTemplate
from portico.prompting.tokenizers import Tokenizer, TokenizerError, load_tokenizer

__all__ = [
    "ChatTemplate",
    "Conversation",
    "JinjaRenderer",
    "MediaPart",
    "Prompt",
    "Prompter",
    "RenderRequest",
    "Rendered",
    "Renderer",
    "Tokenizer",
    "TokenizerError",
    "known_renderer",
    "load_tokenizer",
    "normalise",
    "prompt_tail",
    "speaks_harmony",
]
