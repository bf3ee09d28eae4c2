"""Fill in the middle: what stands before and behind a gap, as the tokens that a code model was trained to fill it from.

A family has three tokens and an order; which family a model is of, its vocabulary says. The words between the tokens
are the client's and cannot become tokens of the kind.
"""

from __future__ import annotations

from collections.abc import Sequence

from portico.prompting.tokenizers import Tokenizer

__all__ = ["can_infill", "infill_ids"]


PREFIX, SUFFIX = "{prefix}", "{suffix}"

# How families write a gap: tokens in their order, and where the texts go
GAPS = (
    ("<|fim_prefix|>", PREFIX, "<|fim_suffix|>", SUFFIX, "<|fim_middle|>"),  # Qwen, CodeGemma, Phi, Granite 4
    ("<fim_prefix>", PREFIX, "<fim_suffix>", SUFFIX, "<fim_middle>"),  # StarCoder, Granite, Refact
    ("<fim-prefix>", PREFIX, "<fim-suffix>", SUFFIX, "<fim-middle>"),  # SantaCoder
    ("<｜fim▁begin｜>", PREFIX, "<｜fim▁hole｜>", SUFFIX, "<｜fim▁end｜>"),  # DeepSeek
    ("▁<PRE>", PREFIX, "▁<SUF>", SUFFIX, "▁<MID>"),  # Code Llama
    ("<PRE>", PREFIX, "<SUF>", SUFFIX, "<MID>"),
    ("<|code_prefix|>", PREFIX, "<|code_suffix|>", SUFFIX, "<|code_middle|>"),  # GLM
    ("<[fim-suffix]>", SUFFIX, "<[fim-prefix]>", PREFIX, "<[fim-middle]>"),  # Seed-Coder
    ("[SUFFIX]", SUFFIX, "[PREFIX]", PREFIX),  # Codestral
)
REPOSITORY = (("<|repo_name|>", "<|file_sep|>"), ("<repo_name>", "<file_sep>"), ("<reponame>", "<file_sep>"))


def can_infill(tokenizer: Tokenizer) -> bool:
    """Whether the model has tokens for a gap."""
    return _family(tokenizer) is not None


def infill_ids(
    tokenizer: Tokenizer, prefix: str, suffix: str, files: Sequence[tuple[str, str]] = ()
) -> list[int] | None:
    """The prompt for what belongs between ``prefix`` and ``suffix``; None where the model has no tokens for a gap.

    ``files`` are other files, as name and text, in front of it: as files of a repository where the model knows such,
    else as text.
    """
    gap = _family(tokenizer)
    if gap is None:
        return None
    texts = {PREFIX: prefix, SUFFIX: suffix}
    ids = [*tokenizer.special.prefix_ids, *_context(tokenizer, files)]
    for piece in gap:
        ids += _words(tokenizer, texts[piece]) if piece in texts else [_known(tokenizer, piece)]
    return ids


def _family(tokenizer: Tokenizer) -> tuple[str, ...] | None:
    for gap in GAPS:
        if all(piece in (PREFIX, SUFFIX) or tokenizer.token_to_id(piece) is not None for piece in gap):
            return gap
    return None


def _context(tokenizer: Tokenizer, files: Sequence[tuple[str, str]]) -> list[int]:
    """Other files, each behind its name."""
    if not files:
        return []
    for repository, file in REPOSITORY:
        if tokenizer.token_to_id(repository) is not None and tokenizer.token_to_id(file) is not None:
            ids = [_known(tokenizer, repository), *_words(tokenizer, "repository\n")]
            for name, text in files:
                ids += [_known(tokenizer, file), *_words(tokenizer, f"{name}\n{text}\n")]
            return [*ids, _known(tokenizer, file), *_words(tokenizer, "file\n")]
    return _words(tokenizer, "".join(f"{name}\n{text}\n\n" for name, text in files))


def _words(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode_pieces([text])


def _known(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    assert found is not None
    return found
