"""What goes out is read as what it was: JSON of any value, events of any data, headers of any names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.protocols import sse
from portico.protocols.coding import encoded
from portico.protocols.warnings import LONGEST_NAME, MOST_LOOKED_AT, MOST_NAMES, warning

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text(), st.just("\ud800")),
    lambda inside: st.one_of(st.lists(inside), st.dictionaries(st.text(), inside)),
)


@given(JSON)
def test_any_json_is_one_line_that_says_it(value: Any) -> None:
    data = encoded(value)
    assert json.loads(data) == value
    assert not set(b"\r\n") & set(data)


@pytest.mark.parametrize("value", [{"a": [1, "b"]}, {"a": [2**70, "b"]}])
def test_no_space_is_wasted(value: Any) -> None:
    assert b" " not in encoded(value)


def test_an_event_is_what_a_browser_reads() -> None:
    assert sse.event(b'{"a":1}') == b'data: {"a":1}\n\n'
    assert sse.event(b"x", "message_stop") == b"event: message_stop\ndata: x\n\n"
    assert sse.event(b"x", "") == b"event: \ndata: x\n\n"


def test_a_warning_fits_a_header() -> None:
    assert warning("w", []) == warning("w", ["\x00", "\x1b[31m\n"]) == ""
    assert warning("w", ["a", "b", "a", "\n", "ü"]) == "w: a, b, \\xfc", "each once, in their order, in ASCII"
    many = [f"n{number}" for number in range(MOST_NAMES + 5)]
    assert warning("w", many) == "w: " + ", ".join(many[:MOST_NAMES])
    assert warning("w", ["x" * (LONGEST_NAME + 1)]) == "w: " + "x" * LONGEST_NAME
    assert warning("w", ["a"] * MOST_LOOKED_AT + ["b"]) == "w: a", "no more are looked at"
    assert warning("w", ["a"] * (MOST_LOOKED_AT - 1) + ["b"]) == "w: a, b"
