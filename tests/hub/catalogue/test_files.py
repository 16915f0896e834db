"""Models picked from a folder of this machine, and models that a browser sends piece by piece."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from registry.background import work
from registry.bases import downloads, folders, pieces, registration
from registry.conversion import imports
from registry.errors import Forbidden
from registry.models import BaseImport, BaseModel
from registry.models.work import Work
from registry.storage import artifacts, paths
from tests.hub.catalogue.conftest import put_folder
from tests.pages.test_pages import HTMX, text
from tests.registry.build import make_base, recorder

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    rows: list[Work] = []
    monkeypatch.setattr(work, "launch", recorder(rows))
    return rows


# ---------------------------------------------------------------- folders


@pytest.fixture
def models(tmp_path: Path, settings: Any) -> Path:
    """The one folder from which models may be picked, beside one that is not."""
    folder = tmp_path / "models"
    put_folder(folder / "below" / "qwen")
    (folder / "tiny.gguf").write_bytes(b"GGUF tiny")
    (folder / ".secret").mkdir()
    put_folder(tmp_path / "elsewhere")
    (folder / "way-out").symlink_to(tmp_path / "elsewhere")
    settings.MODEL_FOLDERS = [str(folder)]
    return folder


def test_a_model_is_picked_from_an_allowed_folder(models: Path, client: Client) -> None:
    page = text(client.get("/bases/new/folder/", headers=HTMX))
    assert "tiny.gguf 9 B Import below/" in page
    assert "secret" not in page
    assert "way-out" not in page
    assert "Up" not in page
    below = client.get("/bases/new/folder/", {"at": str(models / "below")}, headers=HTMX)
    assert "↑ Up qwen 1 kB Import" in text(below)
    client.post("/bases/new/folder/", {"path": str(models / "tiny.gguf")})
    base = imports.run(BaseImport.objects.get())
    assert (base.name, base.origin) == ("tiny", str(models / "tiny.gguf"))
    client.post("/bases/new/folder/", {"path": str(models / "tiny.gguf")})
    assert BaseImport.objects.first().name == "tiny-2"


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "way-out", "~root", "no\0name", "gone"])
def test_nothing_else_is_looked_at_or_imported(models: Path, client: Client, path: str) -> None:
    asked = str(models / path)
    shown = client.get("/bases/new/folder/", {"at": asked}, headers=HTMX)
    assert shown.status_code in (200, 400)
    assert "Import" not in text(shown)
    client.post("/bases/new/folder/", {"path": asked})
    assert not BaseImport.objects.exists()


def test_it_is_for_those_at_the_machine(models: Path, client: Client, settings: Any) -> None:
    for elsewhere in ({"REMOTE_ADDR": "10.0.0.7"}, {"HTTP_X_FORWARDED_FOR": "10.0.0.7"}):
        far = Client(**elsewhere)  # type: ignore[arg-type]  # more of the environment
        page = far.get("/bases/new/folder/", headers=HTMX)
        assert "only at the machine itself" in text(page)
        far.post("/bases/new/folder/", {"path": str(models / "tiny.gguf")})
        assert "Or pick it from a folder" not in text(far.get("/bases/new/"))
    assert "Or pick it from a folder" in text(client.get("/bases/new/"))
    assert not BaseImport.objects.exists()
    settings.MODEL_FOLDERS = []
    assert "Or pick it from a folder" not in text(client.get("/bases/new/"))
    with pytest.raises(Forbidden):
        folders.allowed(str(models))


# ---------------------------------------------------------------- pieces


def send(client: Client, upload: str, name: str, offset: int, piece: bytes) -> Any:
    body = {"name": name, "offset": offset, "piece": SimpleUploadedFile(name, piece)}
    headers = {"X-CSRFToken": client.get("/bases/new/").cookies["csrftoken"].value}
    return client.post(f"/api/bases/uploads/{upload}/pieces", body, headers=headers)


def begin(client: Client, **sizes: int) -> Any:
    files = [{"name": name.replace("__", "."), "size": size} for name, size in sizes.items()]
    return client.post("/api/bases/uploads", {"files": files}, "application/json")


@pytest.mark.both_databases
def test_a_file_is_sent_in_pieces_and_continues(client: Client, launched: list[Work]) -> None:
    upload = begin(client, tiny__gguf=10).json()["upload"]
    assert send(client, upload, "tiny.gguf", 0, b"GGUF ").json() == {"received": 5}
    again = begin(client, tiny__gguf=10).json()  # after a reload
    named = {"files": [{"name": "tiny.gguf", "size": 10, "modified": 1796000000000}]}
    other = client.post("/api/bases/uploads", named, "application/json").json()
    assert other["upload"] != upload  # another model, of the same name and size
    assert again["files"] == [{"name": "tiny.gguf", "size": 10, "received": 5}]
    early = client.post(f"/api/bases/uploads/{upload}/import", {}, "application/json")
    assert (early.status_code, "5 of 10 bytes" in early.json()["error"]["message"]) == (409, True)
    assert send(client, upload, "tiny.gguf", 0, b"GGUF ").status_code == 409
    assert send(client, upload, "tiny.gguf", 5, b"too long").status_code == 422
    assert send(client, upload, "other.gguf", 0, b"x").status_code == 404
    assert send(client, upload, "tiny.gguf", 5, b"bytes").json() == {"received": 10}
    whole = client.get(f"/api/bases/uploads/{upload}").json()
    assert whole["files"][0]["received"] == 10
    made = client.post(f"/api/bases/uploads/{upload}/import", {"name": "mine"}, "application/json")
    assert made.status_code == 202
    row = BaseImport.objects.get()
    assert launched == [row]
    base = imports.run(row)
    assert (base.name, base.origin) == ("mine", "Upload: tiny.gguf")
    assert not paths.upload_dir(upload).exists()


def test_a_folder_is_sent_without_what_is_no_part_of_a_model(client: Client) -> None:
    source = registration.base_path(make_base("one"))
    files = {file.name: file.read_bytes() for file in source.iterdir() if file.is_file()}
    files.pop(artifacts.MANIFEST)
    named = [{"name": name, "size": len(content)} for name, content in files.items()]
    named += [{"name": name, "size": 1} for name in ("README.md", "../up.json", "a.py")]
    answer = client.post("/api/bases/uploads", {"files": named}, "application/json").json()
    assert answer["left_out"] == ["README.md", "../up.json", "a.py"]
    for name, content in files.items():
        send(client, answer["upload"], name, 0, content)
    url = f"/api/bases/uploads/{answer['upload']}/import"
    client.post(url, {"name": "two"}, "application/json")
    base = imports.run(BaseImport.objects.get())
    assert artifacts.verify(registration.base_path(base)) == []
    assert not (registration.base_path(base) / ".pieces").exists()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a__gguf": 1, "b__gguf": 1}, "one GGUF file alone"),
        ({"config__json": 1}, "Not there: tokenizer.json, model.safetensors."),
        ({"notes__md": 1}, "Send one .gguf file, or all files"),
    ],
)
def test_what_is_no_model_is_refused_before_it_is_sent(
    client: Client, files: dict[str, int], said: str
) -> None:
    answer = begin(client, **files)
    assert answer.status_code == 422
    assert said in answer.json()["error"]["message"]


def test_what_does_not_fit_is_refused_and_what_nobody_continues_goes(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert begin(client, tiny__gguf=10**18).status_code == 507
    upload = begin(client, tiny__gguf=10).json()["upload"]
    long_ago = time.time() - 8 * 24 * 3600
    for file in paths.upload_dir(upload).iterdir():
        os.utime(file, (long_ago, long_ago))
    begin(client, other__gguf=10)
    assert client.get(f"/api/bases/uploads/{upload}").status_code == 404
    assert client.get("/api/bases/uploads/..").status_code == 404
    assert pieces.PIECE < downloads.SPARE
    assert not BaseModel.objects.exists()
