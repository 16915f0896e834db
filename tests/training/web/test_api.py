"""The JSON API of jobs."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.training.build import claim, make_dataset, make_job, make_model
from training import queue
from training.attempt import runner
from training.models import TrainingJob

pytestmark = pytest.mark.django_db

JOBS = "/api/training/jobs"


def post(client: Client, path: str, body: dict[str, Any] | None = None) -> Any:
    return client.post(path, body or {}, content_type="application/json")


def finished_job() -> TrainingJob:
    make_job()
    job = claim()
    runner.run(job.pk, job.lease, lambda: "")
    return TrainingJob.objects.get(pk=job.pk)


def test_a_job_is_queued(client: Client) -> None:
    body = {
        "model_id": make_model().pk,
        "dataset_id": make_dataset().pk,
        "config": {"iters": 10, "lora": {"rank": 4}},
    }
    answer = post(client, JOBS, body)
    assert answer.status_code == 201
    job = answer.json()
    assert (job["status"], job["model"], job["dataset"]) == ("queued", "helper", "notes")
    assert (job["config"]["iters"], job["config"]["lora"]["rank"]) == (10, 4)
    assert client.get(f"{JOBS}/{job['id']}").json() == job


def test_a_bad_configuration_is_named(client: Client) -> None:
    body = {"model_id": make_model().pk, "dataset_id": make_dataset().pk, "config": {"iters": 0}}
    answer = post(client, JOBS, body)
    assert answer.status_code == 422
    assert "iters" in answer.json()["error"]["message"]
    assert not TrainingJob.objects.exists()


def test_a_misspelt_setting_is_refused(client: Client) -> None:
    body = {"model_id": make_model().pk, "dataset_id": make_dataset().pk, "config": {"iter": 9}}
    assert post(client, JOBS, body).status_code == 422


@pytest.mark.parametrize("missing", ["model_id", "dataset_id"])
def test_what_does_not_exist_is_404(client: Client, missing: str) -> None:
    body = {"model_id": make_model().pk, "dataset_id": make_dataset().pk, missing: 999}
    answer = post(client, JOBS, body)
    assert answer.status_code == 404
    assert "999" in answer.json()["error"]["message"]


def test_a_finished_job_shows_its_version_and_losses(client: Client) -> None:
    job = client.get(f"{JOBS}/{finished_job().pk}").json()
    assert (job["status"], job["version"], job["version_status"]) == (
        "completed",
        "0.1.0",
        "ready",
    )
    assert job["progress"] == 1
    assert job["train_loss"] > 0
    assert job["val_loss"] == job["metrics"]["val_loss"]


def test_jobs_are_paged_and_filtered(client: Client, django_assert_max_num_queries: Any) -> None:
    model = make_model()
    jobs = [make_job(model) for _ in range(5)]
    queue.cancel(jobs[0])
    with django_assert_max_num_queries(4):
        page = client.get(JOBS, {"limit": 2}).json()
    assert page["count"] == 5
    assert [job["id"] for job in page["items"]] == [jobs[4].pk, jobs[3].pk]
    cancelled = client.get(JOBS, {"status": "cancelled"}).json()
    assert [job["id"] for job in cancelled["items"]] == [jobs[0].pk]
    assert client.get(JOBS, {"model_id": 999}).json()["count"] == 0
    assert client.get(JOBS, {"status": "sleeping"}).status_code == 422


def test_metrics_continue_after_the_last_known_iteration(client: Client) -> None:
    path = f"{JOBS}/{finished_job().pk}/metrics"
    page = client.get(path, {"after": 18}).json()
    assert [row["iteration"] for row in page["items"]] == [19, 20]
    assert client.get(path, {"limit": 3}).json()["count"] == 20


def test_a_job_is_cancelled_and_retried(client: Client) -> None:
    job = make_job()
    assert post(client, f"{JOBS}/{job.pk}/retry").status_code == 409
    assert post(client, f"{JOBS}/{job.pk}/cancel").json()["status"] == "cancelled"
    assert post(client, f"{JOBS}/{job.pk}/cancel").status_code == 409
    assert post(client, f"{JOBS}/{job.pk}/retry").json()["status"] == "queued"


def test_an_unknown_job_is_404(client: Client) -> None:
    assert client.get(f"{JOBS}/999").status_code == 404
    assert post(client, f"{JOBS}/999/cancel").status_code == 404


def test_a_job_is_paused_resumed_moved_and_prioritized(client: Client) -> None:
    model = make_model()
    first, second = make_job(model), make_job(model)
    assert post(client, f"{JOBS}/{second.pk}/move", {"to": "first"}).json()["place"] == 1
    assert post(client, f"{JOBS}/{first.pk}/move", {"to": "sideways"}).status_code == 422
    body = {"priority": 3}
    put = client.put(f"{JOBS}/{first.pk}/priority", body, content_type="application/json")
    assert (put.json()["place"], put.json()["priority"]) == (1, 3)
    assert post(client, f"{JOBS}/{first.pk}/pause").json()["paused"] is True
    assert claim() == second
    assert post(client, f"{JOBS}/{first.pk}/resume").json()["paused"] is False
    assert post(client, f"{JOBS}/{first.pk}/resume").status_code == 409


def test_a_job_is_cloned_with_changes(client: Client) -> None:
    job = make_job()
    answer = post(client, f"{JOBS}/{job.pk}/clone", {"changes": {"lora.rank": 32}})
    assert answer.status_code == 201
    assert answer.json()["config"]["lora"]["rank"] == 32
    assert answer.json()["cloned_from_id"] == job.pk
    assert post(client, f"{JOBS}/{job.pk}/clone", {"changes": {"x": 1}}).status_code == 422
    assert post(client, f"{JOBS}/{job.pk}/clone", {"dataset_id": 10**6}).status_code == 404


def test_halving_is_refused_where_it_is_not_offered(client: Client) -> None:
    job = client.get(f"{JOBS}/{make_job().pk}").json()
    assert job["can_halve"] is False
    assert post(client, f"{JOBS}/{job['id']}/retry-halved").status_code == 409
