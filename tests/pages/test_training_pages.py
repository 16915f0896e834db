"""Jobs: configured, queued, watched, cancelled, tried again."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backends.base import TrainingConfig
from hub.templatetags import sparks
from registry.catalog.overview import listed_versions_of
from registry.datasets.snapshots import register_dataset
from registry.models import Model
from registry.storage import paths
from registry.versions import curves
from registry.versions.curves import MAX_POINTS
from tests.pages.seed import Seeded, make_job, make_sweep, make_version
from tests.pages.test_pages import text
from tests.registry.build import write_jsonl
from training import queue
from training.config.vocabulary import flatten, labelled
from training.models import Sweep, TrainingJob, TrainingMetric
from training.worker.supervisor import log_path

pytestmark = pytest.mark.any_database


def form_of(client: Client, query: str = "") -> dict[str, object]:
    """The values the form shows, as a browser would send them."""
    form = client.get(f"/training/new/{query}").context["form"]
    values = {name: form[name].value() for name in form.fields}
    return {name: value for name, value in values.items() if value not in (None, False)}


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


# -------------------------------------------------------------------------- the plan


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


# -------------------------------------------------------------------------- the queue


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


@pytest.mark.both_databases
def test_the_history_has_what_is_over_and_is_filtered(client: Client, seeded: Seeded) -> None:
    over = {job.status for job in client.get("/training/").context["rows"]}
    assert over == {"completed", "failed"}
    queued = client.get("/training/?status=queued").context["rows"]
    assert [job.status for job in queued] == ["queued", "queued"]
    assert "No job matches" in text(client.get("/training/?model=nothing"))


def waiting() -> list[TrainingJob]:
    return list(TrainingJob.objects.waiting())


def ids(seeded: Seeded) -> dict[str, int]:
    return {"model": seeded.model.pk, "dataset": seeded.dataset.pk}


# ----------------------------------------------------------------------------- sweeps


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


# -------------------------------------------------------------------------- one job


@pytest.mark.both_databases
def test_other_runs_are_laid_over_a_jobs_curve(client: Client, seeded: Seeded) -> None:
    assert seeded.running is not None
    other = make_job(seeded.model, seeded.dataset, status="completed", iteration=5)
    body = client.get(f"{seeded.running.get_absolute_url()}?with={other.pk}&with=x").content
    assert body.decode().count("data-curve=") == 2
    assert f"/training/{other.pk}/metrics.json".encode() in body


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


# --------------------------------------------------------------------------- curve


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
