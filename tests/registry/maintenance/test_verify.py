"""`manage.py verify`: every damaged or missing file is named."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from registry.maintenance.archive import archive_version
from registry.models import ModelVersion
from registry.storage import paths
from tests.registry.build import begin, make_model, make_version

pytestmark = pytest.mark.django_db


def verify(*arguments: str) -> tuple[int, str]:
    """Exit code and output."""
    out = io.StringIO()
    try:
        call_command("verify", *arguments, stdout=out)
    except CommandError as error:
        return error.returncode, out.getvalue() + str(error)
    return 0, out.getvalue()


def test_sound_files_are_said_to_be_sound() -> None:
    version = make_version()
    archive_version(make_version(version.model))
    code, said = verify("--all")
    assert code == 0
    for name in ("helper@0.1.0", "helper@0.1.1", "base:helper-base", "data set notes"):
        assert f"{name}: sound" in said
    assert "4 checked, none damaged." in said


def lose(path: str, name: str) -> None:
    (paths.absolute(path) / name).unlink()


def test_each_missing_or_changed_file_is_named() -> None:
    version = make_version()
    other = make_version(make_model("other"))
    lose(version.artifact_path, "adapters.safetensors")
    lose(version.artifact_path, "adapter_config.json")
    code, said = verify()
    assert code == 1
    assert "active/helper/0.1.0: adapters.safetensors is missing." in said
    assert "active/helper/0.1.0: adapter_config.json is missing." in said
    assert f"{other}: sound" in said
    assert "1 of 2 damaged." in said


def test_damaged_bases_and_data_sets_are_found_with_all() -> None:
    version = make_version()
    assert version.dataset is not None
    lose(version.dataset.path, "valid.jsonl")
    lose(version.base_model.path, "config.json")
    assert verify()[0] == 0
    code, said = verify("--all")
    assert code == 1
    assert "valid.jsonl is missing." in said
    assert "config.json is missing." in said


def test_a_name_chooses_a_model_or_one_version() -> None:
    model = make_model()
    make_version(model)
    make_version(model)
    make_version(make_model("other"))
    assert "2 checked" in verify("helper")[1]
    assert "1 checked" in verify("Helper@0.1.1")[1]


@pytest.mark.parametrize("name", ["nope", "helper@9.9.9", "helper@"])
def test_an_unknown_name_is_an_error(name: str) -> None:
    make_version()
    code, said = verify(name)
    assert code == 1
    assert "There is no model" in said or "has no version" in said


def test_another_manifest_is_damage() -> None:
    version = make_version()
    ModelVersion.objects.filter(pk=version.pk).update(manifest_sha256="0" * 64)
    assert "not the one that was recorded" in verify()[1]


def test_a_lost_folder_is_damage() -> None:
    version = make_version()
    paths.absolute(version.artifact_path).rename(paths.staging_dir("lost") / "all")
    assert "The folder active/helper/0.1.0 is missing." in verify()[1]


def test_a_version_without_files_is_refused() -> None:
    client = Client(headers={"host": "localhost"})
    version = begin()
    answer = client.get(f"/api/models/{version.model_id}/versions/{version.version}/verify")
    assert answer.status_code == 409
    assert "it has no files to verify" in answer.json()["error"]["message"]
    shown = client.get(f"/api/models/{version.model_id}/versions/{version.version}").json()
    assert (shown["version"], shown["status"]) == ("0.1.0", "training")
