"""Keys as an operator writes them down: the same from either form of file, and every mistake is told by name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.errors import BadRequestError
from portico.keys import Key, hash_of, moment, read_keys, seconds

HASH = hash_of("a secret")
COUNTS = ("requests_per_minute", "tokens_per_minute", "tokens_per_day", "in_flight")

TERMS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(COUNTS, st.integers(1, 10**12)),
        "priority": st.integers(-1000, 1000),
        "models": st.lists(st.sampled_from(["qwen*", "tiny"]), max_size=2),
        "expires": st.datetimes(datetime(2001, 1, 1), datetime(2099, 1, 1)).map(lambda at: at.replace(microsecond=0)),
    },
)


def toml(entry: dict[str, Any]) -> str:
    lines = [f"{name} = {value if isinstance(value, datetime) else json.dumps(value)}" for name, value in entry.items()]
    return "\n".join(["[[keys]]", *lines, ""])


@given(st.lists(TERMS, max_size=4))
def test_both_forms_say_the_same(tmp_path_factory: pytest.TempPathFactory, given_terms: list[dict[str, Any]]) -> None:
    directory = tmp_path_factory.mktemp("keys")
    entries = [{"name": f"k{n}", "hash": f"sha256:{hash_of(str(n))}", **terms} for n, terms in enumerate(given_terms)]
    written, lines = directory / "keys.toml", directory / "keys.jsonl"
    written.write_text("".join(map(toml, entries)))
    lines.write_text("".join(json.dumps(entry, default=str) + "\n" for entry in entries))
    keys = read_keys(written)
    assert keys == read_keys(lines)
    for key, entry in zip(keys, entries, strict=True):
        assert (key.name, key.owner) == (entry["name"], f"key:{entry['name']}")
        for name in (*COUNTS, "priority"):
            assert getattr(key, name) == entry.get(name)
        assert key.models == tuple(entry.get("models", ()))
        until = entry.get("expires")
        assert key.expires == (until and until.replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"name": "a"}, "'hash' is missing"),
        ({"hash": HASH}, "'name' is missing"),
        ({"name": "a b", "hash": HASH}, "'a b' is no name for a key"),
        ({"name": "", "hash": HASH}, "no name for a key"),
        ({"name": "a", "hash": "a secret"}, "'hash' must be sha256:"),
        ({"name": "a", "hash": f"md5:{HASH}"}, "'hash' must be sha256:"),
        ({"name": "a", "hash": HASH, "key": "x"}, "'key' is no field of a key"),
        ({"name": "a", "hash": HASH, "created_at": 1}, "'created_at' is no field of a key"),
        ({"name": "a", "hash": HASH, "in_flight": 0}, "'in_flight': Expected int >= 1"),
        ({"name": "a", "hash": HASH, "tokens_per_day": "many"}, "'tokens_per_day': Expected int"),
        ({"name": "a", "hash": HASH, "tokens_per_day": True}, "'tokens_per_day': Expected int"),
        ({"name": "a", "hash": HASH, "models": "qwen"}, "'models': Expected array"),
        ({"name": "a", "hash": HASH, "expires": "30d"}, "'expires' must be a date such as"),
        ({"name": "a", "hash": HASH, "expires": 5}, "'expires' must be a date such as"),
        ("a", "must be a table or an object"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, entry: Any, told: str) -> None:
    file = tmp_path / "keys.jsonl"
    file.write_text("\n" + json.dumps(entry))
    with pytest.raises(BadRequestError) as refused:
        read_keys(file)
    assert told in refused.value.message
    assert refused.value.message.startswith(f"{file}, line 2: ")
    assert "a secret" not in refused.value.message


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("keys.toml", "[[keys]", "is not valid TOML"),
        ("keys.toml", "api_key = 1", "nothing else"),
        ("keys.toml", "keys = 1", "nothing else"),
        ("keys.jsonl", "{", "line 1: no JSON object"),
        ("keys.toml", toml({"name": "a", "hash": HASH}) * 2, "key 2: its name is another key's"),
        ("keys.toml", toml({"name": "a", "hash": HASH}) + toml({"name": "b", "hash": HASH}), "its hash is another"),
    ],
)
def test_what_is_no_file_of_keys(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadRequestError, match=told):
        read_keys(tmp_path / name)
    with pytest.raises(BadRequestError, match="cannot be read"):
        read_keys(tmp_path / "missing")


def test_times() -> None:
    day = datetime(2027, 1, 31, tzinfo=UTC).timestamp()
    assert moment("2027-01-31", "until") == moment("2027-01-31T00:00Z", "until", 5.0) == day
    assert moment("2027-01-31T01:00+01:00", "until") == day
    assert moment("30d", "until", 100.0) == 100.0 + 30 * 86400
    assert [seconds(text, "grace") for text in ("0s", "90s", "30m", "12h", "2w")] == [0, 90, 1800, 43200, 1209600]
    for wrong in ("", "soon", "-1d", "1.5h", "1 year"):
        with pytest.raises(BadRequestError, match="'until' must be"):
            moment(wrong, "until", 0.0)
        with pytest.raises(BadRequestError, match="'grace' must be"):
            seconds(wrong, "grace")


@given(st.text(max_size=70))
def test_a_name_is_one_word_of_a_log(name: str) -> None:
    from portico.keys import new_terms

    try:
        key = new_terms(name, HASH, {})
    except BadRequestError:
        return
    assert key.name.isascii()
    assert not set(key.name) & set(" /:=\"'\n{}")
    assert Key(name=key.name).shown == name
