"""A version carried from one hub to another, whole or not at all."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from registry.bundles.reader import import_bundle
from registry.bundles.writer import export
from registry.errors import Conflict, Damaged, HubError, Invalid, NotFound
from registry.models import BaseModel, Dataset, Model, ModelVersion
from registry.storage import artifacts, paths
from tests.registry.build import begin, make_base, make_model, make_version

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture
def carried(tmp_path: Path) -> Path:
    """The bundle of helper@0.1.0, with its data."""
    version = make_version()
    file = tmp_path / "helper.tar"
    file.write_bytes(b"".join(export(version, with_data=True)))
    return file


@pytest.fixture
def other_hub(carried: Path, tmp_path: Path, settings: object) -> Path:
    """Another hub, with storage of its own and only the base model."""
    ModelVersion.objects.all().delete()
    Model.objects.all().delete()
    Dataset.objects.all().delete()
    BaseModel.objects.all().delete()
    settings.STORAGE = tmp_path / "other"  # type: ignore[attr-defined]
    paths.make_folders()
    return tmp_path / "other"


@pytest.mark.both_databases
def test_the_adapter_arrives_byte_for_byte_with_its_lineage(
    carried: Path, storage: Path, other_hub: Path
) -> None:
    make_model("helper", base=make_base("helper-base"))
    version = import_bundle(carried)
    assert str(version) == "helper@0.1.0"
    folder = paths.absolute(version.artifact_path)
    assert folder.is_relative_to(other_hub)
    source = storage / "active" / "helper" / "0.1.0"
    names = sorted(path.name for path in source.iterdir())
    assert names == ["adapter_config.json", "adapters.safetensors", "manifest.json"]
    assert all((folder / name).read_bytes() == (source / name).read_bytes() for name in names)
    row = ModelVersion.objects.get()
    assert (row.params, row.metrics, row.seed) == ({"iters": 10}, {"val_loss": 0.5}, 0)
    assert row.base_checksum == row.base_model.manifest_sha256
    assert "Imported from a bundle of helper@0.1.0" in row.notes
    assert row.dataset
    assert row.dataset.checksum == row.dataset_checksum
    assert not artifacts.verify(folder)


def test_without_the_base_model_the_way_to_get_it_is_said(carried: Path, other_hub: Path) -> None:
    with pytest.raises(NotFound, match=r"helper-base .* is not on this hub. Import it from"):
        import_bundle(carried)
    assert not Model.objects.exists()


def test_a_base_of_unknown_shape_is_refused(carried: Path, other_hub: Path) -> None:
    make_base("else")
    with pytest.raises((Invalid, NotFound)):
        import_bundle(carried, base_name="nothing")
    base = BaseModel.objects.get()
    (paths.absolute(base.path) / "config.json").unlink(missing_ok=True)
    with pytest.raises(Invalid, match="does not fit"):
        import_bundle(carried, base_name="else")


def test_a_base_of_the_same_shape_takes_the_adapter_and_the_notes_say_so(
    carried: Path, other_hub: Path
) -> None:
    make_base("twin")  # other weights, the same architecture and dimensions
    call_command("import_bundle", str(carried), "--model", "adopted", "--base", "twin")
    version = ModelVersion.objects.get(model__name="adopted")
    assert version.base_model.name == "twin"
    assert version.base_checksum != version.base_model.manifest_sha256  # what it was trained on
    assert "Trained on other weights, helper-base; attached to twin" in version.notes
    assert not artifacts.verify(paths.absolute(version.artifact_path))


def test_a_base_of_another_shape_is_refused(carried: Path, other_hub: Path) -> None:
    config = paths.absolute(make_base("wide").path) / "config.json"
    config.chmod(0o644)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": 9999}))
    with pytest.raises(Invalid, match="wide does not fit"):
        import_bundle(carried, base_name="wide")
    assert not ModelVersion.objects.exists()


@pytest.mark.both_databases
def test_a_taken_number_gives_the_next(carried: Path) -> None:
    version = import_bundle(carried)
    assert str(version) == "helper@0.1.1"
    assert version.manifest_sha256 == ModelVersion.objects.get(version="0.1.0").manifest_sha256


def test_a_model_on_another_base_is_refused(carried: Path) -> None:
    make_model("elsewhere")
    with pytest.raises(Invalid, match="choose another name"):
        import_bundle(carried, model_name="elsewhere")


def test_a_version_without_files_is_not_exported() -> None:
    with pytest.raises(Conflict, match="has no files"):
        export(begin())


def test_a_damaged_version_is_not_exported() -> None:
    version = make_version()
    file = paths.absolute(version.artifact_path) / "adapters.safetensors"
    file.chmod(0o644)
    file.write_bytes(b"changed")
    with pytest.raises(Damaged, match=r"adapters\.safetensors"):
        export(version)


def _flip(content: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(content))
    return content[:place] + bytes([content[place] ^ dice.randrange(1, 256)]) + content[place + 1 :]


def _cut(content: bytes, dice: random.Random) -> bytes:
    return content[: dice.randrange(len(content))]


def _insert(content: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(content) + 1)
    return content[:place] + dice.randbytes(dice.choice([1, 512])) + content[place:]


def _swap(content: bytes, dice: random.Random) -> bytes:
    """Two different blocks exchanged."""
    blocks = [content[start : start + 512] for start in range(0, len(content), 512)]
    one, two = dice.choice(
        [(i, k) for i in range(len(blocks)) for k in range(i) if blocks[i] != blocks[k]]
    )
    blocks[one], blocks[two] = blocks[two], blocks[one]
    return b"".join(blocks)


@pytest.mark.parametrize("change", [_flip, _cut, _insert, _swap])
def test_whatever_is_changed_is_refused(
    carried: Path, change: Callable[[bytes, random.Random], bytes]
) -> None:
    dice = random.Random(change.__name__)
    whole = carried.read_bytes()
    for _ in range(75):
        carried.write_bytes(change(whole, dice))
        with pytest.raises((Damaged, Invalid)):
            import_bundle(carried)
    assert ModelVersion.objects.count() == 1
    assert not list((paths.root() / "staging").iterdir())


@pytest.mark.parametrize(("notes", "taken"), [("a\0b", False), (r"a\u0000b", True)])
@pytest.mark.both_databases
def test_a_nul_is_refused_and_its_name_is_a_text_like_others(
    tmp_path: Path, notes: str, taken: bool
) -> None:
    version = make_version()
    version.notes = notes
    file = tmp_path / "one.tar"
    with file.open("wb") as out:
        out.writelines(export(version))
    if taken:
        assert notes in import_bundle(file).notes
    else:
        with pytest.raises(Invalid, match="not written by a hub"):
            import_bundle(file)


def test_the_damaged_file_is_named(carried: Path) -> None:
    carried.write_bytes(carried.read_bytes().replace(b"helper@0.1.0", b"helper@0.1.9"))
    with pytest.raises(HubError, match=r"bundle\.json"):
        import_bundle(carried)


async def _joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


def test_the_commands_write_and_take_one_file(tmp_path: Path) -> None:
    make_version()
    file = tmp_path / "one.tar"
    call_command("export_bundle", "helper@0.1.0", str(file))
    with pytest.raises(CommandError, match="exists already"):
        call_command("export_bundle", "helper@0.1.0", str(file))
    call_command("import_bundle", str(file))
    assert ModelVersion.objects.filter(version="0.1.1", status="ready").exists()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CommandError, match="truncated"):
        call_command("import_bundle", str(file))


def test_a_command_may_be_written_with_a_dash() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "export-bundle", "--help"], capture_output=True, text=True
    )
    assert "--with-data" in done.stdout


def test_the_api_streams_what_the_command_writes(carried: Path, client: Client) -> None:
    version = ModelVersion.objects.get()
    url = f"/api/models/{version.model_id}/versions/0.1.0/bundle"
    answer: Any = client.get(f"{url}?with_data=true", headers={"host": "localhost"})
    assert async_to_sync(_joined)(answer.streaming_content) == carried.read_bytes()
    assert 'filename="helper-0.1.0.bundle.tar"' in answer["Content-Disposition"]


def _left() -> list[Path]:
    return [path for name in ("staging", "uploads") for path in (paths.root() / name).iterdir()]


@pytest.mark.both_databases
def test_the_page_verifies_and_takes_a_bundle(
    carried: Path, other_hub: Path, client: Client
) -> None:
    assert 'type="file"' in client.get("/models/import/").content.decode()
    with carried.open("rb") as file:
        refused = client.post("/models/import/", {"file": file})
    assert refused.status_code == 404
    assert "is not on this hub. Import it from" in refused.content.decode()
    make_base("helper-base")
    with carried.open("rb") as file:
        taken = client.post("/models/import/", {"file": file, "model": "mine"}, follow=True)
    assert "mine@0.1.0 is verified and ready." in taken.content.decode()
    assert ModelVersion.objects.get().model.name == "mine"
    assert _left() == []


def test_the_page_refuses_a_base_of_another_shape(
    carried: Path, other_hub: Path, client: Client
) -> None:
    base = make_base("else")
    (paths.absolute(base.path) / "config.json").unlink()
    with carried.open("rb") as file:
        answer = client.post("/models/import/", {"file": file, "base": base.pk})
    assert answer.status_code == 422
    assert "else does not fit" in answer.content.decode()


@pytest.mark.parametrize("large", [False, True])  # in memory, and in a file of Django's
def test_the_api_takes_a_bundle_and_names_what_is_damaged(
    carried: Path, client: Client, settings: object, large: bool
) -> None:
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 0 if large else 10**9  # type: ignore[attr-defined]
    with carried.open("rb") as file:
        taken = client.post("/api/bundles", {"file": file})
    assert taken.status_code == 201, taken.content
    assert (taken.json()["version"], taken.json()["status"]) == ("0.1.1", "ready")
    carried.write_bytes(carried.read_bytes().replace(b"helper@0.1.0", b"helper@0.1.9", 1))
    with carried.open("rb") as file:
        refused = client.post("/api/bundles", {"file": file})
    assert refused.status_code == 422
    assert "bundle.json" in refused.json()["error"]["message"]
    assert "Nothing was kept" in refused.json()["error"]["message"]
    assert client.post("/api/bundles", {"model": "x"}).status_code == 422
    assert ModelVersion.objects.count() == 2
    assert _left() == []


@pytest.mark.both_databases
def test_labels_travel_with_the_version(tmp_path: Path) -> None:
    version = make_version()
    version.labels = ["praise", "complaint"]
    file = tmp_path / "one.tar"
    with file.open("wb") as out:
        out.writelines(export(version))
    assert import_bundle(file).labels == ["praise", "complaint"]
