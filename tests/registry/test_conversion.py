"""Quantizing, fusing and exporting, and the certificate that decides what is kept."""

from __future__ import annotations

import json
import zipfile
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from registry import artifacts, bases, conversion, exports, paths
from registry.errors import Conflict, Damaged, Invalid, NotFound
from registry.fidelity import Limits
from registry.models import BaseModel
from tests.registry.build import begin, make_base, make_dataset, make_version

pytestmark = pytest.mark.django_db
STRICT = Limits(most_kl=1e-12, least_top1=1.0)


def leftovers() -> list[Path]:
    return list((paths.root() / "staging").iterdir())


def test_a_quantized_base_carries_its_certificate() -> None:
    base, dataset = make_base("tiny"), make_dataset()
    made = conversion.quantize_base(base, 8, 64, dataset=dataset)
    assert (made.name, made.source, made.derived_from) == ("tiny-8bit", "quantized", base)
    assert artifacts.verify(bases.base_path(made)) == []
    made.refresh_from_db()
    found = made.certificate
    assert found["split"] == "test"
    assert found["dataset_checksum"] == dataset.checksum
    assert 0 < found["kl"] < 0.01
    assert found["tokens"] > 0
    assert leftovers() == []


def test_what_lost_too_much_is_not_kept() -> None:
    base, dataset = make_base("tiny"), make_dataset()
    with pytest.raises(Invalid, match=r"nothing was kept: KL .* perplexity 2\.000 →"):
        conversion.quantize_base(base, 4, 64, dataset=dataset, limits=STRICT)
    assert BaseModel.objects.count() == 1
    assert leftovers() == []


def test_other_bits_and_groups_are_refused() -> None:
    with pytest.raises(Invalid, match="4 or 8 bits"):
        conversion.quantize_base(make_base("tiny"), 3)
    once = conversion.quantize_base(BaseModel.objects.get(), 8, dataset=make_dataset())
    with pytest.raises(Invalid, match="quantized already"):
        conversion.quantize_base(once, 4)


def test_a_fused_version_is_a_base_of_its_own() -> None:
    version = make_version()
    made = conversion.fuse_version(version)
    assert (made.source, made.fused_version) == ("fused", version)
    assert made.derived_from == version.base_model
    assert made.manifest_sha256 != version.base_model.manifest_sha256
    assert made.certificate["kl"] < 1e-12
    assert made.certificate["dataset"] == version.dataset.name
    with pytest.raises(Conflict, match="already a base model"):
        conversion.fuse_version(version)


def test_a_damaged_or_unfinished_version_is_not_fused() -> None:
    with pytest.raises(Conflict, match="has no files"):
        conversion.fuse_version(begin())
    version = make_version(BaseModel.objects.get().models.get())
    weights = paths.absolute(version.artifact_path) / "adapters.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"other")
    with pytest.raises(Damaged, match=r"adapters\.safetensors"):
        conversion.fuse_version(version)


def test_an_adapter_export_holds_the_version_byte_for_byte() -> None:
    version = make_version()
    with zipfile.ZipFile(exports.store(version, "adapter")) as archive:
        assert archive.testzip() is None
        files = {Path(name).name: archive.read(name) for name in archive.namelist()}
    folder = paths.absolute(version.artifact_path)
    assert files["adapters.safetensors"] == (folder / "adapters.safetensors").read_bytes()
    assert files["manifest.json"] == (folder / "manifest.json").read_bytes()
    assert leftovers() == []


@pytest.mark.parametrize("form", ["fused", "gguf"])
def test_a_fused_export_carries_its_certificate(form: str, tmp_path: Path) -> None:
    target = exports.write(make_version(), form, tmp_path / "out")
    assert artifacts.verify(target) == []
    assert json.loads((target / "fidelity.json").read_text())["top1"] == 1.0
    weights = "model.safetensors" if form == "fused" else "helper-0.1.0.gguf"
    assert (target / weights).stat().st_size > 1000


def test_an_export_does_not_write_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(Conflict, match="not an empty folder"):
        exports.write(make_version(), "adapter", tmp_path)


def test_a_failed_export_says_why() -> None:
    version = make_version()
    with pytest.raises(Invalid):
        exports.store(version, "fused", Limits(most_kl=-1.0))
    found = exports.look(version, "fused")
    assert found is not None
    assert found.status == "failed"
    assert "nothing was kept" in found.error
    with pytest.raises(NotFound, match="ask for one first"):
        exports.open_file(version, "fused")


def test_the_api_exports_and_hands_out_the_file(client: Client) -> None:
    version = make_version()
    url = f"/api/models/{version.model_id}/versions/{version.version}/exports"
    made = client.post(url, {"form": "adapter"}, content_type="application/json")
    assert (made.status_code, made.json()["status"]) == (202, "ready")
    assert [found["form"] for found in client.get(url).json()] == ["adapter"]
    file = client.get(f"{url}/adapter/file")
    assert b"".join(file).startswith(b"PK")
    assert client.get(f"{url}/gguf/file").status_code == 404
    refused = client.post(url, {"form": "pickle"}, content_type="application/json")
    assert refused.status_code == 422


def test_the_pages_make_an_export_and_show_a_certificate(client: Client) -> None:
    version = make_version()
    page = f"{version.get_absolute_url()}exports/"
    assert client.post(page, {"form": "adapter"}, follow=True).status_code == 200
    assert "Download" in client.get(page).content.decode()
    file = client.get(f"{page}adapter/")
    assert b"".join(file).startswith(b"PK")
    made = conversion.fuse_version(version)
    assert "Fidelity certificate" in client.get(f"/bases/{made.pk}/").content.decode()


def test_the_commands(tmp_path: Path) -> None:
    version = make_version()
    out = StringIO()
    call_command("fuse", str(version), "--name", "whole", stdout=out)
    call_command("quantize", "whole", "--bits", "8", "--dataset", "notes", stdout=out)
    call_command("export", str(version), str(tmp_path / "out"), stdout=out)
    assert "whole-8bit is made" in out.getvalue()
    assert (tmp_path / "out" / "adapters.safetensors").exists()
    with pytest.raises(CommandError, match="nothing was kept"):
        call_command("quantize", "whole", "--name", "bad", "--max-kl", "0", stdout=out)
    with pytest.raises(CommandError, match="no data set 'nope'"):
        call_command("quantize", "whole", "--name", "bad", "--dataset", "nope", stdout=out)
