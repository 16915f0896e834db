"""Lines are skipped without being split."""

from __future__ import annotations

import io

import pytest

from registry.datasets.files import lines


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_reading_goes_on_after_the_lines_that_are_skipped(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(lines, "_BLOCK", block)
    every = [b"first\n", b"\n", b"a longer line, \xc3\xa4\n", b"x\n", b"the end"]
    for count in range(7):
        file = io.BytesIO(b"".join(every))
        lines.skip(file, count)
        assert file.readlines() == every[count:]
