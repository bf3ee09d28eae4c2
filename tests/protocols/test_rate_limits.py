"""How a key stands, in headers: what they say is what was counted, and clients read their spans and times back."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import pytest

from portico.keys.accounts import Standing
from portico.protocols.rate_limits import anthropic_headers, openai_headers
from portico.protocols.times import rfc3339

SPAN = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?")  # as Go writes them
NOW = 1_800_000_000.0
RESETS = [0.0, 0.0004, 0.25, 0.999, 1.0, 1.4, 59.4, 59.6, 60.0, 61.0, 90.0, 3599.0, 3600.0, 3601.0, 7384.0, 86_400.0]
LEFT_OUT = [(None, None), (None, 5), (3, None), (3, 5)]


def standing(limit: int | None, reset: float = 1.0) -> Standing | None:
    return None if limit is None else Standing(limit, limit - 1, reset)


@pytest.mark.parametrize("reset", RESETS)
def test_resets_are_read_back(reset: float) -> None:
    headers = {name.decode(): value.decode() for name, value in openai_headers(Standing(9, 8, reset), None)}
    found = SPAN.fullmatch(headers["x-ratelimit-reset-requests"])
    assert found is not None
    hours, minutes, seconds, thousandths = (int(one) if one else 0 for one in found.groups())
    assert hours * 3600 + minutes * 60 + seconds + thousandths / 1000 == pytest.approx(reset, abs=0.5)
    assert (thousandths > 0 or reset < 0.001) is (reset < 1), "below a second it is exact"
    assert thousandths == pytest.approx(reset * 1000 if reset < 1 else 0, abs=0.5)
    assert max(minutes, seconds) < 60
    assert not re.match(r"0[hm](?!s)", found.group()), "nothing stands in front that is not there"
    (_, _, (name, at)) = anthropic_headers(None, Standing(9, 8, reset), NOW)
    assert name == b"anthropic-ratelimit-tokens-reset"
    assert at.endswith(b"Z")
    assert datetime.fromisoformat(at.decode()).timestamp() == int(NOW + reset)


@pytest.mark.parametrize(("requests", "tokens"), LEFT_OUT)
def test_what_has_no_limit_is_left_out(requests: int | None, tokens: int | None) -> None:
    given = {"requests": requests, "tokens": tokens}
    said = {
        (unit, what): str(number).encode()
        for unit, limit in given.items()
        if limit is not None
        for what, number in (("limit", limit), ("remaining", limit - 1))
    }
    for headers, spelled in (
        (openai_headers(standing(requests), standing(tokens)), "x-ratelimit-{1}-{0}"),
        (anthropic_headers(standing(requests), standing(tokens), NOW), "anthropic-ratelimit-{0}-{1}"),
    ):
        units = [unit for unit, limit in given.items() if limit is not None]
        names = [(unit, what) for unit in units for what in ("limit", "remaining", "reset")]
        assert [name.decode() for name, _ in headers] == [spelled.format(*one) for one in names]
        assert {spelled.format(*one).encode(): value for one, value in said.items()}.items() <= dict(headers).items()


@pytest.mark.parametrize("seconds", [0, 0.9, 1_700_000_000, 4_102_444_800])
def test_times_are_those_of_the_standard(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the machine stands."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        found = rfc3339(seconds)
    time.tzset()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found)
    assert datetime.fromisoformat(found) == datetime.fromtimestamp(int(seconds), UTC)
