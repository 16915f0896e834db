"""A job's page: progress, log, attempts, and what can be done about it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backends.base import TrainingConfig
from tests.pages.seed import Seeded, make_job, make_version
from tests.pages.test_pages import text
from training import queue
from training.config.vocabulary import labelled
from training.models import TrainingJob
from training.worker.supervisor import log_path

pytestmark = pytest.mark.any_database


@pytest.mark.both_databases
def test_sample_answers_show_the_newest_first(client: Client, seeded: Seeded) -> None:
    assert seeded.running is not None
    page = client.get(seeded.running.get_absolute_url())
    newest, earlier = page.context["samples"][0]
    assert (newest.iteration, [sample.iteration for sample in earlier]) == (40, [20, 1])
    assert "Match" in text(page)
    part = client.get(f"/training/{seeded.running.pk}/measured/", headers={"HX-Request": "true"})
    assert "2 earlier answers" in text(part)
    assert b"<main" not in part.content


def test_a_running_job_is_polled_and_an_ended_one_is_not(client: Client, seeded: Seeded) -> None:
    assert seeded.running is not None
    running = client.get(seeded.running.get_absolute_url(), headers={"HX-Request": "true"})
    assert "hx-trigger" in running.content.decode()
    ended = client.get(seeded.done.get_absolute_url(), headers={"HX-Request": "true"})
    assert "hx-trigger" not in ended.content.decode()


@pytest.mark.both_databases
def test_a_job_page_shows_progress_and_the_end_of_its_log(client: Client, seeded: Seeded) -> None:
    assert seeded.running is not None
    shown = text(client.get(seeded.running.get_absolute_url()))
    for part in ("Step 42 of 100", "512", "2 GB", "About 2 min 20 s left", "iteration=42"):
        assert part in shown
    # Which is the model and which the data set, and the settings in the form's words.
    about = (f"Model {seeded.model.name} from {seeded.base.name}", f"data set {seeded.dataset}")
    for part in (*about, "Layers all", "Objective Answers (SFT)", "Fine-tune type LoRA adapter"):
        assert part in shown
    assert "SimPO margin" not in shown


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"objective": "simpo"}, {"Beta", "SimPO margin"}),
        ({"objective": "kto"}, {"Beta", "Weight of good answers", "Weight of bad answers"}),
        ({"objective": "sft", "beta": 0.3}, {"Beta"}),  # not dropped silently
    ],
)
def test_settings_are_shown_where_the_objective_uses_them(
    changed: dict[str, Any], shown: set[str]
) -> None:
    some = {"Beta", "SimPO margin", "Weight of good answers", "Weight of bad answers"}
    assert some & dict(labelled(changed)).keys() <= shown
    config = TrainingConfig.model_validate(changed).model_dump(mode="json")
    assert some & dict(labelled(config)).keys() == shown


def test_the_log_of_all_attempts_is_searched_and_downloaded(client: Client, seeded: Seeded) -> None:
    assert seeded.running is not None
    log = log_path(seeded.running)
    line = '{"timestamp": "2026-11-30T14:05:09Z", "level": "error", "event": "Out of <memory>"}'
    log.write_text("attempt 1\n" + "step\n" * 500 + f"{line}\nattempt 2\n")
    address = f"/training/{seeded.running.pk}/log/"
    ajax = {"HX-Request": "true"}
    whole = client.get(address, headers=ajax).content.decode()
    assert "last 400 of 503 lines, of all attempts" in whole
    assert "14:05:09 [error] Out of &lt;memory&gt;" in whole
    found = client.get(address, {"q": "ATTEMPT"}, headers=ajax).content.decode()
    assert "2 of 503 lines" in found
    assert "<mark>attempt</mark> 1" in found
    assert "<mark>attempt</mark> 2" in found
    assert "step" not in found
    without_script = client.get(seeded.running.get_absolute_url(), {"q": "nowhere"})
    assert "No line contains “nowhere”." in text(without_script)
    file = client.get(f"/training/{seeded.running.pk}/log.txt")
    assert b"".join(file.streaming_content) == log.read_bytes()  # type: ignore[attr-defined]
    assert client.get(f"/training/{seeded.done.pk}/log.txt").status_code == 404


def test_attempts_say_where_they_ended_why_and_what_to_do(client: Client, seeded: Seeded) -> None:
    job = make_job(seeded.model, seeded.dataset)
    address = job.get_absolute_url()
    for number in range(1, 4):
        TrainingJob.objects.filter(status="running").update(status="cancelled")
        TrainingJob.objects.filter(pk=job.pk).update(not_before=None)
        held = TrainingJob.objects.get(pk=job.pk)
        assert held._claim(60)
        held.refresh_from_db()
        assert held.lease
        TrainingJob.objects.filter(pk=job.pk).update(iteration=37, checkpoint_iteration=25)
        if number == 2:
            shown = text(client.get(address))
            assert "Step 37 of 100" in shown
            assert "Attempt 2 Running" in shown
            assert "Attempt 2 continued from step 25." in shown
        queue.crashed(held, held.lease, "The training process was killed by signal 9.")
        if number == 1:
            shown = text(client.get(address))
            assert "Step 25 of 100" in shown
            assert "step 0 to 37 of 100" in shown
            assert "Nothing to do: it continues from step 25 by itself." in shown
    shown = text(client.get(address))
    assert "Attempt 3 Failed" in shown
    assert shown.count("Read the end of the log below for the cause.") == 2
    assert "Read the end of the log below for the cause. A retry continues from step 25." in shown


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
    assert "Stopping at the next step" in shown


def test_what_cannot_be_cancelled_is_explained(client: Client, seeded: Seeded) -> None:
    response = client.post(f"/training/{seeded.done.pk}/cancel/", follow=True)
    assert "is already completed; there is nothing to cancel" in text(response)


def test_only_a_post_changes_a_job(client: Client, seeded: Seeded) -> None:
    assert client.get(f"/training/{seeded.done.pk}/retry/").status_code == 405


def test_half_the_batch_is_offered_after_a_want_of_memory(client: Client, seeded: Seeded) -> None:
    failed = TrainingJob.objects.get(status="failed")
    TrainingJob.objects.filter(pk=failed.pk).update(out_of_memory=True)
    assert "Retry at half the batch size" in text(client.get(failed.get_absolute_url()))
    client.post(f"/training/{failed.pk}/retry-halved/")
    failed.refresh_from_db()
    assert (failed.status, failed.config["batch_size"]) == ("queued", 2)


def test_a_job_says_why_it_holds_still(client: Client, seeded: Seeded) -> None:
    assert seeded.running is not None
    TrainingJob.objects.filter(pk=seeded.running.pk).update(
        yielding="someone is chatting", yielding_since=timezone.now()
    )
    for page in (seeded.running.get_absolute_url(), "/training/"):
        assert "Paused for now: someone is chatting." in text(client.get(page))


def test_a_version_can_be_tried_while_it_is_scored(client: Client, seeded: Seeded) -> None:
    assert seeded.running is not None
    page = seeded.running.get_absolute_url()
    assert "Try it" not in text(client.get(page))
    scored = make_version(seeded.model, "0.7.0", seeded.dataset)
    TrainingJob.objects.filter(pk=seeded.running.pk).update(
        result_version=scored, stage="scoring 2 of 9"
    )
    shown = text(client.get(page))
    assert "Version 0.7.0 is ready: try it while its answers" in shown
    assert "Try it" in shown


def test_the_time_a_job_started_is_written_relative_with_its_moment(
    client: Client, seeded: Seeded
) -> None:
    moment = timezone.now() - datetime.timedelta(hours=3, minutes=5)
    TrainingJob.objects.filter(pk=seeded.done.pk).update(started_at=moment)
    body = client.get(seeded.done.get_absolute_url()).content.decode()
    assert f'title="{moment:%Y-%m-%d %H:%M:%S} UTC" data-time="ago">3 h ago</time>' in body


def test_structured_log_lines_are_written_for_a_person(client: Client, seeded: Seeded) -> None:
    line = '{"event": "training", "iteration": 3, "level": "info", "timestamp": "2026-11-23T19:00:45Z"}'
    log_path(seeded.done).parent.mkdir(parents=True, exist_ok=True)
    log_path(seeded.done).write_text(f"{line}\nplain words\n[1, 2]\n")
    shown = text(client.get(seeded.done.get_absolute_url()))
    assert "19:00:45 training iteration=3 plain words [1, 2]" in shown
