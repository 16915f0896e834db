"""The number of a job's version: proposed, or chosen if it is free and above the newest."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client

from registry.errors import Conflict, Invalid
from registry.models import Dataset, Model, ModelVersion
from tests.training.build import SHORT, claim, make_config, make_dataset, make_job, make_model
from training import queue
from training.attempt import runner
from training.models import TrainingJob

pytestmark = pytest.mark.django_db


def ask(number: str, model: Model | None = None, **config: Any) -> TrainingJob:
    model = model or Model.objects.first() or make_model()
    dataset = Dataset.objects.first() or make_dataset()
    return queue.enqueue(model, dataset, make_config(**SHORT | config), version_number=number)


def train(job: TrainingJob) -> ModelVersion:
    """Run the next job, which must be this one; returns its version."""
    claimed = claim()
    assert claimed.pk == job.pk
    assert claimed.lease is not None
    runner.run(claimed.pk, claimed.lease, lambda: "")
    job.refresh_from_db()
    assert job.result_version is not None
    return job.result_version


def test_a_chosen_number_is_used_and_later_proposals_continue_from_it() -> None:
    first = train(ask("1.0.0"))
    assert (str(first), first.status, first.notes) == ("helper@1.0.0", "ready", "")
    again = train(ask(""))
    other = train(ask("", learning_rate=0.5))
    assert [again.version, other.version] == ["1.0.1", "1.1.0"]


@pytest.mark.parametrize(
    ("number", "why"),
    [
        ("one", "is not a semantic version"),
        ("1.0", "is not a semantic version"),
        ("01.0.0", "is not a semantic version"),
        ("1.0.0\n", "is not a semantic version"),
        ("0.4.9", r"below the newest version, helper@1\.0\.0; choose a higher number"),
        ("100000.0.0", "too high"),
    ],
)
def test_an_unavailable_number_is_refused_when_the_job_is_queued(number: str, why: str) -> None:
    model = make_model()
    ModelVersion.objects.create(model=model, base_model=model.base_model, version="1.0.0")
    with pytest.raises(Invalid, match=why):
        ask(number)
    assert not TrainingJob.objects.exists()


def test_a_taken_number_is_refused_also_when_only_a_waiting_job_has_it() -> None:
    train(ask("1.0.0"))
    with pytest.raises(Conflict, match=r"already a version helper@1\.0\.0"):
        ask("1.0.0")
    waiting = ask("2.0.0")
    with pytest.raises(Conflict, match=rf"Job {waiting.pk} will create helper@2\.0\.0"):
        ask("2.0.0")
    queue.cancel(waiting)
    assert train(ask("2.0.0")).version == "2.0.0"


def test_a_number_taken_while_the_job_waited_costs_no_training() -> None:
    job = ask("1.0.0")
    ModelVersion.objects.create(
        model=job.model, base_model=job.model.base_model, version="1.0.0", status="failed"
    )
    version = train(job)
    assert (version.version, version.status) == ("1.1.0", "ready")
    assert version.notes == (
        "1.0.0 was chosen for it. There is already a version helper@1.0.0, so it is 1.1.0."
    )
    page = Client().get(job.get_absolute_url()).content.decode()
    assert "Version 1.0.0 was already taken" in page


def test_a_number_that_others_have_passed_is_not_used() -> None:
    late = ask("1.0.0")
    early = ask("2.0.0")
    queue.move(early, "first")
    train(early)
    version = train(late)
    assert version.version == "2.0.1"  # the same data and parameters as 2.0.0
    assert "1.0.0 is below the newest version, helper@2.0.0, so it is 2.0.1." in version.notes


def test_a_retry_does_not_make_a_failed_version_again() -> None:
    job = ask("1.0.0")
    claimed = claim()
    assert claimed.lease is not None
    queue.attach_version(claimed, claimed.lease, claimed.training_config)
    queue.fail(claimed, claimed.lease, "It broke.")
    version = train(queue.retry(job))
    assert version.version == "1.0.1"
    assert "1.0.0 was chosen" in version.notes


def test_proposals_carry_where_a_part_is_full() -> None:
    model = make_model()
    ModelVersion.objects.create(model=model, base_model=model.base_model, version="3.999999.7")
    assert train(ask("", model)).version == "4.0.0"


def test_the_database_keeps_only_semantic_versions() -> None:
    job = make_job(**SHORT)
    with pytest.raises(IntegrityError), transaction.atomic():
        TrainingJob.objects.filter(pk=job.pk).update(version_number="1.0")


def test_a_clone_does_not_inherit_the_number_but_may_have_its_own() -> None:
    job = ask("1.0.0")
    assert queue.clone(job, {"seed": 3}).version_number == ""
    assert queue.clone(job, {"seed": 3}, version_number="1.1.0").version_number == "1.1.0"


# ------------------------------------------------------------------ where it is chosen


def test_the_api_takes_a_number(client: Client) -> None:
    body: dict[str, Any] = {"model_id": make_model().pk, "dataset_id": make_dataset().pk}
    jobs = "/api/training/jobs"

    def post(path: str, **more: Any) -> Any:
        return client.post(path, {**body, **more}, content_type="application/json")

    made = post(jobs, version_number="1.0.0")
    assert made.status_code == 201, made.content
    assert (made.json()["version_number"], made.json()["version"]) == ("1.0.0", None)
    taken = post(jobs, version_number="1.0.0")
    assert (taken.status_code, "will create" in taken.json()["error"]["message"]) == (409, True)
    assert post(jobs, version_number="first").status_code == 422
    body = {"changes": {"seed": 9}}
    assert post(f"{jobs}/{made.json()['id']}/clone", version_number="1.0.0").status_code == 409
    cloned = post(f"{jobs}/{made.json()['id']}/clone", version_number="1.2.0").json()
    assert cloned["version_number"] == "1.2.0"
    assert TrainingJob.objects.count() == 2


def test_the_form_takes_a_number_and_shows_the_resulting_version(client: Client) -> None:
    fields: dict[str, Any] = {"model": make_model().pk, "dataset": make_dataset().pk}

    def plan(**more: Any) -> Any:
        return client.post("/training/new/plan/", {**fields, **more}).context["plan"]

    assert plan().version == "0.1.0"
    assert plan(version_number="1.0.0").version == "1.0.0"
    assert (
        plan(version_number="1").problems[0].label,
        plan(version_number="1").problems[0].message.partition(":")[0],
    ) == ("Version", "'1' is not a semantic version")
    grid = {"batch_size": "2, 4", "version_number": "1.0.0"}
    assert "A sweep creates 2 versions" in plan(**grid).problems[0].message
    assert client.post("/training/new/", {**fields, **grid}).status_code == 422
    queued = client.post("/training/new/", {**fields, "version_number": "1.0.0"}, follow=True)
    assert "It will create version 1.0.0." in queued.content.decode()
    again = client.post("/training/new/", {**fields, "version_number": "1.0.0"})
    assert again.status_code == 422
    assert "will create helper@1.0.0" in again.content.decode()
    assert TrainingJob.objects.get().version_number == "1.0.0"


def test_the_command_takes_a_number() -> None:
    make_model(), make_dataset()
    output = io.StringIO()
    call_command("jobs", "add", "helper", "notes", "--number", "1.0.0", stdout=output)
    assert "will create 1.0.0" in output.getvalue()
    job = TrainingJob.objects.get()
    call_command("jobs", "clone", str(job.pk), "--number", "1.1.0", stdout=output)
    with pytest.raises(CommandError, match="will create"):
        call_command("jobs", "add", "helper", "notes", "--number", "1.1.0")
