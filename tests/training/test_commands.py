"""`manage.py jobs`."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command

from tests.training.build import claim, make_dataset, make_job, make_model
from training import queue
from training.models import TrainingJob

pytestmark = pytest.mark.django_db


def jobs(*arguments: object) -> str:
    output = io.StringIO()
    call_command("jobs", *map(str, arguments), stdout=output)
    return output.getvalue()


def test_a_job_is_queued_with_settings() -> None:
    make_model(), make_dataset()
    output = jobs("add", "helper", "notes", "--set", "lora.rank=16", "--set", "optimizer=adam")
    job = TrainingJob.objects.get()
    assert output == f"{job.pk}: helper on notes, queued\n"
    assert (job.config["lora"]["rank"], job.config["optimizer"]) == (16, "adam")


def test_the_queue_is_listed_in_its_order() -> None:
    first = make_job()
    second = make_job(first.model)
    jobs("move", second.pk, "first")
    jobs("pause", first.pk)
    assert jobs("list").splitlines() == [
        f"{second.pk}: helper on notes, queued, position 1",
        f"{first.pk}: helper on notes, paused, position 2",
    ]
    jobs("cancel", first.pk, second.pk)
    assert jobs("list") == ""
    assert jobs("list", "--all").count("cancelled") == 2
    jobs("retry", first.pk)
    assert "queued, position 1" in jobs("list")


def test_a_job_is_cloned_and_a_grid_is_swept() -> None:
    job = make_job()
    jobs("clone", job.pk, "--set", "seed=3")
    assert job.clones.get().config["seed"] == 3
    output = jobs("sweep", "helper", "notes", "--vary", "lora.rank=4,8", "--vary", "seed=1,2")
    assert len(output.splitlines()) == 4
    assert "lora.rank=4 seed=2" in output.replace(", ", " ")


def test_a_resumed_job_runs() -> None:
    job = queue.pause(make_job())
    jobs("resume", job.pk)
    assert claim() == job


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cancel", 99], "There is no job 99"),
        (["add", "nobody", "notes"], "There is no model 'nobody'"),
        (["add", "helper", "nothing"], "There is no data set 'nothing'"),
        (["add", "helper", "notes", "--set", "rank"], "NAME=VALUE"),
        (["add", "helper", "notes", "--set", "rank=8"], "rank"),
        (["sweep", "helper", "notes", "--vary", "seed=1,1"], "listed twice"),
    ],
)
def test_problems_are_reported_as_sentences(arguments: list[object], words: str) -> None:
    make_model(), make_dataset()
    with pytest.raises(CommandError, match=words):
        jobs(*arguments)
    assert not TrainingJob.objects.exists()
