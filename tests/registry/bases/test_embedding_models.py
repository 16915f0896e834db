"""Embedding models as base models: registered with how they pool, and good for nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client

from registry.bases import downloads, registration
from registry.catalog.registration import new_model
from registry.conversion import imports
from registry.errors import Invalid
from registry.models import BaseModel
from registry.storage import artifacts
from registry.web.forms import ExamineForm, RegisterModelForm
from tests.backends.mlx.embedding.folders import pool
from tests.registry.build import make_base
from tests.registry.hub_server import REPO, FakeHub, serving

pytestmark = pytest.mark.django_db
REFUSED = "for embeddings only: it cannot be trained or chatted with"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    original = registration.base_path(make_base("tiny"))
    return pool(Path(shutil.copytree(original, tmp_path / "finder")), "cls_token")


def test_it_is_registered_with_how_it_pools(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("import_base", str(folder))
    base = BaseModel.objects.get(name="finder")
    assert (base.pooling, base.vectors) == ("cls", "the last hidden state of the first token")
    assert "embeddings only" in capsys.readouterr().out
    kept = registration.base_path(base)
    assert (kept / "1_Pooling" / "config.json").is_file()
    assert artifacts.verify(kept) == []
    assert not BaseModel.objects.get(name="tiny").embeds_only


def test_it_can_be_neither_trained_nor_quantized(folder: Path) -> None:
    base = registration.register_base("finder", BaseModel.Source.FOLDER, str(folder))
    with pytest.raises(Invalid, match=REFUSED):
        new_model("calendar", base)
    with pytest.raises(Invalid, match=REFUSED):
        imports.start_quantize(base)
    for form in (RegisterModelForm(), ExamineForm()):
        choices = form.fields["base"].queryset  # type: ignore[attr-defined]
        assert [one.name for one in choices] == ["tiny"]


def test_its_pages_say_so(folder: Path, client: Client) -> None:
    base = registration.register_base("finder", BaseModel.Source.FOLDER, str(folder))
    page = client.get(f"/bases/{base.pk}/").content.decode()
    assert "For embeddings only: cannot be trained or chatted with." in page
    assert "Try in playground" not in page
    assert "embeddings only" in client.get("/bases/").content.decode()
    api = client.get(f"/api/bases/{base.pk}").json()
    assert api["pooling"] == "cls"


def test_a_model_that_cannot_be_pooled_is_refused(folder: Path) -> None:
    (folder / "1_Pooling" / "config.json").write_text("{}")
    with pytest.raises(Invalid, match="knows cls, mean and lasttoken"):
        registration.register_base("finder", BaseModel.Source.FOLDER, str(folder))


def test_how_it_pools_is_downloaded_and_no_other_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("config.json", "model.safetensors", "1_Pooling/config.json", "onnx/config.json")
    with serving(FakeHub(dict.fromkeys(names, b"{}"))) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        found = [file.name for file in downloads.find(REPO).files]
    assert sorted(found) == ["1_Pooling/config.json", "config.json", "model.safetensors"]
