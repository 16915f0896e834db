"""Training a version again: bit-exact, close or diverged, and why; on the fake backend."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from backends.fake import files
from registry.bases import registration
from registry.datasets import snapshots
from registry.errors import Conflict, Damaged
from registry.models import ModelVersion
from registry.storage import artifacts, paths
from tests.training.build import SHORT, claim, make_job
from training import queue
from training.attempt import reproduction, runner
from training.models import TrainingJob

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

Status = TrainingJob.Status


def run_next() -> TrainingJob:
    job = claim()
    assert job.lease is not None
    runner.run(job.pk, job.lease, lambda: "")
    return TrainingJob.objects.get(pk=job.pk)


def make_version(**config: Any) -> ModelVersion:
    make_job(**SHORT | config)
    version = run_next().result_version
    assert version is not None
    return version


def reproduce(version: ModelVersion) -> dict[str, Any]:
    reproduction.enqueue(version)
    job = run_next()
    assert (job.status, job.error_message) == (Status.COMPLETED, "")
    version.refresh_from_db()
    found: dict[str, Any] = version.reproduction
    return found


def rewrite(version: ModelVersion, change: Callable[[dict[str, files.Tensor]], None]) -> None:
    """Replace the version's weights and record them as its own."""
    folder = paths.absolute(version.artifact_path)
    copy = paths.staging_dir("test")
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    weights = copy / "adapters.safetensors"
    weights.chmod(0o644)
    tensors = files.read_safetensors(weights)
    change(tensors)
    files.write_safetensors(weights, tensors)
    manifest = artifacts.publish(copy, folder)
    version.manifest_sha256 = manifest.sha256
    version.save()


def moved_by(share: float) -> Callable[[dict[str, files.Tensor]], None]:
    """Change the first tensor's largest weight by a fraction of it."""

    def move(tensors: dict[str, files.Tensor]) -> None:
        values = next(iter(tensors.values())).values
        at = max(range(len(values)), key=lambda n: abs(values[n]))
        values[at] *= 1 + share

    return move


@pytest.mark.both_databases
def test_the_same_lineage_gives_the_same_bytes_and_no_version() -> None:
    version = make_version()
    found = reproduce(version)
    assert found["verdict"] == "bit-exact"
    assert found["sha256"]["recorded"] == found["sha256"]["reproduced"]
    assert (found["differences"], found["differs"], found["unknown"]) == ({}, [], [])
    assert ModelVersion.objects.count() == 1
    job = TrainingJob.objects.get(pk=found["job"])
    assert (job.reproduces, job.result_version) == (version, None)
    assert paths.staging_dirs(f"job-{job.pk}") == []
    assert not (paths.job_dir(job.pk) / "checkpoints").exists()


@pytest.mark.parametrize("recorded", [{"mask_prompt": True}, {"mask_prompt": False}])
def test_a_version_from_before_learn_is_trained_as_it_was(recorded: dict[str, bool]) -> None:
    version = make_version()
    for name in ("learn", "special_tokens", "thoughts", "tools", "arithmetic"):
        del version.params[name]
    version.params |= recorded
    version.save()
    found = reproduce(version)
    assert (found["verdict"], found["unknown"]) == ("bit-exact", [])
    config = TrainingJob.objects.get(pk=found["job"]).training_config
    assert config.learn == ("last_answer" if recorded["mask_prompt"] else "everything")
    assert (config.special_tokens, config.thoughts) == ("control", "as_written")
    assert (config.tools, config.arithmetic) == ("as_written", "earlier")


def test_figures_are_compared_too() -> None:
    version = make_version()
    compared = reproduce(version)["metrics"]["val_loss"]
    assert compared["recorded"] == compared["reproduced"] == version.metrics["val_loss"]


def test_rounding_differences_are_close_and_the_changes_are_named() -> None:
    version = make_version()
    rewrite(version, moved_by(1e-6))
    version.packages = {**version.packages, "mlx": "0.1.0"}
    version.hardware = {**version.hardware, "cores": 999}
    version.save()
    found = reproduce(version)
    assert found["verdict"] == "close"
    assert 0 < found["largest_difference"] < 1e-6
    assert set(found["differences"]) > {"model.layers.0.self_attn.q_proj.lora_a"}
    assert [cause["what"] for cause in found["differs"]] == ["package mlx", "hardware: cores"]
    assert found["differs"][0]["recorded"] == "0.1.0"


def test_other_weights_have_diverged() -> None:
    version = make_version()
    rewrite(version, moved_by(0.2))
    assert reproduce(version)["verdict"] == "diverged"


def test_another_seed_has_diverged() -> None:
    version = make_version()
    version.seed = 8
    version.save()
    found = reproduce(version)
    assert found["verdict"] == "diverged"
    assert found["largest_difference"] > 0.01


def test_a_tensor_that_only_one_has_makes_it_diverge() -> None:
    version = make_version()
    rewrite(version, lambda tensors: tensors.update(extra=next(iter(tensors.values()))))
    found = reproduce(version)
    assert found["verdict"] == "diverged"
    assert found["differences"]["extra"] is None


def test_what_was_never_recorded_is_reported() -> None:
    version = make_version()
    del version.params["optimizer"]
    version.packages, version.hardware, version.git_commit = {}, {}, ""
    version.save()
    unknown = reproduce(version)["unknown"]
    assert unknown[:3] == ["the hub's commit", "package versions", "hardware"]
    assert unknown[-1] == "settings that took today's defaults: optimizer"


def test_another_commit_is_named() -> None:
    version = make_version()
    version.git_commit = "0" * 40
    version.save()
    assert reproduce(version)["differs"][0]["what"] == "the hub's commit"


@pytest.mark.parametrize("gone", ["data", "base", "version"])
def test_missing_files_are_a_refusal(gone: str) -> None:
    version = make_version()
    assert version.dataset
    folder = {
        "data": snapshots.dataset_path(version.dataset),
        "base": registration.base_path(version.base_model),
        "version": paths.absolute(version.artifact_path),
    }[gone]
    shutil.rmtree(folder)
    with pytest.raises(Damaged, match="damaged or missing"):
        reproduction.enqueue(version)
    assert TrainingJob.objects.count() == 1


def test_damage_that_keeps_the_size_fails_the_job_with_the_reason() -> None:
    version = make_version()
    assert version.dataset
    flip_last_byte(snapshots.dataset_path(version.dataset) / "train.jsonl")
    reproduction.enqueue(version)
    job = run_next()
    assert job.status == Status.FAILED
    assert "train.jsonl has other content" in job.error_message
    version.refresh_from_db()
    assert version.reproduction == {}


def test_a_damaged_version_is_not_compared() -> None:
    version = make_version()
    flip_last_byte(paths.absolute(version.artifact_path) / "adapters.safetensors")
    reproduction.enqueue(version)
    job = run_next()
    assert (job.status, ModelVersion.objects.get().reproduction) == (Status.FAILED, {})
    assert "are damaged" in job.error_message


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"status": "failed"}, "no weights"),
        ({"dataset": None}, "data set of helper@0.1.0 is unknown"),
        ({"dataset_checksum": "0" * 64}, "Data set .* differs"),
        ({"base_checksum": "0" * 64}, "Base model .* differs"),
        ({"params": {}}, "settings of helper@0.1.0 are unknown"),
        ({"params": {"iters": 0}}, "iters"),
    ],
)
def test_an_incomplete_lineage_is_refused(columns: dict[str, Any], reason: str) -> None:
    version = make_version()
    ModelVersion.objects.update(**columns)
    version.refresh_from_db()
    with pytest.raises(Conflict, match=reason):
        reproduction.enqueue(version)


@pytest.mark.both_databases
def test_one_reproduction_at_a_time() -> None:
    version = make_version()
    job = reproduction.enqueue(version)
    with pytest.raises(Conflict, match=f"Job {job.pk} is already reproducing"):
        reproduction.enqueue(version)
    queue.cancel(job)
    assert reproduction.enqueue(version).pk != job.pk


def test_the_command_prints_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    version = make_version()
    output = command_output(monkeypatch, "helper@0.1.0")
    assert "bit-exact" in output
    rewrite(version, moved_by(0.5))
    with pytest.raises(SystemExit) as ended:
        command_output(monkeypatch, "helper@0.1.0")
    assert ended.value.code == 1


def command_output(monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """Run the command; while it waits, the job runs as in the worker."""
    waiting = SimpleNamespace(sleep=lambda _s: run_next())
    monkeypatch.setattr("training.management.commands.reproduce.time", waiting)
    out = StringIO()
    call_command("reproduce", name, stdout=out)
    return out.getvalue()


def test_the_command_need_not_wait_and_reports_refusals() -> None:
    make_version()
    out = StringIO()
    call_command("reproduce", "helper@0.1.0", "--no-wait", stdout=out)
    assert TrainingJob.objects.get(status=Status.QUEUED).reproduces is not None
    with pytest.raises(CommandError, match="already reproducing") as refused:
        call_command("reproduce", "helper@0.1.0", stdout=out)
    assert refused.value.returncode == 2


@pytest.mark.both_databases
def test_page_and_api_queue_it_and_show_the_result(client: Client) -> None:
    version = make_version()
    page = version.get_absolute_url()
    api = f"/api/models/{version.model_id}/versions"
    lineage = f"{page}lineage/"
    assert "Reproduce" in client.get(lineage).content.decode()
    answer = client.post(f"{api}/0.1.0/reproduce", {}, content_type="application/json")
    assert (answer.status_code, answer.json()["reproduces"]) == (201, "helper@0.1.0")
    refused = client.post(f"{page}reproduce/", follow=True).content.decode()
    assert "is already reproducing helper@0.1.0" in refused
    job = run_next()
    assert "without creating a version" in client.get(job.get_absolute_url()).content.decode()
    assert "bit-identical weights" in client.get(lineage).content.decode()
    facts = client.get(f"{api}/0.1.0/lineage").json()["facts"]
    assert facts["reproduction"]["verdict"] == "bit-exact"
    listed = client.get(api).json()["items"]
    assert listed[0]["reproduction"]["verdict"] == "bit-exact"
    assert client.post(f"{page}reproduce/").headers["Location"].startswith("/training/")
    missing = client.post(f"{api}/9.9.9/reproduce", {}, content_type="application/json")
    assert missing.status_code == 404


def test_a_reproduction_is_never_halved_for_want_of_memory() -> None:
    """With another batch size it would not reproduce anything."""
    reproduction.enqueue(make_version(batch_size=4))
    for _ in range(queue.MAX_CRASHES):
        TrainingJob.objects.update(not_before=None)
        job = claim()
        assert job.lease is not None
        queue.crashed(job, job.lease, "Memory ran out.", out_of_memory=True)
    job.refresh_from_db()
    assert (job.status, job.config["batch_size"], job.can_halve) == (Status.FAILED, 4, False)
    with pytest.raises(Conflict, match="does not reproduce a version"):
        queue.retry_halved(job)
