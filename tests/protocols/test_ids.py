"""Fresh identifiers are short, and no two are alike."""

from __future__ import annotations

from portico.protocols.ids import fresh


def test_fresh_ids() -> None:
    many = [fresh() for _ in range(500)]
    assert len(set(many)) == 500
    assert all(len(one) == 16 and one.isascii() and one.isalnum() for one in many)
    assert all(len({one[place] for one in many}) > 32 for place in range(16))  # chance is in every place
