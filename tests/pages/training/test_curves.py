"""Curves of jobs and versions, and the small lines in lists."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from hub.templatetags import sparks
from registry.catalog.overview import listed_versions_of
from registry.versions import curves
from registry.versions.curves import MAX_POINTS
from tests.pages.seed import Seeded, make_job
from training.models import TrainingJob, TrainingMetric

pytestmark = pytest.mark.any_database


@pytest.mark.both_databases
def test_other_runs_are_laid_over_a_jobs_curve(client: Client, seeded: Seeded) -> None:
    assert seeded.running is not None
    other = make_job(seeded.model, seeded.dataset, status="completed", iteration=5)
    body = client.get(f"{seeded.running.get_absolute_url()}?with={other.pk}&with=x").content
    assert body.decode().count("data-curve=") == 2
    assert f"/training/{other.pk}/metrics.json".encode() in body


@pytest.mark.both_databases
def test_a_curve_grows_by_what_is_new(client: Client, seeded: Seeded) -> None:
    assert seeded.running is not None
    url = f"/training/{seeded.running.pk}/metrics.json"
    whole = client.get(url).json()
    assert whole["iteration"] == list(range(1, 43))
    assert whole["over"] is False
    news = client.get(f"{url}?after=40").json()
    assert news["iteration"] == [41, 42]
    assert news["train_loss"] == whole["train_loss"][-2:]


@pytest.mark.both_databases
def test_a_long_curve_is_thinned_but_keeps_its_validations_and_outliers(
    client: Client, seeded: Seeded, django_assert_max_num_queries: Any
) -> None:
    job = make_job(seeded.model, seeded.dataset, status="completed", iteration=5000)
    TrainingMetric.objects.bulk_create(
        TrainingMetric(
            job=job,
            iteration=step,
            train_loss=9.0 if step == 1234 else 1.0,
            val_loss=1.0 - step / 9000 if step % 77 == 0 else None,
        )
        for step in range(1, 5001)
    )
    url = f"/training/{job.pk}/metrics.json"
    with django_assert_max_num_queries(10):
        curve = client.get(url).json()
    assert len(curve["iteration"]) < MAX_POINTS + 5000 // 77 + 5
    assert sum(value is not None for value in curve["val_loss"]) == 5000 // 77
    assert curve["iteration"] == sorted(curve["iteration"])
    assert curve["iteration"][-1] == 5000
    assert max(filter(None, curve["high"]["train_loss"])) == 9.0
    assert max(filter(None, curve["train_loss"])) < 9.0  # the mean of its bucket
    assert curve["best"]["iteration"] == 77 * (5000 // 77)
    assert curve["over"] is True
    near = client.get(f"{url}?from=1200&to=1300").json()
    assert near["iteration"] == list(range(1200, 1301))
    assert near["train_loss"][34] == 9.0
    assert near["low"] == {}


@pytest.mark.both_databases
def test_of_a_very_long_curve_the_spans_are_read(
    client: Client, seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "RAW_STEPS", 1000)
    job = make_job(seeded.model, seeded.dataset, status="completed", iteration=2100)
    job.status = "running"  # here alone: a row of one has a lease too
    TrainingMetric.objects.bulk_create(
        TrainingMetric(job=job, iteration=step, train_loss=step, grad_norm=None)
        for step in range(1, 2101)
    )
    TrainingMetric.objects.filter(job=job, iteration=700).update(train_loss=0.5)
    curves.summarize(job)
    assert job.spans.count() == 2100 // 64
    read = curves.curve(job)
    assert read["iteration"][-1] == 2100
    assert read["iteration"] == sorted(set(read["iteration"]))
    bucket = next(at for at, last in enumerate(read["iteration"]) if last >= 700)
    assert read["low"]["train_loss"][bucket] == 0.5
    assert read["grad_norm"] == [None] * len(read["iteration"])
    # What is measured again after a checkpoint takes the place of what was.
    curves.forget(job, 1000)
    job.metrics.filter(iteration__gt=1000).update(train_loss=7)
    curves.summarize(job)
    assert curves.curve(job, 1100)["high"]["train_loss"] == [7] * len(
        curves.curve(job, 1100)["iteration"]
    )
    # A running job's spans are written by its own process; of one that is over by who reads them.
    job.spans.all().delete()
    assert curves.curve(job)["iteration"][-1] == 2100
    assert not job.spans.exists()
    assert client.get(f"/training/{job.pk}/metrics.json").status_code == 200
    assert job.spans.count() == 2100 // 64


@pytest.mark.both_databases
def test_lists_draw_the_loss_of_their_rows_with_one_query(
    client: Client, seeded: Seeded, django_assert_num_queries: Any
) -> None:
    rows = [seeded.done, *TrainingJob.objects.filter(iteration=0)]
    with django_assert_num_queries(1):
        lines = sparks.loss_lines(rows)
    assert list(lines) == [seeded.done.pk]  # one that has no steps has no line
    assert 'aria-label="Train loss from ' in lines[seeded.done.pk]
    assert "style=" not in lines[seeded.done.pk]
    versions = list(listed_versions_of(seeded.model))
    with django_assert_num_queries(1):
        assert list(sparks.loss_lines(versions)) == [seeded.done.result_version_id]
    assert client.get("/training/").content.decode().count('class="spark"') >= 1
    assert 'class="spark"' in client.get(seeded.model.get_absolute_url()).content.decode()
    with django_assert_num_queries(2):
        bars = sparks.requests_of([seeded.model])
    assert "61 requests in the last 14 days" in bars[seeded.model.pk]
    assert 'class="spark bars"' in client.get("/models/").content.decode()


@pytest.mark.both_databases
def test_the_runs_of_a_model_are_offered_to_other_pages(client: Client, seeded: Seeded) -> None:
    job = seeded.done
    offered = client.get(f"/training/{job.pk}/runs/", headers={"HX-Request": "true"})
    other = TrainingJob.objects.filter(model=job.model, iteration__gt=0).exclude(pk=job.pk)[0]
    assert f'data-run="/training/{other.pk}/metrics.json"' in offered.content.decode()
    assert client.get(f"/training/{job.pk}/runs/")["Location"] == job.get_absolute_url()
    tab = f"/models/{job.model_id}/{job.result_version.version}/training/"
    assert f"/training/{job.pk}/runs/" in client.get(tab).content.decode()
