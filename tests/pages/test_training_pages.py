"""Jobs: configured, queued, watched, cancelled, tried again."""

from __future__ import annotations

import datetime

import pytest
from django.test import Client
from django.utils import timezone

from registry.curves import MAX_POINTS
from tests.pages.seed import Seeded, make_job
from tests.pages.test_pages import text
from training.models import TrainingJob, TrainingMetric
from training.supervisor import log_path


def form_of(client: Client, query: str = "") -> dict[str, object]:
    """The values the form shows, as a browser would send them."""
    form = client.get(f"/training/new/{query}").context["form"]
    values = {name: form[name].value() for name in form.fields}
    return {name: value for name, value in values.items() if value not in (None, False)}


def test_the_form_says_which_version_it_would_make(client: Client, seeded: Seeded) -> None:
    newest = seeded.versions[-1]
    assert newest.version == "0.2.1"
    fields = form_of(client) | {"model": seeded.model.pk, "dataset": seeded.dataset.pk}
    changed = client.get("/training/new/number/", fields).content.decode()
    assert changed == "Makes calendar@0.3.0, unless another comes first."
    client.post("/training/new/", fields)
    job = seeded.model.jobs.latest("pk")
    type(newest).objects.filter(pk=newest.pk).update(
        params=job.config,
        dataset_checksum=seeded.dataset.checksum,
        base_checksum=seeded.base.manifest_sha256,
    )
    again = client.get("/training/new/number/", fields).content.decode()
    assert again == "Makes calendar@0.2.2, unless another comes first."
    assert client.get("/training/new/number/", {"model": seeded.model.pk}).content == b""


def test_the_form_as_it_stands_queues_a_job(client: Client, seeded: Seeded) -> None:
    fields = form_of(client) | {"model": seeded.model.pk, "dataset": seeded.dataset.pk}
    response = client.post("/training/new/", fields)
    job = TrainingJob.objects.latest("pk")
    assert response.headers["Location"] == job.get_absolute_url()
    assert job.status == "queued"
    assert job.config["iters"] == 100
    assert job.config["lora"] == {"rank": 8, "scale": 20.0, "dropout": 0.0}
    assert job.config["mask_prompt"] is True


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"iters": "0"}, "iters"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"lora.rank": "1000"}, "lora.rank"),
        ({"seed": "-1"}, "seed"),
    ],
)
def test_a_wrong_setting_is_explained_at_its_field(
    client: Client, seeded: Seeded, change: dict[str, str], field: str
) -> None:
    before = TrainingJob.objects.count()
    fields = form_of(client) | {"model": seeded.model.pk, "dataset": seeded.dataset.pk} | change
    response = client.post("/training/new/", fields)
    assert response.status_code == 422
    assert response.context["form"].errors.keys() == {field}
    assert f'id="id_{field}_error"' in response.content.decode()
    assert TrainingJob.objects.count() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"warmup": "100"}, "warmup (100) must be smaller than iters"),
        ({"batch_size": "1000"}, "fewer than batch_size"),
    ],
)
def test_what_no_single_field_decides_is_explained_above_the_form(
    client: Client, seeded: Seeded, change: dict[str, str], message: str
) -> None:
    fields = form_of(client) | {"model": seeded.model.pk, "dataset": seeded.dataset.pk} | change
    response = client.post("/training/new/", fields)
    assert response.status_code == 422
    assert message in text(response)


def test_a_preset_fills_the_form(client: Client, seeded: Seeded) -> None:
    fields = form_of(client, f"?preset=thorough&model={seeded.model.pk}")
    assert fields["iters"] == 600
    assert fields["learning_rate"] == "0.0001"
    assert fields["lora.rank"] == 16
    assert fields["model"] == str(seeded.model.pk)


@pytest.mark.parametrize("preset", ["trial", "balanced", "thorough", "small-memory"])
def test_every_preset_is_a_valid_job(client: Client, seeded: Seeded, preset: str) -> None:
    fields = form_of(client, f"?preset={preset}") | {
        "model": seeded.model.pk,
        "dataset": seeded.dataset.pk,
    }
    assert client.post("/training/new/", fields).status_code == 302


def test_the_settings_of_an_earlier_job_fill_the_form(client: Client, seeded: Seeded) -> None:
    job = make_job(seeded.model, seeded.dataset)
    TrainingJob.objects.filter(pk=job.pk).update(config=job.config | {"iters": 33, "seed": 5})
    fields = form_of(client, f"?from={job.pk}")
    assert (fields["iters"], fields["seed"]) == (33, 5)


def test_the_list_says_who_runs_next(client: Client, seeded: Seeded) -> None:
    urgent = make_job(seeded.model, seeded.dataset, priority=5)
    rows = dict(client.get("/training/").context["rows"])
    assert rows[urgent] == 1
    assert sorted(place for place in rows.values() if place) == [1, 2, 3]


def test_jobs_are_filtered(client: Client, seeded: Seeded) -> None:
    rows = client.get("/training/?status=failed").context["rows"]
    assert [job.status for job, _ in rows] == ["failed"]
    assert "No job matches" in text(client.get("/training/?model=nothing"))


def test_a_running_job_is_polled_and_an_ended_one_is_not(client: Client, seeded: Seeded) -> None:
    assert seeded.running is not None
    running = client.get(seeded.running.get_absolute_url(), headers={"HX-Request": "true"})
    assert "hx-trigger" in running.content.decode()
    ended = client.get(seeded.done.get_absolute_url(), headers={"HX-Request": "true"})
    assert "hx-trigger" not in ended.content.decode()


def test_a_job_page_shows_progress_and_the_end_of_its_log(client: Client, seeded: Seeded) -> None:
    assert seeded.running is not None
    shown = text(client.get(seeded.running.get_absolute_url()))
    for part in ("Step 42 of 100", "512", "2 GB", "1 min 56 s left", "iteration=42"):
        assert part in shown


def test_a_failed_job_says_why_and_offers_to_retry(client: Client, seeded: Seeded) -> None:
    failed = TrainingJob.objects.get(status="failed")
    shown = text(client.get(failed.get_absolute_url()))
    assert "Loss became NaN at iteration 12" in shown
    client.post(f"/training/{failed.pk}/retry/")
    failed.refresh_from_db()
    assert failed.status == "queued"


def test_a_queued_job_is_cancelled_and_a_running_one_asked_to_stop(
    client: Client, seeded: Seeded
) -> None:
    assert seeded.running is not None
    queued = TrainingJob.objects.filter(status="queued").latest("pk")
    client.post(f"/training/{queued.pk}/cancel/")
    client.post(f"/training/{seeded.running.pk}/cancel/")
    queued.refresh_from_db()
    assert queued.status == "cancelled"
    shown = text(client.get(seeded.running.get_absolute_url()))
    assert "stops at the next step" in shown


def test_what_cannot_be_cancelled_is_explained(client: Client, seeded: Seeded) -> None:
    response = client.post(f"/training/{seeded.done.pk}/cancel/", follow=True)
    assert "completed already; there is nothing to cancel" in text(response)


def test_only_a_post_changes_a_job(client: Client, seeded: Seeded) -> None:
    assert client.get(f"/training/{seeded.done.pk}/retry/").status_code == 405


# --------------------------------------------------------------------------- curve


def test_a_curve_grows_by_what_is_new(client: Client, seeded: Seeded) -> None:
    assert seeded.running is not None
    url = f"/training/{seeded.running.pk}/metrics.json"
    whole = client.get(url).json()
    assert whole["iteration"] == list(range(1, 43))
    assert whole["over"] is False
    news = client.get(f"{url}?after=40").json()
    assert news["iteration"] == [41, 42]
    assert news["train_loss"] == whole["train_loss"][-2:]


def test_a_long_curve_is_thinned_but_keeps_its_validations(client: Client, seeded: Seeded) -> None:
    job = make_job(seeded.model, seeded.dataset, status="completed", iteration=5000)
    TrainingMetric.objects.bulk_create(
        TrainingMetric(
            job=job, iteration=step, train_loss=1 / step, val_loss=1.0 if step % 77 == 0 else None
        )
        for step in range(1, 5001)
    )
    curve = client.get(f"/training/{job.pk}/metrics.json").json()
    assert len(curve["iteration"]) < MAX_POINTS + 5000 // 77 + 5
    assert sum(value is not None for value in curve["val_loss"]) == 5000 // 77
    assert curve["iteration"][-1] == 5000
    assert curve["over"] is True


def test_the_time_a_job_started_is_written_relative_with_its_moment(
    client: Client, seeded: Seeded
) -> None:
    moment = timezone.now() - datetime.timedelta(hours=3, minutes=5)
    TrainingJob.objects.filter(pk=seeded.done.pk).update(started_at=moment)
    body = client.get(seeded.done.get_absolute_url()).content.decode()
    assert f'title="{moment:%Y-%m-%d %H:%M:%S} UTC" data-ago>3 h ago</time>' in body


def test_structured_log_lines_are_written_for_a_person(client: Client, seeded: Seeded) -> None:
    line = '{"event": "training", "iteration": 3, "level": "info", "timestamp": "2026-11-23T19:00:45Z"}'
    log_path(seeded.done).parent.mkdir(parents=True, exist_ok=True)
    log_path(seeded.done).write_text(f"{line}\nplain words\n[1, 2]\n")
    shown = client.get(seeded.done.get_absolute_url()).context["log"]
    assert shown == "19:00:45 training iteration=3\nplain words\n[1, 2]"
