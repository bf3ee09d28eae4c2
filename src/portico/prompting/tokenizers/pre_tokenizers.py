"""How a byte-level vocabulary in a GGUF file cuts text into words: ``tokenizer.ggml.pre``, a name, made into patterns.

GGUF files carry no patterns, only a name that llama.cpp knows. Here each name stands for the patterns that the models'
own tokenizer files carry. Patterns of one pre-tokenizer are applied one after the other, each cutting the pieces the
last one left; what a pattern does not match stays a piece of its own. Syntax: Oniguruma, as in ``tokenizers``.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CL100K", "GPT2", "KIMI", "O200K", "PRE_TOKENIZERS", "QWEN", "PreTokenizer"]


class PreTokenizer(NamedTuple):
    """``ignore_merges``: a word that is a token is that token. ``add_bos``: the default where the file is silent."""

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False


# -- parts ------------------------------------------------------------------------------------------------------------

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SPACES = r"\s+(?!\S)|\s+"


def _cl100k(digits: str, *, start: str = _CONTRACTION + "|", letters: str = r"\p{L}+", rest: str = "") -> str:
    """The shape of cl100k: contractions, words with one leading mark, digits, marks, line ends, spaces."""
    rest = rest or r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    return rf"{start}[^\r\n\p{{L}}\p{{N}}]?{letters}|{digits}|{rest}|{_SPACES}"


def _o200k(
    digits: str,
    *,
    ending: str = _CONTRACTION + "?",
    upper: str = _UPPER,
    lower: str = _LOWER,
    after: str = r"[\r\n/]*",
) -> str:
    """The shape of o200k: words also end where a capital begins, and keep their contraction."""
    mark = r"[^\r\n\p{L}\p{N}]?"
    words = rf"{mark}{upper}*{lower}+{ending}|{mark}{upper}+{lower}*{ending}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+{after}|\s*[\r\n]+|{_SPACES}"


def _deepseek(rest: str = r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+") -> str:
    mark = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"
    return rf"{mark}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+|{rest}|{_SPACES}"


GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|" + _SPACES
_BLOOM = r" ?[^(\s|.,!?)\x{2026}\x{3002}\x{ff0c}\x{3001}\x{0964}\x{06d4}\x{060c}]+"
_THOUSANDS = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"  # digits in threes from the right
_HALVED_SPACES = "|".join(rf"\s{{{size}}}(?!\S)" for size in (512, 256, 128, 64, 32, 16, 8, 4, "1,2")) + r"|\s"
CL100K, QWEN = _cl100k(r"\p{N}{1,3}"), _cl100k(r"\p{N}")
O200K = _o200k(r"\p{N}{1,3}")
KIMI = r"\p{Han}+|" + _o200k(
    r"\p{N}{1,3}",
    upper=r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]",
    lower=r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]",
    after=r"[\r\n]*",
)


def _class(ranges: str) -> str:
    """A character class from code points and ranges in hexadecimal."""
    return "[" + "".join("-".join(rf"\x{{{point}}}" for point in span.split("-")) for span in ranges.split()) + "]"


# Most letters that have two cases: the list in the files of DeepSeek's first models.
_CASED_LETTERS = _class(
    "0041-005a 0061-007a 00b5 00c0-00d6 00d8-00f6 00f8-01ba 01bc-01bf 01c4-0293 0295-02af 0370-0373 0376 0377 "
    "037b-037d 037f 0386 0388-038a 038c 038e-03a1 03a3-03f5 03f7-0481 048a-052f 0531-0556 10a0-10c5 13a0-13f5 "
    "13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 "
    "1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 "
    "1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e "
    "2183 2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2 2cf3 a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf "
    "fb00-fb06 fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 "
    "118a0-118df 1e900-1e943"
)
_HAN_AND_HANGUL = _class("0800-9fa5 ac00-d7ff")
_ASIAN_SCRIPTS = _class(
    "4e00-9fff 3400-4dbf f900-faff 3040-30ff ff65-ff9f 2f00-2fdf 0e40-0eff 1780-17ff 1000-109f aa60-aa7f a9e0-a9ff "
    "ac00-d7af 1100-11ff"
)
_CJK = _class("4e00-9fa5 3040-30ff") + "+"
_KOREAN_CHINESE_JAPANESE = "|".join(
    _class(ranges) + "+"
    for ranges in (
        "ac00-d7a3 3131-318e",
        "ff01 2026 201c 201d 2018 2019 2014 ff1a ff1b ff0c 3001-303f fe30-fe4f",
        "3105-312f",
        "4e00-9fa5 3040-30ff",
    )
)

# -- names, in groups that share their patterns -----------------------------------------------------------------------

_GROUPS: tuple[tuple[PreTokenizer, str], ...] = (
    (
        PreTokenizer((GPT2,)),
        "gpt-2 phi-2 jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code roberta-bpe gigachat a.x-4.0 mellum "
        "modern-bert exaone4 mpt olmo jais trillion granite-docling",
    ),
    (PreTokenizer((r"\p{N}", GPT2)), "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2"),
    (
        PreTokenizer((CL100K,), ignore_merges=True, add_bos=True),
        "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
    ),
    (PreTokenizer((CL100K,)), "dbrx smaug-bpe glm4 glm5 chatglm-bpe"),
    (
        PreTokenizer((QWEN,)),
        "qwen2 deepseek-r1-qwen kormo megrez stablelm2 hunyuan solar-open grok-2 f2llmv2",
    ),
    (
        PreTokenizer((_cl100k(r"\p{N}", letters=r"[\p{L}\p{M}]+", rest=r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"),)),
        "qwen35",
    ),
    (PreTokenizer((O200K,)), "gpt-4o llama4 minimax-m2 kanana2 granite-embed-multi-97m"),
    (PreTokenizer((_o200k(r"\p{N}", ending=""),), ignore_merges=True, add_bos=True), "tekken"),
    (PreTokenizer((r"\p{N}{1,3}", _CJK, _deepseek())), "deepseek-v3 hunyuan-dense joyai-llm"),
    (PreTokenizer((r"\p{N}", _CJK, _deepseek())), "hyperclovax mu-choco"),
    (
        PreTokenizer(
            (
                r"[\r\n]",
                rf"\s?{_CASED_LETTERS}+",
                r"\s?" + _class("0021-002f 003a-007e ff01-ff0f ff1a-ff5e 2018-201f 3000-3002") + "+",
                r"\s+$",
                _HAN_AND_HANGUL + "+",
                r"\p{N}+",
            )
        ),
        "deepseek-llm",
    ),
    (PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN_AND_HANGUL + "+", r"\p{N}")), "deepseek-coder"),
    (
        PreTokenizer((_KOREAN_CHINESE_JAPANESE, _o200k(r"\p{N}")), ignore_merges=True),
        "youtu",
    ),
    (PreTokenizer((KIMI,)), "kimi-k2"),
    (
        PreTokenizer(
            (
                _cl100k(
                    r"\p{N}",
                    start=r"'(?i:[sdmt]|ll|ve|re)|",
                    rest=r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]",
                ),
            )
        ),
        "bailingmoe bailingmoe2 llada-moe",
    ),
    (PreTokenizer((_cl100k(r"\p{N}", rest=r" ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+"),)), "seed-coder"),
    (
        PreTokenizer(
            (
                _cl100k(
                    r"\p{N}",
                    letters=r"(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+",
                    rest=r" ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]",
                ),
            )
        ),
        "exaone-moe",
    ),
    (
        PreTokenizer(
            (
                _THOUSANDS,
                _ASIAN_SCRIPTS + "+",
                _deepseek(),
            )
        ),
        "afmoe",
    ),
    (PreTokenizer((_THOUSANDS, O200K)), "tiny_aya"),
    (PreTokenizer((r"\p{N}{1,3}", _cl100k(r"\p{N}+"))), "minicpm5"),
    (PreTokenizer((_cl100k(r"\p{N}", start=""),)), "ufakzeka"),
    (PreTokenizer((CL100K.removesuffix(_SPACES) + _HALVED_SPACES,)), "jais-2"),
    (PreTokenizer((_BLOOM,)), "bloom gpt3-finnish poro-chat"),
    (PreTokenizer((_BLOOM, r"\p{N}")), "viking"),
    (PreTokenizer((r"[\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]")), "falcon"),
    (PreTokenizer((r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")), "default"),
    (PreTokenizer((r"\p{N}+", r"(?=(\d{3})+(?!\d))")), "superbpe"),
    (
        PreTokenizer(
            (
                "<sentinel:[0-9]+>",
                "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
                "([\\t\\n]|    |  )",
                r"\p{N}",
                r"[\p{P}!-/:-@\[-`{-~]",
                GPT2,
            ),
            add_bos=True,
        ),
        "chameleon",
    ),
)

PRE_TOKENIZERS: dict[str, PreTokenizer] = {name: group for group, names in _GROUPS for name in names.split()}
"""Name in ``tokenizer.ggml.pre`` -> how its models cut text."""
