"""Settings that cannot be meant are refused with one line that says what to do."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from portico.config import Settings, load_settings
from portico.errors import BadRequestError
from support import configuration_page


@pytest.mark.parametrize(
    ("flags", "name", "told"),
    [
        ({"api_key": [""]}, "api_key", "empty"),
        ({"api_key": ["good", "  "]}, "api_key", "empty"),
        ({"cors_origins": ["https://a,https://b"]}, "cors_origins", "repeat"),
        ({"served_model_name": ["a,b"]}, "served_model_name", "repeat"),
        ({"client_timeout": float("inf")}, "client_timeout", "finite"),
        ({"request_timeout": float("nan")}, "request_timeout", ""),
        ({"drain_timeout": float("inf")}, "drain_timeout", "finite"),
    ],
    ids=str,
)
def test_values(flags: dict[str, Any], name: str, told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        load_settings(flags)
    (problem,) = refused.value.errors()
    assert problem["loc"] == (name,)
    assert told in problem["msg"]


def test_an_empty_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_API_KEY", "")
    with pytest.raises(ValidationError, match="empty"):
        load_settings({})
    monkeypatch.setenv("PORTICO_API_KEY", "one, two")
    assert [key.get_secret_value() for key in load_settings({}).api_key] == ["one", "two"]


@pytest.mark.parametrize("name", ["PORTICO_MAX_BODDY", "PORTICO_API_KEYS", "PORTICO_MODELSS", "portico_worker"])
def test_a_misspelt_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(BadRequestError, match=f"{name}; did you mean PORTICO_"):
        load_settings({})


def test_variables_of_others_are_let(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("PORTICO_SHARED", "/somewhere")
    load_settings({})


@pytest.mark.parametrize("content", [b"model = [", b"\xff\xfe", b"model = 'a'\nmodel = 'b'"])
def test_a_file_that_is_no_toml(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "portico.toml"
    file.write_bytes(content)
    with pytest.raises(BadRequestError, match=r"portico\.toml is not valid TOML"):
        load_settings({}, file)


def test_a_name_in_a_file_that_is_no_setting(tmp_path: Path) -> None:
    file = tmp_path / "portico.toml"
    for name, hint in (("prot", "did you mean port?"), ("zzzz", "leave it out")):
        file.write_text(f"{name} = 1")
        with pytest.raises(BadRequestError, match=rf"no setting '{name}', which .*portico\.toml sets; {hint}"):
            load_settings({}, file)


def test_every_setting_is_on_its_page() -> None:
    page = configuration_page.PAGE.read_text()
    assert configuration_page.tables() in page, "run: python tests/support/configuration_page.py"
    absent = [name for name in Settings.model_fields if f"`--{name.replace('_', '-')}`" not in page]
    assert absent == ["model", "models"]


def test_the_sample_file_says_what_holds_without_it(tmp_path: Path) -> None:
    text = configuration_page.SAMPLE.read_text()
    assert text == configuration_page.sample(), "run: python tests/support/configuration_page.py"
    file = tmp_path / "portico.toml"
    file.write_text(re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE))
    given = tomllib.loads(file.read_text())
    assert load_settings({}, file) == Settings()
    assert set(Settings.model_fields) - set(given) == {
        name for name, field in Settings.model_fields.items() if field.default is None
    }
