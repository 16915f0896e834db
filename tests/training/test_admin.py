"""Jobs in the admin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from registry.admin import search
from tests.training.build import claim, make_job
from training import admin, queue
from training.models import TrainingJob, TrainingMetric
from training.queue import sweeps

pytestmark = pytest.mark.django_db

LIST = reverse("admin:training_trainingjob_changelist")


def test_jobs_are_listed_and_searched(admin_client: Client) -> None:
    job = make_job()
    TrainingJob.objects.filter(pk=job.pk).update(
        status="failed", error_message="The loss became NaN", correlation_id="asked-1"
    )
    for words in ("HELP", str(job.pk), job.dataset.name, "nan", "asked-1", "helper nan"):
        assert "1 training job" in admin_client.get(LIST, {"q": words}).content.decode(), words
    assert "0 training jobs" in admin_client.get(LIST, {"q": "nobody"}).content.decode()


@pytest.mark.parametrize("few", [100, 1, 0])
def test_jobs_are_found_by_few_and_by_many_errors(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(search, "_FEW", few)
    first = make_job()
    jobs = [first, make_job(first.model), make_job(first.model), make_job(first.model)]
    for job, error, correlation in zip(
        jobs, ("zeta lost", "zeta full", "", ""), ("x", "y", "zeta", "other"), strict=True
    ):
        status = "failed" if error else "queued"
        TrainingJob.objects.filter(pk=job.pk).update(
            status=status, error_message=error, correlation_id=correlation
        )
    # Only a failed job's error is searched, and a correlation id only as a whole.
    TrainingJob.objects.filter(pk=jobs[3].pk).update(error_message="zeta of another time")
    for words, count in (("zeta", 3), ("lost", 1), ("zet", 2), ("zeta full", 1), ("nobody", 0)):
        page = admin_client.get(LIST, {"q": words}).content.decode()
        noun = "training job" if count == 1 else "training jobs"
        assert f"{count} {noun}\n" in page, words


def test_the_list_reads_nothing_row_by_row(
    admin_client: Client, django_assert_num_queries: Callable[..., Any]
) -> None:
    job = make_job()
    with CaptureQueriesContext(connection) as one:
        admin_client.get(LIST, {"q": "helper"})
    queue.pause(make_job(job.model))
    make_job(job.model)
    with django_assert_num_queries(len(one)):
        page = admin_client.get(LIST, {"q": "helper"}).content.decode()
    assert "Queued, paused" in page


def test_a_job_is_read_only_and_shows_its_newest_metrics(admin_client: Client) -> None:
    job = make_job()
    TrainingMetric.objects.bulk_create(
        TrainingMetric(job=job, iteration=n, train_loss=n) for n in range(1, 81)
    )
    path = reverse("admin:training_trainingjob_change", args=[job.pk])
    page = admin_client.get(path)
    assert page.status_code == 200
    assert page.content.decode().count('class="form-row has_original') == admin._METRICS_SHOWN
    assert admin_client.post(path, {"status": "completed"}).status_code == 403
    assert admin_client.get(reverse("admin:training_trainingjob_add")).status_code == 403


def test_actions_follow_the_queues_rules(admin_client: Client) -> None:
    running = make_job(priority=1)
    claim()
    waiting = make_job(running.model)
    selection = {"_selected_action": [running.pk, waiting.pk]}
    admin_client.post(LIST, {"action": "cancel", **selection})
    running.refresh_from_db()
    waiting.refresh_from_db()
    assert running.cancel_requested
    assert waiting.status == TrainingJob.Status.CANCELLED
    page = admin_client.post(LIST, {"action": "retry", **selection}, follow=True)
    assert "is running; only failed or cancelled jobs can be retried" in page.content.decode()
    waiting.refresh_from_db()
    assert waiting.status == TrainingJob.Status.QUEUED


def test_looking_at_jobs_does_not_allow_acting_on_them(
    client: Client, django_user_model: type
) -> None:
    from django.contrib.auth.models import Permission

    viewer = django_user_model.objects.create_user("viewer", is_staff=True)  # type: ignore[attr-defined]
    viewer.user_permissions.add(Permission.objects.get(codename="view_trainingjob"))
    client.force_login(viewer)
    job = make_job()
    client.post(LIST, {"action": "cancel", "_selected_action": [job.pk]})
    job.refresh_from_db()
    assert job.status == TrainingJob.Status.QUEUED
    assert queue.claim() == job


def test_waiting_jobs_are_ordered_paused_and_resumed(admin_client: Client) -> None:
    model = make_job().model
    first, second, third = TrainingJob.objects.get(), make_job(model), make_job(model)

    def act(action: str, *jobs: TrainingJob) -> None:
        selection = {"_selected_action": [job.pk for job in jobs]}
        assert admin_client.post(LIST, {"action": action, **selection}).status_code == 302

    def order() -> list[TrainingJob]:
        return list(TrainingJob.objects.waiting())

    act("move_first", second, third)
    assert order() == [second, third, first]
    act("move_last", second, third)
    assert order() == [first, second, third]
    act("pause", first)
    assert list(TrainingJob.objects.due()) == [second, third]
    act("resume", first)
    assert list(TrainingJob.objects.due()) == [first, second, third]


def test_sweeps_are_listed(admin_client: Client) -> None:
    job = make_job()
    sweeps.start(job.model, job.dataset, job.training_config, {"seed": [1, 2]}, name="two seeds")
    page = admin_client.get(reverse("admin:training_sweep_changelist"))
    assert "two seeds" in page.content.decode()
