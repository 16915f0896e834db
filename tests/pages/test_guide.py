"""The page from examples to a queued job: what is proposed, kept, refused and made."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from registry.background import children, work
from registry.bases.registration import STARTER, register_starter
from registry.catalog.registration import register_model
from registry.datasets import uploads
from registry.datasets.snapshots import register_dataset, register_starter_dataset
from registry.errors import Unavailable
from registry.models import BaseModel, Dataset, Model
from registry.storage import paths
from tests.pages.seed import make_version
from tests.pages.test_pages import HTMX, text
from tests.registry.build import make_base, write_jsonl
from training.memory.fitting import Fit, propose
from training.models import Setup, TrainingJob
from training.queue import setup as setups
from training.web import guide

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

CSV = "id,question,answer\n" + "".join(f"{n},q{n % 35},a{n % 35}\n" for n in range(40))
CHOICES: dict[str, Any] = {
    "model": "support",
    "dataset": "tickets",
    "task_type": "chat",
    "base": STARTER,
    "preset": "trial",
}


def send(client: Client, name: str = "support tickets.csv", content: str = CSV) -> str:
    """Send a file; the address of the page about it."""
    files = [SimpleUploadedFile(name, content.encode())]
    answer = client.post("/start/", {"files": files})
    assert answer.status_code == 302, text(answer)
    return str(answer.headers["Location"])


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that would have run in children."""
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(children, "start", lambda *args, **more: commands.append(args))
    return commands


def test_a_file_is_seen_with_all_that_is_proposed_before_anything_is_made(client: Client) -> None:
    page = client.get(send(client))
    shown = text(page)
    assert "Question and answer, since rows have question and answer." in shown
    assert "These columns are not used: id." in shown
    assert "repeat an earlier one" in shown
    form = page.context["form"]
    assert (form["model"].value(), form["dataset"].value()) == ("support-tickets",) * 2
    assert page.context["base"].base.name == STARTER
    assert "Comes with the hub" in shown
    assert page.context["preset"].name == "balanced"
    assert not BaseModel.objects.exists() | Dataset.objects.exists() | Model.objects.exists()


def test_a_rejected_name_loses_neither_the_file_nor_a_choice(client: Client) -> None:
    here = send(client)
    refused = client.post(here, CHOICES | {"model": "no name!"})
    assert refused.status_code == 422
    assert "is not a valid name" in text(refused)
    for page in (refused, client.get(here)):  # and after it was left
        assert page.context["preset"].name == "trial"
        assert page.context["form"]["dataset"].value() == "tickets"
    assert "support tickets.csv" in text(client.get("/start/"))
    dashboard = client.get("/")
    assert here in dashboard.content.decode()
    make_base()
    client.post(here, {"model": "typed", "base": "tiny"}, headers=HTMX)
    kept = client.get(here).context
    assert (kept["base"].base.name, kept["form"]["model"].value()) == ("tiny", "typed")


@pytest.mark.both_databases
def test_one_submit_makes_data_set_model_and_job(client: Client) -> None:
    register_starter()
    here = send(client)
    made = client.post(here, CHOICES)
    job = TrainingJob.objects.get()
    assert made.headers["Location"] == job.get_absolute_url()
    assert (job.model.name, job.dataset.name, job.config["iters"]) == ("support", "tickets", 20)
    assert job.model.base_model.name == STARTER
    assert job.dataset.source == "Upload: support tickets.csv"
    # A second click, or the way back, leads to the same job.
    for again in (client.post(here, CHOICES), client.get(here)):
        assert client.get(again.headers["Location"]).headers["Location"] == job.get_absolute_url()
    assert TrainingJob.objects.count() == 1
    assert not uploads.waiting()


def test_the_bundled_base_is_registered_on_the_way(
    client: Client, started: list[tuple[str, ...]]
) -> None:
    here = send(client)
    made, clicked_again = (client.post(here, CHOICES) for _ in range(2))
    setup = Setup.objects.get()
    assert clicked_again.headers["Location"] == made.headers["Location"]
    assert work.running() == setup
    first = client.get("/").context["steps"][0]
    assert (first.state, first.url) == ("Running", setup.get_absolute_url())
    assert started == [("run_setup", str(setup.pk))]
    assert made.headers["Location"] == setup.get_absolute_url()
    assert "You can leave this page" in text(client.get(setup.get_absolute_url()))
    setups.run(setup)
    job = TrainingJob.objects.get()
    first, then = client.get("/").context["steps"]
    assert (first.state, first.url) == ("Running", job.get_absolute_url())  # though it only waits
    assert not then.url
    assert job.model.base_model.source == BaseModel.Source.STARTER
    assert client.get(setup.get_absolute_url()).headers["Location"] == job.get_absolute_url()
    work.prune(timezone.now() + timedelta(days=1))
    assert not Setup.objects.exists()
    assert TrainingJob.objects.exists()


@pytest.mark.both_databases
def test_what_fails_halfway_is_retried_from_there(
    client: Client, monkeypatch: pytest.MonkeyPatch, started: list[tuple[str, ...]]
) -> None:
    register_starter()

    def unavailable(*_: object) -> None:
        raise Unavailable("MLflow does not answer.")

    monkeypatch.setattr(setups, "register_model", unavailable)
    here = client.post(send(client), CHOICES).headers["Location"]
    page = client.get(here)
    assert "MLflow does not answer." in text(page)
    change = page.context["again"][1]
    assert client.get(change).context["form"]["model"].value() == "support"
    monkeypatch.setattr(setups, "register_model", register_model)
    client.post(f"{here}retry/")
    assert started
    setups.run(Setup.objects.get())
    assert TrainingJob.objects.get().dataset == Dataset.objects.get()  # not read twice


@pytest.mark.both_databases
def test_a_setup_that_makes_nothing_leaves_nothing(client: Client) -> None:
    register_starter()
    here = send(client, content="question,answer\n" + "q,a\n" * 9)  # one example, nine times
    assert "at least 3 different examples" in text(client.get(here))
    assert client.post(here, CHOICES).status_code == 422
    assert not Setup.objects.exists()
    assert uploads.waiting()


def test_a_file_that_cannot_be_read_leads_on(client: Client) -> None:
    here = send(client, content="ask,say\n" + "".join(f"q{n},a{n}\n" for n in range(30)))
    assert client.get(here).context["blocked"]
    assert client.post(here, CHOICES).status_code == 422
    mapped = {"column": ["ask", "say"], "as": ["prompt", "completion"], "was": ["", ""]}
    page = client.post(here, mapped, headers=HTMX)
    assert not page.context["blocked"]
    assert not client.get(here).context["blocked"]  # the columns are kept
    both = {"column": ["ask", "say"], "as": ["prompt", "prompt"], "was": ["", ""]}
    assert "are both chosen as" in text(client.post(here, both, headers=HTMX))
    client.post(here, {"discard": ""})
    assert not uploads.waiting()
    assert client.get(here).headers["Location"] == "/start/"


def test_a_file_that_holds_no_examples_asks_for_another_one(client: Client) -> None:
    here = send(client, "cat.png", "\x89PNG and more")
    shown = text(client.get(here))
    assert "cat.png is not a kind of file that the hub reads" in shown
    assert "Choose a file" in shown
    assert "Model name" not in shown
    broken = send(client, "broken.jsonl", '{"messages": [\nno JSON\n')
    assert "broken.jsonl line 1: is not JSON" in text(client.get(broken))
    assert not uploads.waiting()  # neither is worth a second look
    client.post(here, {"discard": ""})
    assert client.get(here).headers["Location"] == "/start/"
    empty = client.post("/start/", {"files": [SimpleUploadedFile("empty.jsonl", b"")]})
    assert "empty.jsonl is empty; choose a file with an example per line." in text(empty)


def test_several_files_whose_names_say_no_split_are_explained(client: Client) -> None:
    files = [SimpleUploadedFile(name, CSV.encode()) for name in ("one.csv", "two.csv")]
    answer = client.post("/start/", {"files": files})
    assert "Name several files train.jsonl" in text(answer)


def test_a_data_set_is_a_start_as_well(client: Client) -> None:
    register_starter()
    pk = register_starter_dataset().pk
    lead = client.get(f"/training/new/?dataset={pk}").content.decode()  # no model to train yet
    assert f'href="/start/data/{pk}/"' in lead
    first = client.post("/start/", {"starter": "yes"}).headers["Location"]
    page = client.get(f"{first}?preset=thorough")
    assert page.context["preset"].name == "thorough"
    assert page.context["form"]["task_type"].value() == "extraction"  # its answers are JSON
    dataset = register_starter_dataset()
    client.post(first, CHOICES | {"dataset": dataset.name})
    assert TrainingJob.objects.get().dataset == dataset
    assert f'href="{first}"' in client.get("/start/").content.decode()
    # The data set's own page leads there too, until a version was trained on it.
    own = f"/datasets/{dataset.pk}/"
    assert f'href="{first}"' in client.get(own).content.decode()
    job_form = f'href="/training/new/?dataset={dataset.pk}"'
    assert job_form in client.get(first).content.decode()  # for a version of a known model
    make_version(Model.objects.get(), "0.1.0", dataset)
    assert job_form in client.get(own).content.decode()


@pytest.mark.both_databases
def test_names_are_free(client: Client) -> None:
    base = register_starter()
    register_model("support-tickets", base)
    register_model("support-tickets-2", base)
    form = client.get(send(client)).context["form"]
    assert (form["model"].value(), form["dataset"].value()) == (
        "support-tickets-3",
        "support-tickets",
    )
    form = client.get(send(client, "\u6570.csv")).context["form"]
    assert form.is_valid()


@pytest.mark.parametrize(
    ("row", "task", "objective", "preset"),
    [
        ({"prompt": "q{n}", "chosen": "a", "rejected": "b"}, "chat", "dpo", "preferences"),
        ({"prompt": "q{n}", "completion": "a", "label": True}, "chat", "sft", "balanced"),
        ({"prompt": "q{n}", "completion": "a"}, "chat", "sft", "balanced"),
        ({"text": "t{n}", "label": "ab"}, "classification", "sft", "balanced"),
        ({"prompt": "q{n}", "completion": '{"a": 1}'}, "extraction", "sft", "balanced"),
    ],
    ids=["preferences", "good answers", "answers", "labels", "json"],
)
def test_settings_fit_the_examples(row: Any, task: str, objective: str, preset: str) -> None:
    def made(number: int) -> Any:
        filled = json.loads(json.dumps(row).replace("{n}", str(number)))
        return filled | ({"label": "ab"[number % 2]} if filled.get("label") == "ab" else {})

    path = write_jsonl(paths.root() / "rows.jsonl", [made(n) for n in range(12)])
    dataset = register_dataset("rows", path)
    examples = guide.Examples.of_dataset(dataset)
    assert examples.task_type == task
    presets = guide.presets(examples)
    assert next(iter(presets)) == preset
    assert {one.config.objective for one in presets.values()} == {objective}
    # However few there are, a batch is filled.
    assert not any(one.cuts for one in presets.values())
    long = guide.presets(guide.Examples(examples.format, 9, longest=10**6))
    assert all("Cuts examples at" in one.sentence for one in long.values())
    few = guide.presets(guide.Examples(examples.format, 2, one_label=examples.one_label))
    assert {one.config.batch_size for one in few.values()} <= {1, 2}


def test_the_largest_base_that_fits_is_proposed_and_on_a_cpu_the_smallest(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    sizes = {"small": 10**8, "middle": 10**9, "huge": 10**12}
    found = [Fit(BaseModel(pk=1, name=n, parameters=s), nbytes=2 * s) for n, s in sizes.items()]
    found.append(Fit(BaseModel(pk=2, name="unreadable", parameters=10**13)))
    settings.MEMORY_BUDGET_BYTES = 10**10
    for device, name in (("metal", "middle"), ("cpu", "small")):
        monkeypatch.setenv("HUB_ASSUMED_DEVICE", device)
        best = propose(found)
        assert best
        assert best.name == name
    assert "Too large for this machine" in found[2].sentence
    assert propose(found[2:]) is None


def test_a_base_that_is_too_large_is_told_before_it_is_trained(
    client: Client, settings: Any
) -> None:
    register_starter()
    settings.MEMORY_BUDGET_BYTES = 1
    here = send(client)
    page = client.get(here)
    assert page.context["preset"].name == "small-memory"
    assert "Too large for this machine" in text(page)
    assert client.post(here, CHOICES).status_code == 422
    assert not TrainingJob.objects.exists()
