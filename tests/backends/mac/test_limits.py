"""A process that holds too much where the system limits no address space."""

from __future__ import annotations

import os

import pytest

from backends.mac import limits

pytestmark = pytest.mark.any_database


def test_what_the_reader_says_is_held_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(limits, "_LOOK_S", 0.0)
    held = iter([1, 10, 11, 12])
    with pytest.raises(SystemExit):
        limits._end_above(10, "It is too much.", lambda: next(held))
    assert capsys.readouterr().err == "It is too much.\n"
    assert next(held) == 12
