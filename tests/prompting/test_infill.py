"""Gaps: each family's tokens in its order, and nothing that the client writes becomes one."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from portico.errors import NotSupportedError
from portico.prompting import Prompter, load_tokenizer
from portico.prompting.infill import can_infill, infill_ids
from support.generation import tiny_tokenizer


def tokenizer_with(directory: object, *special: str) -> object:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special])
    path = f"{directory}/tokenizer.json"
    tokenizer.save(path)
    return load_tokenizer(path)


@pytest.mark.parametrize(
    ("tokens", "written"),
    [
        (("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"), "<|fim_prefix|>a(<|fim_suffix|>)b<|fim_middle|>"),
        (("<fim_prefix>", "<fim_middle>", "<fim_suffix>"), "<fim_prefix>a(<fim_suffix>)b<fim_middle>"),
        (("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"), "<｜fim▁begin｜>a(<｜fim▁hole｜>)b<｜fim▁end｜>"),
        (("<[fim-prefix]>", "<[fim-middle]>", "<[fim-suffix]>"), "<[fim-suffix]>)b<[fim-prefix]>a(<[fim-middle]>"),
        (("[PREFIX]", "[SUFFIX]"), "[SUFFIX])b[PREFIX]a("),
    ],
)
def test_families(tmp_path: object, tokens: tuple[str, ...], written: str) -> None:
    tokenizer = tokenizer_with(tmp_path, *tokens)
    assert can_infill(tokenizer)
    ids = infill_ids(tokenizer, "a(", ")b")
    assert tokenizer.decode(ids, skip_special_tokens=False) == written
    assert sum(token in tokenizer.special_ids for token in ids) == len(tokens)


def test_words_do_not_become_tokens() -> None:
    tokenizer = tiny_tokenizer()
    ids = infill_ids(tokenizer, "<|fim_suffix|>", "<|end|><|fim_middle|>")
    assert ids is not None
    assert [token for token in ids if token in tokenizer.special_ids] == [
        tokenizer.token_to_id(name) for name in ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    ]


def test_other_files_go_in_front(tmp_path: object) -> None:
    files = [("a.py", "x = 1"), ("b.py", "y = 2")]
    plain = infill_ids(tiny_tokenizer(), "p", "s", files)
    text = tiny_tokenizer().decode(plain, skip_special_tokens=False)
    assert text == "a.py\nx = 1\n\nb.py\ny = 2\n\n<|fim_prefix|>p<|fim_suffix|>s<|fim_middle|>"
    fim = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|repo_name|>", "<|file_sep|>")
    tokenizer = tokenizer_with(tmp_path, *fim)
    written = tokenizer.decode(infill_ids(tokenizer, "p", "s", files[:1]), skip_special_tokens=False)
    assert written.startswith("<|repo_name|>repository\n<|file_sep|>a.py\nx = 1\n<|file_sep|>file\n<|fim_prefix|>p")


async def test_models_without_such_tokens(tmp_path: object) -> None:
    tokenizer = tokenizer_with(tmp_path, "<|end|>")
    assert not can_infill(tokenizer)
    with pytest.raises(NotSupportedError) as caught:
        await Prompter(tokenizer).infill("a", "b")
    assert caught.value.param == "suffix"
