"""What is said while a model is fetched, where nobody looks on: whole lines, of figures that are true."""

from __future__ import annotations

import re

import pytest

from portico.commands.progress import progress_bar

MB = 1_000_000


def test_a_download_in_a_log_is_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("tiny") as progress:
        for done in range(0, 100 * MB + 1, MB):
            progress("fetching", done, 100 * MB)
        progress("unpacking", MB, 2 * MB)
        progress("unpacking", 2 * MB, 2 * MB)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tiny: fetching (100.0 MB)"
    assert lines[-1] == "tiny: unpacking (2.0 MB)"
    told = [
        re.fullmatch(r"tiny: fetching, (\d+)\.0 of 100\.0 MB, [\d.]+ MB/s(, \d+ s left)?", line) for line in lines[1:-1]
    ]
    assert [int(one[1]) for one in told if one] == list(range(10, 101, 10))
