"""Compiled code is kept also where Python is asked to write none beside the sources."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import manage
from tests import bytecode


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


def test_clones_with_the_same_packages_share_what_is_compiled_of_them(tmp_path: Path) -> None:
    def clone(name: str, version: str, unpacked_s: int) -> Path:
        packages = tmp_path / name / "packages"
        metadata = packages / f"django-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.touch()
        os.utime(metadata, (unpacked_s, unpacked_s))
        compiled = tmp_path / name / "compiled"
        bytecode.share(compiled, tmp_path / "caches", tmp_path / "python", packages)
        return (compiled / packages.relative_to("/")).resolve()

    one = clone("one", "6.0", 1)
    (one / "django.pyc").touch()
    assert (clone("two", "6.0", 1) / "django.pyc").exists()
    assert not (clone("newer", "6.1", 1) / "django.pyc").exists()
    assert not (clone("copied", "6.0", 2) / "django.pyc").exists()
    assert len({path.name for path in (tmp_path / "caches").glob("python-*")}) == 1
    os.utime(one, (1, 1))  # no clone used it for long
    clone("later", "6.1", 3)
    assert not one.exists()
