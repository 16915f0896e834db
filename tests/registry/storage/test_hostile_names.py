"""Thousands of hostile names and paths, 50,000 in a thorough run: nothing outside storage is read or
written."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile, UploadedFile
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.datasets.uploads import save
from registry.errors import HubError
from registry.maintenance.verification import verify_version
from registry.names import validate_alias, validate_name, validate_semver
from registry.promotion.resolve import resolve
from registry.storage import paths
from tests.characters import CHARACTERS
from tests.registry.build import make_version
from tests.running import often

pytestmark = pytest.mark.any_database

SECRET = "the secret outside of storage"
BATCH = 50

PIECES = st.sampled_from(
    [
        *("..", ".", "/", "//", "\\", "..\\", "%2e%2e", "%2e", "%2f", "%5c", "%252e%252e%252f"),
        *("\0", "%00", "\n", "\r", "\t", " ", "\u202e", "\u200b", "\ufeff", "\ud800"),
        *("\uff0e\uff0e", "\u2024\u2024", "\u2025", "\uff0f", "\u2215", "\u2044", "\uff3c"),
        *("e\u0301", "\u00e9", "\u212a", "\u0430", "\u017f", "~", "~root", "$HOME", "*", "?", ":"),
        *("C:", "con", "nul", "file://", "base:", "@", "-", "--", ".git", "link", "link/secret"),
        *("etc/passwd", "/etc/passwd", "outside", "secret", "manifest.json", "a", "0.1.0", "1"),
        *("active", "archive", "helper", "tiny", "x" * 101, "y" * 300, "../" * 20, "z/" * 100),
    ]
)
HOSTILE = st.lists(PIECES, min_size=1, max_size=5).map("".join)
ANY = HOSTILE | st.text(CHARACTERS, max_size=30)
MANY = settings(
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
)
BATCHES = st.lists(ANY, min_size=BATCH, max_size=BATCH)


@pytest.fixture
def outside(storage: Path) -> Path:
    """A folder beside storage with a secret, and links from storage to it."""
    folder = storage.parent / "outside"
    folder.mkdir()
    (folder / "secret").write_text(SECRET)
    for place in ("active", "base", "uploads", "exports"):
        (storage / place / "link").symlink_to(folder)
    return folder


def world(outside: Path) -> dict[str, tuple[int, bytes]]:
    """Everything beside storage, with its time and content."""
    found = {}
    for folder, _, names in os.walk(outside.parent):
        if Path(folder).is_relative_to(paths.root()):
            continue
        for name in names:
            path = Path(folder) / name
            found[str(path)] = (path.stat().st_mtime_ns, path.read_bytes())
    return found


class Opened:
    """What Python opens, lists, makes, renames or removes in one folder, links followed."""

    def __init__(self) -> None:
        self.folder = ""
        self.seen: list[tuple[str, str]] = []
        sys.addaudithook(self._note)  # for good: it cannot be taken away, only be told nothing

    def _note(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.folder or not event.startswith(("open", "os.", "shutil.", "pathlib.")):
            return
        for argument in arguments[:2]:
            if not isinstance(argument, str | bytes | os.PathLike):
                continue
            try:
                real = os.path.realpath(os.fsdecode(argument))
            except ValueError:  # a NUL: nothing was opened
                continue
            if real.startswith(self.folder):
                self.seen.append((event, real))


OPENED = Opened()


@contextmanager
def nothing_opened(folder: Path) -> Iterator[None]:
    """Fails when anything in `folder` was so much as opened."""
    OPENED.folder, OPENED.seen = os.path.realpath(folder), []
    try:
        yield
    finally:  # also when the name was refused
        OPENED.folder = ""
        assert OPENED.seen == []


def test_what_is_opened_outside_is_noticed(outside: Path) -> None:
    with pytest.raises(AssertionError), nothing_opened(outside):
        (paths.root() / "active" / "link" / "secret").read_bytes()


BUILDERS: list[Callable[[str], Path]] = [
    paths.absolute,
    paths.base_dir,
    paths.dataset_dir,
    paths.upload_dir,
    paths.export_dir,
    lambda name: paths.version_dir(name, "0.1.0"),
    lambda name: paths.version_dir("helper", name, archived=True),
]


@given(BATCHES)
@settings(MANY, max_examples=often(100, 700))
def test_a_path_is_inside_storage_or_refused(outside: Path, names: list[str]) -> None:
    root = str(paths.root())
    for name in names:  # each in seven places
        for build in BUILDERS:
            try:
                path = build(name)
            except ValueError:  # UnsafePath, and what Python itself refuses
                continue
            real = os.path.realpath(path)
            assert real == root or real.startswith(f"{root}/"), (name, real)


@given(BATCHES)
@settings(MANY, max_examples=often(60, 250))
def test_what_the_rules_let_through_is_one_plain_part(names: list[str]) -> None:
    for name in names:
        for validate, plain in (
            (validate_name, r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"),
            (validate_alias, r"[a-z][a-z0-9_-]{0,49}"),
            (validate_semver, r"[0-9]{1,6}(\.[0-9]{1,6}){2}"),
        ):
            try:
                validate(name)
            except ValidationError:
                continue
            assert re.fullmatch(plain, name, re.ASCII)
            assert ".." not in name
            assert paths.base_dir(name).parent == paths.root() / "base"


@given(st.lists(ANY, min_size=10, max_size=10))
@settings(MANY, max_examples=often(40, 150))
def test_the_name_of_an_upload_is_no_path(outside: Path, names: list[str]) -> None:
    before = world(outside)
    for name in names:
        uploads: list[UploadedFile[bytes]] = [SimpleUploadedFile("a", b"{}")]
        uploads[0]._name = name  # type: ignore[attr-defined]  # past Django's own cleaning
        with nothing_opened(outside):
            saved = save(uploads)
            assert saved.source.resolve().is_relative_to(paths.root() / "uploads")
            assert saved.source.read_bytes() == b"{}"
            shutil.rmtree(saved.folder)
        uploads.append(uploads[0])
        with pytest.raises(HubError):
            save(uploads)
    assert world(outside) == before
    assert [p.name for p in (paths.root() / "uploads").iterdir()] == ["link"]


@pytest.mark.django_db
@given(st.lists(ANY, min_size=20, max_size=20))
@settings(MANY, max_examples=often(20, 50))
def test_a_hostile_model_name_resolves_to_nothing_outside(outside: Path, names: list[str]) -> None:
    for name in names:
        try:
            with nothing_opened(outside):
                served = resolve(name)
        except (HubError, ValueError):
            continue
        assert served.base_path.is_relative_to(paths.root())


@pytest.mark.django_db
def test_hostile_addresses_and_bodies_read_and_write_nothing_outside(outside: Path) -> None:
    version = make_version()
    client = Client(headers={"host": "localhost"}, raise_request_exception=False)
    before = world(outside)
    place = f"/api/models/{version.model_id}"

    @given(ANY)
    @settings(MANY, max_examples=often(30, 60))
    def attack(name: str) -> None:
        part = quote(name.encode("utf-8", "surrogatepass"), safe="/%")
        body = {"name": name, "version": name, "base_model": name, "examples": [{"text": name}]}
        answers = [
            client.get(f"{place}/versions/{part}/verify"),
            client.post(f"{place}/versions/{part}/archive", content_type="application/json"),
            client.get(f"/models/{version.model_id}/{part}/"),
            client.get(f"/static/{part}"),
            client.delete(f"{place}?force=.{quote(part, safe='')}"),
        ]
        if "\ud800" not in name and not re.search("[\ud800-\udfff]", name):
            answers += [
                client.post("/api/datasets", body, content_type="application/json"),
                client.post(f"{place}/aliases/{part}", body, content_type="application/json"),
            ]
        for answer in answers:
            content = b"".join(answer) if answer.streaming else answer.content
            assert answer.status_code < 500, (name, content)
            assert SECRET.encode() not in content

    with nothing_opened(outside):
        attack()
    assert world(outside) == before
    version.refresh_from_db()  # its true number is among the names, and archives it
    assert verify_version(version).problems == []
