"""Compiled code is kept also where Python is asked to write none beside the sources."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import manage


@pytest.fixture(autouse=True)
def told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


@pytest.mark.parametrize(("system", "place"), [("linux", ".cache"), ("darwin", "Library/Caches")])
def test_it_goes_into_the_users_caches(
    system: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setenv("HOME", str(tmp_path))
    manage.keep_bytecode()
    assert sys.pycache_prefix == str(tmp_path / place / "mlx-model-hub" / "bytecode")
    assert sys.dont_write_bytecode is False
    assert os.environ["PYTHONPYCACHEPREFIX"] == sys.pycache_prefix  # for processes of this one
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ


def test_what_a_person_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", "/mine")
    manage.keep_bytecode()
    assert sys.pycache_prefix == "/mine"
    assert sys.dont_write_bytecode is True


def test_elsewhere_python_keeps_it_where_it_always_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    manage.keep_bytecode()
    assert sys.pycache_prefix is None
