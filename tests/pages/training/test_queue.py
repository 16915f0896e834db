"""Jobs that wait, and those that are over."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.pages.seed import Seeded, make_job
from tests.pages.test_pages import text
from training.models import TrainingJob

pytestmark = pytest.mark.any_database


def waiting() -> list[TrainingJob]:
    return list(TrainingJob.objects.waiting())


@pytest.mark.both_databases
def test_the_line_says_who_runs_next(client: Client, seeded: Seeded) -> None:
    urgent = make_job(seeded.model, seeded.dataset, priority=5)
    page = client.get("/training/")
    assert page.context["running"] == seeded.running
    jobs = [job for job, _ in page.context["waiting"]]
    assert (jobs[0], len(jobs)) == (urgent, 3)
    assert "Number 2 in the queue. Another job is running." in text(page)


@pytest.mark.both_databases
def test_waiting_jobs_change_places(client: Client, seeded: Seeded) -> None:
    first, second = waiting()
    htmx = client.post(f"/training/{second.pk}/move/first/", headers={"HX-Request": "true"})
    assert [job for job, _ in htmx.context["waiting"]] == [second, first]
    plain = client.post(f"/training/{second.pk}/move/down/", {"back": "jobs"})
    assert plain.headers["Location"] == "/training/"
    assert waiting() == [first, second]
    assert client.post(f"/training/{first.pk}/move/sideways/").status_code == 400


@pytest.mark.both_databases
def test_a_priority_puts_a_job_ahead(client: Client, seeded: Seeded) -> None:
    first, second = waiting()
    client.post(f"/training/{second.pk}/priority/", {"priority": "3"})
    assert waiting() == [second, first]
    refused = client.post(
        f"/training/{first.pk}/priority/", {"priority": "high"}, headers={"HX-Request": "true"}
    )
    assert "whole number" in text(refused)


@pytest.mark.both_databases
def test_a_job_is_paused_and_resumed(client: Client, seeded: Seeded) -> None:
    job = waiting()[0]
    client.post(f"/training/{job.pk}/pause/")
    assert "Paused." in text(client.get(job.get_absolute_url()))
    client.post(f"/training/{job.pk}/resume/")
    job.refresh_from_db()
    assert job.paused is False


def test_what_went_wrong_in_the_line_is_shown_there(client: Client, seeded: Seeded) -> None:
    answer = client.post(f"/training/{seeded.done.pk}/pause/", headers={"HX-Request": "true"})
    assert f"Job {seeded.done.pk} is completed; it cannot be paused." in text(answer)


@pytest.mark.both_databases
def test_the_history_has_what_is_over_and_is_filtered(client: Client, seeded: Seeded) -> None:
    over = {job.status for job in client.get("/training/").context["rows"]}
    assert over == {"completed", "failed"}
    queued = client.get("/training/?status=queued").context["rows"]
    assert [job.status for job in queued] == ["queued", "queued"]
    assert "No job matches" in text(client.get("/training/?model=nothing"))
