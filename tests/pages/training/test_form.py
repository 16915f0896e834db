"""The form of a job: what it proposes, presets, and mistakes at their fields."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from backends.base import TrainingConfig
from registry.datasets.snapshots import register_dataset
from registry.models import Model
from registry.storage import paths
from tests.pages.seed import Seeded, make_job
from tests.pages.test_pages import text
from tests.registry.build import write_jsonl
from training.config.vocabulary import flatten
from training.models import TrainingJob

pytestmark = pytest.mark.any_database


def form_of(client: Client, query: str = "") -> dict[str, object]:
    """The values the form shows, as a browser would send them."""
    form = client.get(f"/training/new/{query}").context["form"]
    values = {name: form[name].value() for name in form.fields}
    return {name: value for name, value in values.items() if value not in (None, False)}


def ids(seeded: Seeded) -> dict[str, int]:
    return {"model": seeded.model.pk, "dataset": seeded.dataset.pk}


def test_the_form_says_which_version_it_would_make(client: Client, seeded: Seeded) -> None:
    newest = seeded.versions[-1]
    assert newest.version == "0.2.1"
    fields = form_of(client) | {"model": seeded.model.pk, "dataset": seeded.dataset.pk}
    assert client.post("/training/new/plan/", fields).context["plan"].version == "0.3.0"
    client.post("/training/new/", fields)
    job = seeded.model.jobs.latest("pk")
    type(newest).objects.filter(pk=newest.pk).update(
        params=job.config,
        dataset_checksum=seeded.dataset.checksum,
        base_checksum=seeded.base.manifest_sha256,
    )
    assert client.post("/training/new/plan/", fields).context["plan"].version == "0.2.2"


def test_the_form_proposes_what_belongs_together(client: Client, seeded: Seeded) -> None:
    """A model with the data set it was trained on, or else with one for its task; and the other way."""
    rows = [{"text": f"ticket {n}", "label": ("bill", "parcel")[n % 2]} for n in range(40)]
    write_jsonl(paths.root() / "tickets.jsonl", rows)
    tickets = register_dataset("tickets", paths.root() / "tickets.jsonl")
    sorter = Model.objects.create(name="sorter", base_model=seeded.base, task_type="classification")
    other = Model.objects.create(name="other", base_model=seeded.base)
    assert form_of(client, f"?dataset={tickets.pk}")["model"] == sorter.pk
    assert form_of(client, f"?model={sorter.pk}")["dataset"] == tickets.pk
    assert form_of(client, f"?model={other.pk}")["dataset"] != tickets.pk
    make_job(other, dataset=tickets)
    assert form_of(client, f"?model={other.pk}")["dataset"] == tickets.pk
    assert form_of(client, f"?dataset={tickets.pk}")["model"] == other.pk
    for unknown in ("dataset=99999", "model=99999", "model=x"):
        assert client.get(f"/training/new/?{unknown}").status_code == 200


@pytest.mark.both_databases
def test_the_form_as_it_stands_queues_a_job(client: Client, seeded: Seeded) -> None:
    fields = form_of(client) | {"model": seeded.model.pk, "dataset": seeded.dataset.pk}
    response = client.post("/training/new/", fields)
    job = TrainingJob.objects.latest("pk")
    assert response.headers["Location"] == job.get_absolute_url()
    assert job.status == "queued"
    assert job.config["iters"] == 100
    assert job.training_config == TrainingConfig()


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
    body = response.content.decode()
    assert body.count(f'id="id_{field}_error"') == 1
    widget = re.search(rf'<input[^>]* id="id_{field}"[^>]*>', body)
    assert widget
    assert 'aria-invalid="true"' in widget[0]
    assert f"id_{field}_error" in widget[0].partition("aria-describedby=")[2]
    assert TrainingJob.objects.count() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"warmup": "100"}, "“Warm-up steps” (100) must be smaller than “Steps” (100)"),
        (
            {"batch_size": "1000"},
            "fewer than “Batch size” 1000; lower “Batch size” or add examples",
        ),
    ],
)
def test_what_several_settings_decide_is_explained_by_their_labels(
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


@pytest.mark.parametrize(
    "preset",
    ["trial", "balanced", "thorough", "small-memory"],  # "preferences" needs other data
)
def test_every_preset_is_a_valid_job(client: Client, seeded: Seeded, preset: str) -> None:
    fields = form_of(client, f"?preset={preset}") | {
        "model": seeded.model.pk,
        "dataset": seeded.dataset.pk,
    }
    assert client.post("/training/new/", fields).status_code == 302


@pytest.mark.both_databases
def test_the_settings_of_an_earlier_job_fill_the_form(client: Client, seeded: Seeded) -> None:
    job = make_job(seeded.model, seeded.dataset)
    TrainingJob.objects.filter(pk=job.pk).update(config=job.config | {"iters": 33, "seed": 5})
    fields = form_of(client, f"?from={job.pk}")
    assert (fields["iters"], fields["seed"]) == (33, 5)


def test_a_repeated_job_remembers_where_it_comes_from(client: Client, seeded: Seeded) -> None:
    job = make_job(seeded.model, seeded.dataset)
    fields = form_of(client, f"?from={job.pk}") | {"from": job.pk, "iters": 44}
    client.post("/training/new/", fields)
    made = TrainingJob.objects.latest("pk")
    assert (made.cloned_from, made.config["iters"]) == (job, 44)
    assert f"copied from job {job.pk}" in text(client.get(made.get_absolute_url()))


def test_every_setting_has_a_field_with_words(client: Client, seeded: Seeded) -> None:
    form = client.get("/training/new/").context["form"]
    settings = flatten(TrainingConfig().model_dump())
    assert settings.keys() <= form.fields.keys()
    assert all(form[name].help_text and form[name].label for name in settings)


def test_words_and_choices_become_settings(client: Client, seeded: Seeded) -> None:
    chosen = {"lora.keys": "self_attn.q_proj, mlp.up_proj", "optimizer": "muon", "epochs": "1.5"}
    client.post("/training/new/", form_of(client) | ids(seeded) | chosen)
    config = TrainingJob.objects.latest("pk").training_config
    assert config.lora.keys == ("self_attn.q_proj", "mlp.up_proj")
    assert (config.optimizer, config.epochs) == ("muon", 1.5)
