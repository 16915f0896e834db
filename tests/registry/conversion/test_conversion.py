"""Quantizing, fusing and exporting, and the certificate that decides what is kept."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone

from registry.background import work
from registry.background.progress import Progress
from registry.bases import registration
from registry.conversion import conversions, exports, imports
from registry.conversion.fidelity import Limits, certify
from registry.errors import Conflict, Damaged, Invalid, NotFound
from registry.models import BaseImport, BaseModel, Dataset, ExportTask
from registry.models.work import SILENCE
from registry.storage import artifacts, paths
from tests.registry.build import begin, make_base, make_dataset, make_version, recorder

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
STRICT = Limits(most_kl=1e-12, least_top1=1.0)


def refuse_all(certify: Callable[..., Any], *arguments: Any) -> Any:
    """Certify against limits that nothing meets."""
    *others, _, beat = arguments
    return certify(*others, Limits(most_kl=-1.0), beat)


def leftovers() -> list[Path]:
    return list((paths.root() / "staging").iterdir())


def test_a_quantized_base_carries_its_certificate() -> None:
    base, dataset = make_base("tiny"), make_dataset()
    made = conversions.quantize_base(base, 8, 64, dataset=dataset)
    assert (made.name, made.source, made.derived_from) == ("tiny-8bit", "quantized", base)
    assert artifacts.verify(registration.base_path(made)) == []
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
        conversions.quantize_base(base, 4, 64, dataset=dataset, limits=STRICT)
    assert BaseModel.objects.count() == 1
    assert leftovers() == []


def test_other_bits_and_groups_are_refused() -> None:
    with pytest.raises(Invalid, match="4 or 8 bits"):
        conversions.quantize_base(make_base("tiny"), 3)
    once = conversions.quantize_base(BaseModel.objects.get(), 8, dataset=make_dataset())
    with pytest.raises(Invalid, match="quantized already"):
        conversions.quantize_base(once, 4)


@pytest.mark.both_databases
def test_a_fused_version_is_a_base_of_its_own() -> None:
    version = make_version()
    made = conversions.fuse_version(version)
    assert (made.source, made.fused_version) == ("fused", version)
    assert made.derived_from == version.base_model
    assert made.manifest_sha256 != version.base_model.manifest_sha256
    assert made.certificate["kl"] < 1e-12
    assert made.certificate["dataset"] == version.dataset.name
    with pytest.raises(Conflict, match="already a base model"):
        conversions.fuse_version(version)


def test_a_damaged_or_unfinished_version_is_not_fused() -> None:
    with pytest.raises(Conflict, match="has no files"):
        conversions.fuse_version(begin())
    version = make_version(BaseModel.objects.get().models.get())
    weights = paths.absolute(version.artifact_path) / "adapters.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"other")
    with pytest.raises(Damaged, match=r"adapters\.safetensors"):
        conversions.fuse_version(version)


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
    with pytest.raises(NotFound, match="create it first"):
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
    made = conversions.fuse_version(version)
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


@pytest.mark.both_databases
def test_a_quantization_is_a_row_that_ends_in_a_base() -> None:
    base, dataset = make_base("tiny"), make_dataset()
    row = imports.start_quantize(base, 8, 32, dataset=dataset)
    assert (row.name, row.source, row.derived_from) == ("tiny-8bit", "quantized", base)
    seen: list[str] = []

    class Seeing(Progress):
        def stage(self, text: str) -> None:
            seen.append(text)

    made = imports.run(row, Seeing())
    row.refresh_from_db()
    assert (row.status, row.base_model) == ("completed", made)
    assert made.certificate["dataset"] == dataset.name
    assert seen == ["Quantizing", "Comparing with the original", "Computing checksums"]


@pytest.mark.both_databases
def test_what_is_seen_to_fail_makes_no_row() -> None:
    base, dataset = make_base("tiny"), make_dataset()
    with pytest.raises(Conflict, match="already a base model"):
        imports.start_quantize(base, 8, name="TINY", dataset=dataset)
    with pytest.raises(Invalid, match="no test or valid split"):
        imports.start_quantize(base, 8, dataset=Dataset(name="bare", splits={"train": 3}))
    base.quantization = "4-bit (group 64)"
    with pytest.raises(Invalid, match="quantized already; start from its full weights"):
        imports.start_quantize(base, 8, dataset=dataset)
    with pytest.raises(Conflict, match="has no files"):
        imports.start_fuse(begin())
    assert not BaseImport.objects.exists()
    base.quantization = "float32"
    imports.start_quantize(base, 8, dataset=dataset)
    with pytest.raises(Conflict, match="already running"):
        imports.start_quantize(base, 8, dataset=dataset)


def test_a_refused_conversion_says_so_on_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = imports.start_fuse(make_version())
    monkeypatch.setattr(conversions, "certify", partial(refuse_all, certify))
    with pytest.raises(Invalid, match="nothing was kept"):
        imports.run(row)
    row.refresh_from_db()
    assert row.status == "failed"
    assert "The converted model differs too much, so nothing was kept: KL" in row.error_message
    assert BaseModel.objects.count() == 1


@pytest.mark.both_databases
def test_what_a_dead_conversion_left_is_removed_and_a_retry_begins_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = imports.start_fuse(make_version())
    left = paths.staging_dir(f"import-{row.pk}")
    (left / "model.safetensors").write_bytes(b"half")
    other = paths.staging_dir(f"import-{row.pk}1")
    BaseImport.objects.update(heartbeat_at=timezone.now() - SILENCE * 2)
    assert BaseImport.objects.fail_silent() == 1
    assert set(leftovers()) == {left, other}  # the process may only have slept, and not know yet
    row.refresh_from_db()
    assert row.error_message.startswith("The process ended early and nothing was kept")
    monkeypatch.setattr(work, "launch", lambda row: row)
    made = imports.run(imports.retry(row))
    assert leftovers() == [other]
    assert (made.source, made.fused_version) == ("fused", row.fused_version)


def test_a_conversion_of_what_has_gone_says_so() -> None:
    row = imports.start_fuse(make_version())
    BaseImport.objects.update(fused_version=None)
    row.refresh_from_db()
    with pytest.raises(Invalid, match="no longer exists"):
        imports.run(row)


def test_the_form_and_the_api_refuse_in_a_sentence(client: Client) -> None:
    base = make_base("tiny")
    form = {"bits": 8, "group_size": 64, "name": "tiny"}
    page = client.post(f"/bases/{base.pk}/quantize/", form)
    assert page.status_code == 409
    assert "already a base model named tiny" in page.content.decode()
    api = client.post(f"/api/bases/{base.pk}/quantize", form, content_type="application/json")
    assert api.status_code == 409
    bad = client.post(f"/api/bases/{base.pk}/quantize", {"bits": 3}, "application/json")
    assert bad.status_code == 422
    version = make_version()
    page = client.post(f"{version.get_absolute_url()}fuse/", {"name": "tiny"})
    assert page.status_code == 409
    assert "already a base model named tiny" in page.content.decode()


def test_pages_show_the_work_where_it_was_begun(client: Client) -> None:
    version = make_version()
    row = imports.start_fuse(version)
    exports_page = client.get(f"{version.get_absolute_url()}exports/").content.decode()
    assert "Waiting to start" in exports_page
    assert 'hx-trigger="every 2s"' in exports_page
    imports.run(row)
    for page in (f"{version.get_absolute_url()}exports/", f"/bases/{version.base_model_id}/"):
        shown = client.get(page).content.decode()
        assert "same first token" in shown
        assert 'hx-trigger="every 2s"' not in shown


@pytest.mark.both_databases
def test_an_export_whose_process_is_silent_has_failed() -> None:
    version = make_version()
    long_ago = timezone.now() - SILENCE * 2
    ExportTask.objects.create(version=version, form="gguf", heartbeat_at=long_ago)
    found = exports.look(version, "gguf")
    assert found is not None
    assert found.status == "failed"
    assert "nothing was kept. Retry" in found.error


def test_gguf_is_refused_before_any_work() -> None:
    version = make_version()
    config = registration.base_path(version.base_model) / "config.json"
    config.chmod(0o644)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization": {"bits": 4}}))
    with pytest.raises(Invalid, match="GGUF is written from full weights"):
        exports.request(version, "gguf")
    assert exports.look(version, "gguf") is None


def test_a_stored_fused_export_shows_its_certificate(client: Client) -> None:
    version = make_version()
    exports.store(version, "fused")
    url = f"/api/models/{version.model_id}/versions/{version.version}/exports"
    [found] = client.get(url).json()
    assert found["certificate"]["top1"] == 1.0


@pytest.mark.both_databases
def test_an_export_is_launched_once_and_again_after_it_failed(
    monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    launched: list[ExportTask] = []
    monkeypatch.setattr(work, "launch", recorder(launched))
    version = make_version()
    page = f"{version.get_absolute_url()}exports/"
    for _ in range(2):
        client.post(page, {"form": "fused"})
    [task] = launched
    assert "Waiting to start" in client.get(page).content.decode()
    with pytest.raises(Conflict, match="already running"):
        exports.store(version, "fused")
    task.fail("Killed.")
    assert "Killed." in client.get(page).content.decode()
    client.post(page, {"form": "fused"})
    out = StringIO()
    call_command("export", "--row", str(launched[1].pk), stdout=out)
    assert "is exported to" in out.getvalue()
    found = exports.look(version, "fused")
    assert found is not None
    assert (found.status, found.certificate["top1"]) == ("ready", 1.0)
    exports.file_path(version, "fused").unlink()
    assert exports.look(version, "fused") is None
    with pytest.raises(CommandError, match="no export task 999"):
        call_command("export", "--row", "999")
