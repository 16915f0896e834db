"""The plan beside the form: what a job needs, how long it takes, what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from registry.storage import paths
from tests.pages.seed import Seeded
from tests.pages.test_pages import text
from tests.pages.training.test_form import form_of, ids
from training.models import TrainingJob

pytestmark = pytest.mark.any_database


def plan_of(client: Client, seeded: Seeded, **change: str) -> Any:
    fields = form_of(client) | ids(seeded) | change
    return client.post("/training/new/plan/", fields, headers={"HX-Request": "true"})


@pytest.mark.both_databases
def test_the_plan_says_what_a_job_needs(client: Client, seeded: Seeded) -> None:
    need = plan_of(client, seeded).context["plan"].need
    more = plan_of(client, seeded, batch_size="32").context["plan"].need
    assert more.estimate.nbytes > need.estimate.nbytes > seeded.base.size_bytes
    assert need.parts[0].label == "Base model"


@pytest.mark.both_databases
def test_the_plan_says_how_long_it_takes_and_what_that_is_known_from(
    client: Client, seeded: Seeded
) -> None:
    assert f"Not known before a first job on {seeded.base.name} has run" in text(
        plan_of(client, seeded)
    )
    TrainingJob.objects.filter(pk=seeded.done.pk).update(durations={"step": 3.0, "scoring": 60.0})
    assert f"About 6 min, by what job {seeded.done.pk} took." in text(plan_of(client, seeded))


def test_the_button_says_why_nothing_can_be_queued(client: Client, seeded: Seeded) -> None:
    wrong = plan_of(client, seeded, iters="0", seed="x").content.decode()
    assert 'aria-disabled="true" aria-describedby="why-not"' in wrong
    assert "2 problems above are" in " ".join(wrong.split())
    assert 'data-field="id_iters"' in wrong
    assert "aria-disabled" not in plan_of(client, seeded).content.decode()


def test_the_plan_counts_the_jobs_of_a_grid(client: Client, seeded: Seeded) -> None:
    answer = plan_of(client, seeded, **{"lora.rank": "8, 16", "learning_rate": "1e-4,2e-4,3e-4"})
    assert answer.context["plan"].jobs == 6
    assert "Queue 6 jobs" in text(answer)


def test_the_plan_says_what_would_fit(client: Client, seeded: Seeded, settings: Any) -> None:
    smaller = {"batch_size": "1", "grad_accumulation_steps": "4"}
    enough = plan_of(client, seeded, **smaller).context["plan"].need.estimate.nbytes
    settings.MEMORY_BUDGET_BYTES = enough + 1
    shown = text(plan_of(client, seeded))
    assert "This will never fit" in shown
    assert "Batch size 1" in shown


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objective": "dpo"}, "needs chosen and rejected answers"),
        ({"batch_size": "1000"}, "fewer than “Batch size”"),
        ({"num_layers": "0"}, "trains nothing"),
        ({"iters": "many"}, "Enter a whole number from 1 to 1,000,000, not “many”."),
        ({"learning_rate": "7"}, "Enter a number above 0 and of at most 1, not “7”."),
        ({"epochs": "-1"}, "Enter a number above 0 and of at most 10,000, not “-1”."),
        ({"lora.dropout": "1"}, "Enter a number of at least 0 and below 1, not “1”."),
        ({"warmup": "-1"}, "Enter a whole number of at least 0, not “-1”."),
        ({"iters": "30, 30"}, "listed twice"),
        ({"seed": ",".join(map(str, range(70)))}, "70 combinations"),
        ({"warmup": "5, 200"}, "“Warm-up steps” (200) must be smaller"),
        ({"iters": "40", "steps_per_eval": "50"}, "is validated once, at its end"),
        ({"patience": "4"}, "will not stop early"),
        ({"iters": "4000"}, "leads to overfitting"),
    ],
)
def test_the_plan_explains_before_anything_is_queued(
    client: Client, seeded: Seeded, change: dict[str, str], words: str
) -> None:
    before = TrainingJob.objects.count()
    assert words in text(plan_of(client, seeded, **change))
    assert TrainingJob.objects.count() == before


def test_an_unreadable_base_leaves_the_plan_without_an_estimate(
    client: Client, seeded: Seeded
) -> None:
    (paths.root() / seeded.base.path / "config.json").unlink()
    answer = plan_of(client, seeded)
    assert "cannot be read" in text(answer)
    assert answer.context["plan"].jobs == 1


def test_the_plan_says_what_is_learned(client: Client, seeded: Seeded) -> None:
    def planned(**settings: str | list[str]) -> str:
        page = client.post("/training/new/plan/", form_of(client) | ids(seeded) | settings)
        learned: str = page.context["plan"].learned
        assert f"<dd>{learned}</dd>" in page.content.decode()
        return learned

    assert planned() == "every answer, thoughts included"
    assert planned(learn="last_answer", thoughts="masked") == (
        "the last answer of each chat, but not its thoughts, which are read"
    )
    assert planned(learn=["answers", "everything"], thoughts="dropped") == (
        "every answer, without its thoughts, which are left out or "
        "prompts and answers, without their thoughts, which are left out"
    )
