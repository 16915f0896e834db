"""Several values in a field: sweeps and their comparison."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from tests.pages.seed import Seeded, make_sweep
from tests.pages.test_pages import text
from tests.pages.training.test_form import form_of, ids
from training.models import Sweep

pytestmark = pytest.mark.any_database


def test_several_values_in_a_field_start_a_sweep(client: Client, seeded: Seeded) -> None:
    values = {"lora.rank": "4, 8", "learning_rate": "0.0001,0.0002", "name": "first try"}
    answer = client.post("/training/new/", form_of(client) | ids(seeded) | values)
    sweep = Sweep.objects.get()
    assert answer.headers["Location"] == sweep.get_absolute_url()
    assert sweep.name == "first try"
    assert sweep.grid == {"learning_rate": [0.0001, 0.0002], "lora.rank": [4, 8]}
    assert sweep.jobs.count() == 4
    page = client.get(sweep.get_absolute_url())
    assert "Curves come with" not in text(page)
    again = form_of(client, f"?sweep={sweep.pk}")
    assert (again["learning_rate"], again["lora.rank"]) == ("0.0001, 0.0002", "4, 8")
    client.post(f"/training/sweeps/{sweep.pk}/cancel/")
    assert {job.status for job in sweep.jobs.all()} == {"cancelled"}


def test_choices_and_switches_are_swept_like_numbers(client: Client, seeded: Seeded) -> None:
    several = {
        "optimizer": ["adamw", "sgd", "adamw"],  # the chosen one, and two ticked boxes
        "packing": ["both"],
        "lora.keys": "self_attn.q_proj; self_attn.q_proj mlp.up_proj",
        "scoring.scorer": "f1",
    }
    fields = form_of(client) | ids(seeded) | several
    plan = client.post("/training/new/plan/", fields).context["plan"]
    assert (plan.jobs, plan.varied) == (8, "2 × 2 × 2")
    client.post("/training/new/", fields)
    sweep = Sweep.objects.get()
    assert sweep.grid == {
        "lora.keys": [["self_attn.q_proj"], ["self_attn.q_proj", "mlp.up_proj"]],
        "optimizer": ["adamw", "sgd"],
        "packing": [False, True],
    }
    configs = [job.training_config for job in sweep.jobs.order_by("pk")]
    assert {(c.optimizer, c.packing, c.lora.keys) for c in configs} == {
        (optimizer, packing, keys)
        for optimizer in ("adamw", "sgd")
        for packing in (False, True)
        for keys in (("self_attn.q_proj",), ("self_attn.q_proj", "mlp.up_proj"))
    }
    page = client.get(sweep.get_absolute_url())
    table = page.context["table"]
    assert table.settings == ["Adapted layers", "Optimizer", "Pack short examples"]
    assert table.rows[-1].settings == ["self_attn.q_proj mlp.up_proj", "sgd", "on"]
    again = form_of(client, f"?sweep={sweep.pk}")
    assert client.post("/training/new/plan/", again).context["plan"].jobs == 8


def test_jobs_and_sweeps_from_before_learn_are_shown_and_repeated_in_its_words(
    client: Client, seeded: Seeded
) -> None:
    client.post("/training/new/", form_of(client) | ids(seeded) | {"lora.rank": "4, 8"})
    sweep = Sweep.objects.get()
    new = ("learn", "special_tokens", "thoughts", "tools", "arithmetic")
    old = {name: value for name, value in sweep.config.items() if name not in new}
    Sweep.objects.update(config=old | {"mask_prompt": True}, grid={"mask_prompt": [True, False]})
    sweep.jobs.update(config=old | {"mask_prompt": False}, varied={"mask_prompt": False})
    job = sweep.jobs.first()
    assert job is not None
    repeated = form_of(client, f"?from={job.pk}")
    then = ["everything", "control", "as_written", "as_written", "earlier"]
    assert [repeated[name] for name in new] == then
    assert "What is learned" in text(client.get(job.get_absolute_url()))
    assert client.get(sweep.get_absolute_url()).status_code == 200
    again = form_of(client, f"?sweep={sweep.pk}")
    assert client.post("/training/new/plan/", again).context["plan"].jobs == 2
    client.post("/training/new/", again)
    assert Sweep.objects.latest("pk").grid == {"learn": ["last_answer", "everything"]}


def test_two_choices_make_a_heat_map(client: Client, seeded: Seeded) -> None:
    several = {"schedule": ["cosine", "constant"], "fine_tune_type": ["lora", "dora"]}
    client.post("/training/new/", form_of(client) | ids(seeded) | several)
    table = client.get(Sweep.objects.get().get_absolute_url()).context["table"]
    assert table.columns == ["cosine", "constant"]
    assert [value for value, _ in table.grid] == ["lora", "dora"]
    assert all(
        cell.row.settings == [down, across]
        for down, cells in table.grid
        for across, cell in zip(table.columns, cells, strict=True)
    )


def test_a_choice_that_is_not_offered_is_refused_beside_others(
    client: Client, seeded: Seeded
) -> None:
    fields = form_of(client) | ids(seeded) | {"optimizer": ["adamw", "magic"]}
    response = client.post("/training/new/", fields)
    assert response.status_code == 422
    assert "magic is not one of the available choices" in text(response)
    opened = [title for title, _, _, special in response.context["form"].groups if special]
    assert opened == ["Steps and optimizer"]


@pytest.mark.both_databases
def test_a_sweep_is_one_comparison(client: Client, seeded: Seeded) -> None:
    sweep = make_sweep(seeded.model, seeded.dataset)
    page = client.get(sweep.get_absolute_url())
    table = page.context["table"]
    assert table.settings == ["Learning rate", "LoRA rank"]
    best = table.best(1)[0]
    assert best.settings == ["0.0001", 16]
    assert best.compared.best
    assert [[cell.level for cell in cells] for _, cells in table.grid] == [[1, 5], [2, 0], [2, 0]]
    body = page.content.decode()
    assert body.count("data-curve=") == 4
    assert "v=calendar@0.3.3" in body
    assert "Rank and rate" in text(client.get("/training/sweeps/"))
    comparison = re.search(r'href="(/compare/[^"]+)"', body)
    assert comparison
    assert client.get(comparison[1].replace("&amp;", "&")).status_code == 200


@pytest.mark.both_databases
def test_the_pages_of_sweeps_are_cheap_and_clean(
    client: Client, seeded: Seeded, django_assert_max_num_queries: Any
) -> None:
    sweep = make_sweep(seeded.model, seeded.dataset)
    for path in ("/training/sweeps/", sweep.get_absolute_url(), f"/training/new/?sweep={sweep.pk}"):
        with django_assert_max_num_queries(21):
            body = client.get(path).content.decode()
        assert not re.search(r"\sstyle=|\son[a-z]+=|<script(?![^>]*\bsrc=)", body), path
