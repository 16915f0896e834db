"""Versions from their beginning to an alias."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from registry.errors import Conflict, Damaged, Invalid
from registry.models import Alias, AliasMove, Model, ModelVersion
from registry.promotion.aliases import move_alias
from registry.storage import artifacts, paths
from registry.versions import lineage
from registry.versions.lifecycle import begin_version, complete_version, fail_version
from tests.registry.build import (
    begin,
    make_base,
    make_dataset,
    make_model,
    make_staging,
    make_version,
)

pytestmark = pytest.mark.django_db


def test_a_version_begins_with_its_whole_lineage() -> None:
    model, dataset = make_model(), make_dataset()
    version = begin_version(model, dataset, {"iters": 5, "lora": {"rank": 8}}, seed=3)
    assert (version.version, version.status) == ("0.1.0", "training")
    assert version.dataset_checksum == dataset.checksum
    assert version.base_checksum == model.base_model.manifest_sha256
    assert (version.params["lora"]["rank"], version.seed) == (8, 3)
    assert version.packages["django"] == "6.0.10"
    assert version.hardware["memory_bytes"] > 0
    assert (version.git_commit, version.git_dirty) == lineage.checkout(Path(settings.BASE_DIR))


def test_a_folder_that_is_no_checkout_has_no_commit(tmp_path: Path) -> None:
    assert lineage.checkout(tmp_path) == ("", None)
    inside = Path(settings.BASE_DIR) / "registry"
    assert lineage.checkout(inside) == ("", None)


def test_numbers_follow_what_changed() -> None:
    model, dataset = make_model(), make_dataset()
    other = make_dataset("other", first=3)

    def number(data: object, iters: int, seed: int = 0) -> str:
        params = {"iters": iters, "seed": seed}
        return begin_version(model, data, params, seed).version  # type: ignore[arg-type]

    assert number(dataset, 10) == "0.1.0"
    assert number(dataset, 10) == "0.1.1"
    assert number(dataset, 10, seed=5) == "0.1.2"
    assert number(dataset, 20) == "0.2.0"
    assert number(other, 20) == "0.3.0"
    assert number(other, 20) == "0.3.1"


def test_settings_that_have_another_name_now_are_the_same() -> None:
    model, dataset = make_model(), make_dataset()

    def number(**params: object) -> str:
        return begin_version(model, dataset, params, 0).version

    assert number(mask_prompt=True) == "0.1.0"
    assert number(learn="last_answer", special_tokens="control") == "0.1.1"
    assert number(arithmetic="earlier", tools="as_written") == "0.1.2"
    assert number(learn="answers", special_tokens="text") == "0.2.0"


def test_a_parent_has_the_same_base() -> None:
    parent = make_version(make_model("one"))
    with pytest.raises(Invalid, match="was trained on one-base"):
        begin_version(make_model("two"), make_dataset(), {}, 0, parent=parent)


def test_a_completed_version_is_ready_with_its_files() -> None:
    version = complete_version(begin(), make_staging(b"w"), {"val_loss": 0.5})
    folder = paths.absolute(version.artifact_path)
    assert version.status == "ready"
    assert version.metrics == {"val_loss": 0.5}
    assert folder == paths.version_dir("helper", "0.1.0")
    assert (folder / "adapters.safetensors").read_bytes() == b"w"
    assert artifacts.read_manifest(folder).sha256 == version.manifest_sha256
    assert version.size_bytes == artifacts.read_manifest(folder).size_bytes


def test_completing_twice_is_completing_once() -> None:
    version = begin()
    staging = make_staging(b"w")
    first = complete_version(version, staging, {"val_loss": 0.5}).manifest_sha256
    assert complete_version(version, staging, {}).manifest_sha256 == first
    assert version.metrics == {"val_loss": 0.5}


def test_files_of_an_attempt_that_was_cut_off_give_way_to_those_of_the_next() -> None:
    version = begin()
    artifacts.publish(make_staging(b"first"), paths.version_dir("helper", "0.1.0"))
    complete_version(version, make_staging(b"second"), {})
    folder = paths.absolute(version.artifact_path)
    assert (folder / "adapters.safetensors").read_bytes() == b"second"
    assert artifacts.verify(folder) == []


def test_a_ready_version_never_takes_other_files() -> None:
    version = make_version()
    with pytest.raises(Conflict, match=r"helper@0\.1\.0 is ready"):
        complete_version(version, make_staging(b"other"), {})
    assert artifacts.verify(paths.absolute(version.artifact_path)) == []


def test_a_failed_version_is_not_completed() -> None:
    version = begin()
    fail_version(version)
    assert version.status == "failed"
    with pytest.raises(Conflict, match="is failed"):
        complete_version(version, make_staging(), {})
    assert not paths.version_dir("helper", "0.1.0").exists()


def test_a_ready_version_does_not_fail_any_more() -> None:
    version = make_version()
    fail_version(version)
    assert version.status == "ready"


def test_there_is_no_version_without_files() -> None:
    version = begin()
    with pytest.raises(Damaged, match="no files"):
        complete_version(version, paths.root() / "staging" / "gone", {})
    target = paths.version_dir("helper", "0.1.0")
    artifacts.publish(make_staging(), target)
    (target / "adapters.safetensors").unlink()
    with pytest.raises(Damaged, match=r"adapters\.safetensors is missing"):
        complete_version(version, paths.root() / "staging" / "gone", {})


def test_an_alias_moves_and_its_history_stays() -> None:
    one = make_version()
    two = make_version(one.model)
    move_alias(one.model, "production", one, by="ana", reason="first")
    move = move_alias(one.model, "production", two, by="ben", reason="better")
    assert Alias.objects.get().version == two
    assert (move.from_version, move.to_version, move.by) == (one, two, "ben")
    assert [m.reason for m in AliasMove.objects.all()] == ["better", "first"]


def test_moving_to_where_it_points_is_no_move() -> None:
    version = make_version()
    first = move_alias(version.model, "production", version)
    assert move_alias(version.model, "production", version) == first
    assert AliasMove.objects.count() == 1


def test_an_alias_takes_only_ready_versions_of_its_model() -> None:
    version = begin()
    with pytest.raises(Conflict, match="only a ready version"):
        move_alias(version.model, "production", version)
    with pytest.raises(Invalid, match="not a version of"):
        move_alias(make_model("other"), "production", version)
    with pytest.raises(Invalid, match="not a valid alias"):
        move_alias(version.model, "Production!", version)
    assert not Alias.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_versions_begun_at_once_get_numbers_of_their_own() -> None:
    model, dataset = make_model(), make_dataset()

    def work() -> None:
        try:
            begin_version(model, dataset, {}, 0)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = sorted(ModelVersion.objects.values_list("version", flat=True))
    assert numbers == ["0.1.0", "0.1.1", "0.1.2", "0.1.3", "0.1.4", "0.1.5"]


@pytest.mark.django_db(transaction=True)
def test_moves_at_once_leave_a_history_without_a_gap() -> None:
    model = Model.objects.create(name="helper", base_model=make_base())
    versions = [make_version(model) for _ in range(6)]

    def work(version: ModelVersion) -> None:
        try:
            move_alias(model, "production", version)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moves = list(AliasMove.objects.order_by("pk"))
    assert [m.from_version_id for m in moves] == [None, *(m.to_version_id for m in moves[:-1])]
    assert Alias.objects.get().version_id == moves[-1].to_version_id
