"""Which file of a repository is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from portico.errors import ModelNotFoundError
from portico.models.errors import PullError
from portico.models.parts import parts, stem
from portico.models.quantisation import choose, free_memory, quantisation

GB = 10**9
FILES = {
    "README.md": 1,
    "model-Q2_K.gguf": 3 * GB,
    "model-Q4_K_M.gguf": 5 * GB,
    "model-Q8_0.gguf": 9 * GB,
    "F16/model-F16-00001-of-00002.gguf": 9 * GB,
    "F16/model-F16-00002-of-00002.gguf": 8 * GB,
    "mmproj-model-Q8_0.gguf": GB,
    "half-Q3_K_S-00001-of-00002.gguf": GB,  # its second part is not there
}


@pytest.mark.parametrize(
    ("memory", "taken"), [(None, "Q4_K_M"), (100, "Q4_K_M"), (6, "Q4_K_M"), (5, "Q2_K"), (3.5, "Q2_K")]
)
def test_what_fits_is_taken(memory: float | None, taken: str) -> None:
    found = choose(FILES, None, None if memory is None else int(memory * GB))
    assert found.quantisation == taken


def test_the_largest_that_fits_where_the_usual_one_is_missing() -> None:
    others = {name: size for name, size in FILES.items() if "Q4" not in name}
    assert choose(others, None, 100 * GB).quantisation == "Q8_0"  # not the full weights
    full = {name: size for name, size in FILES.items() if "F16" in name}
    assert choose(full, None, 100 * GB).size == 17 * GB


def test_what_is_named_is_taken_though_it_does_not_fit() -> None:
    assert choose(FILES, "q8_0", GB).file == "model-Q8_0.gguf"
    assert choose(FILES, "F16", GB).file == "F16/model-F16-00001-of-00002.gguf"
    assert choose({"m-UD-Q4_K_XL.gguf": 1}, "Q4_K_XL", None).quantisation == "UD-Q4_K_XL"


def test_refusals_say_what_there_is() -> None:
    with pytest.raises(ModelNotFoundError, match=r"it has Q2_K, Q4_K_M, Q8_0, F16"):
        choose(FILES, "Q5_K_M", None)
    with pytest.raises(PullError, match=r"the 1\.0 GB of memory that are free; its smallest file, Q2_K, has 3\.0 GB"):
        choose(FILES, None, GB)
    with pytest.raises(ModelNotFoundError, match="no GGUF file"):
        choose({"README.md": 1, "mmproj-F16.gguf": 1}, None, None)


def test_tags() -> None:
    names = ["a-q4_k_m.gguf", "Q5_1/a.gguf", "a.IQ2_XXS.gguf", "a-bf16-00001-of-00002.gguf", "aQ4x.gguf", "TQ1_0.gguf"]
    assert [quantisation(name) for name in names] == ["Q4_K_M", "Q5_1", "IQ2_XXS", "BF16", "", "TQ1_0"]


def test_parts() -> None:
    split = Path("d/m-00002-of-00003.gguf")
    assert [part.name for part in parts(split)] == [f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert (stem(split), stem(Path("m.gguf")), parts(Path("m.gguf"))) == ("m", "m", [Path("m.gguf")])


def test_memory_is_known_here() -> None:
    memory = free_memory()
    assert memory is None or memory > 0
