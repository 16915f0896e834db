"""Sweeps: a grid becomes jobs and one comparison."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from registry.errors import Invalid
from tests.training.build import claim, make_config, make_dataset, make_model
from training.attempt import runner
from training.models import Sweep, TrainingJob
from training.queue import sweeps
from training.web.forms import NewJobForm, swept

pytestmark = pytest.mark.django_db

GRID: dict[str, Any] = {"lora.rank": [4, 8], "learning_rate": [1e-4, 2e-4, 3e-4]}


def start(grid: dict[str, Any] | None = None, **overrides: Any) -> Sweep:
    config = make_config(**overrides)
    return sweeps.start(make_model(), make_dataset(), config, grid or GRID)


def test_each_combination_becomes_a_job() -> None:
    sweep = start(iters=30)
    jobs = list(sweep.jobs.order_by("pk"))
    assert sweep.name == "lora.rank × learning_rate"
    assert [(j.varied["lora.rank"], j.varied["learning_rate"]) for j in jobs] == [
        (rank, rate) for rank in (4, 8) for rate in (1e-4, 2e-4, 3e-4)
    ]
    assert all(j.training_config.lora.rank == j.varied["lora.rank"] for j in jobs)
    assert all(j.training_config.iters == 30 for j in jobs)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"lora.rang": [4]}, "lora.rang"),
        ({"iters": [10, 0]}, "iters"),
        ({"iters": []}, "list of values"),
        ({"iters": [10, 10]}, "listed twice"),
        ({"seed": list(range(65))}, "65 combinations"),
        ({"batch_size": [4, 99]}, "12 training examples"),
    ],
)
def test_a_grid_that_could_not_be_trained_queues_nothing(grid: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        start(grid)
    assert not TrainingJob.objects.exists()
    assert not Sweep.objects.exists()


def test_the_comparison_has_settings_metrics_and_the_best() -> None:
    sweep = start({"learning_rate": [1e-4, 5e-4]})
    for _ in range(2):
        job = claim()
        runner.run(job.pk, job.lease, lambda: "")
    slow, fast = sweeps.compare(sweep)
    assert (slow.varied, fast.varied) == ({"learning_rate": 1e-4}, {"learning_rate": 5e-4})
    assert fast.val_loss < slow.val_loss
    assert (slow.best, fast.best) == (False, True)
    assert fast.metrics["perplexity"] > 0
    assert fast.seconds > 0


def test_sweeps_over_json(client: Client) -> None:
    body = {
        "model_id": make_model().pk,
        "dataset_id": make_dataset().pk,
        "config": {"iters": 10},
        "grid": {"lora.rank": [4, 8]},
        "name": "ranks",
    }
    path = "/api/training/sweeps"
    answer = client.post(path, body, content_type="application/json")
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert [job["varied"] for job in made["jobs"]] == [{"lora.rank": 4}, {"lora.rank": 8}]
    assert client.get(path).json()["items"][0]["name"] == "ranks"
    cancelled = client.post(f"{path}/{made['id']}/cancel").json()
    assert {job["status"] for job in cancelled["jobs"]} == {"cancelled"}
    assert client.get(f"{path}/999").status_code == 404
    refused = client.post(path, {**body, "grid": {}}, content_type="application/json")
    assert refused.status_code == 422


# ------------------------------------------------------------------------ the form


def form(**values: Any) -> NewJobForm:
    """Nested settings are written with two underscores."""
    chosen = {"model": make_model().pk, "dataset": make_dataset().pk}
    settings = {name.replace("__", "."): value for name, value in values.items()}
    return NewJobForm({**chosen, "batch_size": "4", **settings})


@pytest.mark.parametrize("keys", [",", ";", " , ; ,", "q_proj; ,", "all"])
def test_separators_alone_are_no_list_of_names(keys: str) -> None:
    made = form(lora__keys=keys, scoring__lm_eval=",")
    assert made.is_valid(), made.errors
    config = made.cleaned_data["config"]
    assert config.lora.keys == (("q_proj",) if "q_proj" in keys else None)
    assert made.cleaned_data["grid"] == {}


@pytest.mark.parametrize(
    "grid",
    [
        {"weight_decay": [0.0, 0.1], "warmup": [0, 10]},
        {"lora.keys": [None, ["q_proj"]]},
        {"lora.keys": [["q_proj", "v_proj"], None]},
    ],
)
def test_a_sweep_started_again_tries_the_same_values(grid: dict[str, list[Any]]) -> None:
    sweep = start(grid)
    again = NewJobForm(swept(sweep))
    assert again.is_valid(), again.errors
    assert again.cleaned_data["grid"] == grid
    assert again.cleaned_data["configs"] == [
        job.training_config for job in sweep.jobs.order_by("pk")
    ]
