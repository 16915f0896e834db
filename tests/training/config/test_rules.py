"""Which settings are valid together, for form, API and queue."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backends.examples import STRIPPED
from registry.errors import Invalid
from registry.models import Dataset, DatasetReport, Model
from tests.training.build import make_config, make_dataset, make_job, make_model
from training import queue
from training.config import rules
from training.config.changes import with_changes
from training.config.learned import learned
from training.models import TrainingJob

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


def problems(
    model: Model | None = None, dataset: Dataset | None = None, **config: Any
) -> list[str]:
    found = rules.problems(model or make_model(), dataset or make_dataset(), make_config(**config))
    return [problem.setting for problem in found]


def preferences() -> Dataset:
    dataset = make_dataset()
    dataset.format = Dataset.Format.PREFERENCE
    dataset.save()
    return dataset


def test_the_defaults_have_no_problem() -> None:
    assert problems() == []


def test_preferences_and_their_objectives_need_each_other() -> None:
    model, chosen = make_model(), preferences()
    assert problems(model, chosen) == ["objective"]
    assert problems(model, chosen, objective="dpo") == []
    assert problems(model, chosen, objective="orpo") == []
    assert problems(model, chosen, objective="simpo") == []
    assert problems(model, chosen, objective="kto") == []
    for objective in ("orpo", "simpo", "kto"):
        assert problems(model, make_dataset("plain"), objective=objective) == ["objective"]


def test_labelled_answers_need_kto_and_labels_of_both_kinds() -> None:
    model, labelled = make_model(), make_dataset("labelled")
    labelled.format = Dataset.Format.LABELLED
    for objective in ("dpo", "simpo"):
        found = rules.problems(model, labelled, make_config(objective=objective))
        assert "labelled good or bad. Set objective to kto" in found[0].message
    config = make_config(objective="kto")
    assert rules.problems(model, labelled, config) == []

    def advised() -> list[str]:
        return [
            p.message for p in rules.advice(model, labelled, config) if p.setting == "objective"
        ]

    labelled.schema = {"labels": {"true": 3, "false": 5}}
    assert advised() == []
    labelled.schema = {"labels": {"true": 0, "false": 5}}
    assert "have the label false" in advised()[0]


def test_sft_learns_the_good_ones_of_labelled_answers() -> None:
    model, labelled = make_model(), make_dataset("labelled")
    labelled.splits = {"train": 30, "valid": 10}
    labelled.format = Dataset.Format.LABELLED
    labelled.schema = {"labels": {"true": 10, "false": 30}}
    config = make_config(objective="sft", epochs=1, batch_size=4)
    assert rules.problems(model, labelled, config) == []
    assert rules.steps(labelled, config) == 2  # of 7.5 good ones
    assert learned(labelled, config) == (
        "the 10 answers labelled good and none of the 30 bad ones, thoughts included"
    )
    labelled.schema = {"labels": {"true": 0, "false": 40}}
    assert "has no answer labelled good" in rules.problems(model, labelled, config)[0].message


def test_what_is_learned_is_said_in_words() -> None:
    def said(format: str, **config: Any) -> str:
        return learned(Dataset(format=format), make_config(**config))

    assert said("chat") == said("tools") == "every answer, thoughts included"
    assert said("completions") == "every completion, thoughts included"
    assert said("completions", learn="everything", thoughts="masked") == (
        "prompts and completions, but not their thoughts, which are read"
    )
    assert said("text", thoughts="masked") == "all of each text"
    assert said("chat", thoughts="as_written") == "every answer"
    pairs = "to prefer chosen answers to rejected ones"
    assert said("preference", objective="dpo") == f"{pairs}, thoughts included"
    assert said("labelled", objective="kto", thoughts="dropped") == (
        "to prefer good answers to bad ones, without their thoughts, which are left out"
    )


def test_kto_counts_both_answers_of_a_pair() -> None:
    dataset = make_dataset(train=12)
    dataset.format = Dataset.Format.PREFERENCE
    assert rules.steps(dataset, make_config(objective="kto", epochs=1, batch_size=4)) == 6
    assert rules.steps(dataset, make_config(objective="dpo", epochs=1, batch_size=4)) == 3
    assert problems(make_model(), dataset, objective="kto", batch_size=24) == []


def test_a_low_beta_for_simpo_is_told() -> None:
    found = rules.advice(make_model(), preferences(), make_config(objective="simpo"))
    assert "beta" in {problem.setting for problem in found}


def test_quantized_weights_are_not_trained() -> None:
    model = make_model()
    model.base_model.quantization = "4-bit (group 64)"
    assert problems(model, fine_tune_type="full") == ["fine_tune_type"]
    assert problems(model, Dataset.objects.get(), fine_tune_type="dora") == []


def test_a_run_must_train_something_of_something() -> None:
    model, dataset = make_model(), make_dataset(train=12)
    assert problems(model, dataset, num_layers=0) == ["num_layers"]
    assert problems(model, dataset, lora={"keys": []}) == ["lora.keys"]
    assert problems(model, dataset, batch_size=13) == ["batch_size"]
    model.archived_at = timezone.now()
    assert problems(model, dataset) == ["model"]


@pytest.mark.both_databases
def test_the_queue_and_the_api_refuse_with_all_reasons(client: Client) -> None:
    model, dataset = make_model(), make_dataset()
    with pytest.raises(Invalid, match=r"rejected answers.*num_layers 0"):
        queue.enqueue(model, dataset, make_config(objective="dpo", num_layers=0))
    body = {
        "model_id": model.pk,
        "dataset_id": dataset.pk,
        "config": {"objective": "orpo"},
    }
    answer = client.post("/api/training/jobs", body, content_type="application/json")
    assert answer.status_code == 422
    assert "chosen and rejected" in answer.json()["error"]["message"]
    assert not TrainingJob.objects.exists()


@pytest.mark.parametrize(
    ("config", "setting"),
    [
        ({"epochs": 1, "warmup": 9}, "warmup"),
        ({"iters": 20, "steps_per_eval": 40}, "steps_per_eval"),
        ({"iters": 20, "steps_per_eval": 5, "patience": 4}, "patience"),
        ({"iters": 200, "steps_per_eval": 5}, "iters"),
        ({"fine_tune_type": "full", "learning_rate": 1e-4}, "learning_rate"),
    ],
)
def test_probably_unintended_settings_get_advice(config: dict[str, Any], setting: str) -> None:
    notes = rules.advice(make_model(), make_dataset(train=12), make_config(**config))
    assert setting in {note.setting for note in notes}


def test_epochs_become_steps() -> None:
    dataset = make_dataset(train=12)
    assert rules.steps(dataset, make_config(iters=7)) == 7
    assert rules.steps(dataset, make_config(epochs=2, batch_size=5)) == 5


def test_a_choice_of_what_is_learned_that_does_nothing_is_told() -> None:
    def advised(dataset: Dataset, **config: Any) -> list[str]:
        found = rules.advice(model, dataset, make_config(**config))
        return [problem.message for problem in found if problem.setting == "learn"]

    model, text = make_model(), make_dataset("text")
    text.format = Dataset.Format.TEXT
    assert "learns from all of it" in advised(text)[0]
    assert advised(text, learn="everything") == []
    assert advised(make_dataset("chats"), learn="everything") == []
    assert "alone" in advised(preferences(), objective="dpo", learn="everything")[0]


def test_control_tokens_and_tools_that_are_not_served_so_are_told() -> None:
    model, dataset = make_model(), make_dataset()

    def advised(**config: Any) -> list[str]:
        found = rules.advice(model, dataset, make_config(**config))
        told = ("special_tokens", "tools")
        return [problem.setting for problem in found if problem.setting in told]

    assert advised() == []
    assert advised(special_tokens="control") == ["special_tokens"]
    assert advised(tools="as_written") == ["tools"]


def test_updates_that_16_bits_would_lose_are_told_of() -> None:
    model, dataset = make_model(), make_dataset()

    def advised(quantization: str, **config: Any) -> list[str]:
        model.base_model.quantization = quantization
        found = rules.advice(model, dataset, make_config(**config))
        return [problem.setting for problem in found if problem.setting == "arithmetic"]

    earlier = {"fine_tune_type": "full", "arithmetic": "earlier"}
    assert advised("bfloat16", **earlier) == ["arithmetic"]
    assert advised("bfloat16", fine_tune_type="full") == []
    assert advised("bfloat16", arithmetic="earlier") == []
    assert advised("float32", **earlier) == []


def test_answers_whose_thoughts_a_template_strips_are_told_of() -> None:
    model, dataset = make_model(), make_dataset()

    def advised(**config: Any) -> list[str]:
        found = rules.advice(model, dataset, make_config(**config))
        return [problem.message for problem in found if problem.setting == "thoughts"]

    assert advised() == []
    DatasetReport.objects.create(
        dataset=dataset,
        base_model=model.base_model,
        max_seq_length=2048,
        report={"tokens": {"train": {"notes": {STRIPPED: 1234}}}},
    )
    for mode in ("kept", "masked"):
        assert "found 1,234 answers in train that are not learned" in advised(thoughts=mode)[0]
    assert advised(thoughts="dropped") == advised(learn="last_answer") == []
    assert "as in earlier versions" in advised(thoughts="as_written")[0]


@pytest.mark.parametrize(("masked", "learn"), [(True, "last_answer"), (False, "everything")])
def test_the_old_name_of_learn_changes_it(masked: bool, learn: str) -> None:
    assert with_changes(make_config(), {"mask_prompt": masked}).learn == learn
    with pytest.raises(Invalid, match="old name"):
        with_changes(make_config(), {"mask_prompt": masked, "learn": "answers"})


@pytest.mark.both_databases
def test_a_clone_of_an_old_job_learns_what_that_one_learned() -> None:
    job = make_job()
    job.config = {name: value for name, value in job.config.items() if name != "learn"}
    assert queue.clone(job, {}).training_config.learn == "last_answer"
    job.config["mask_prompt"] = False
    assert queue.clone(job, {"iters": 20}).training_config.learn == "everything"


def test_labels_and_the_task_of_a_model_belong_together() -> None:
    """An unset key means that the labels were never counted, which is no advice."""
    labelled, bare, old = (make_dataset(name) for name in ("labelled", "bare", "old"))
    labelled.schema["classes"] = [["praise", {"train": 6}], ["complaint", {"train": 6}]]
    del old.schema["classes"]
    chats, kinds = make_model("chats"), make_model("kinds")
    kinds.task_type = "classification"

    def told(model: Model, dataset: Dataset) -> list[str]:
        found = rules.advice(model, dataset, make_config())
        return [one.message for one in found if "labels" in one.message]

    [note] = told(chats, labelled)
    assert "has 2 labels, but the task of chats is chat" in note
    [note] = told(kinds, bare)
    assert "bare has no labels" in note
    assert told(kinds, labelled) == told(chats, bare) == told(kinds, old) == []


def test_the_form_shows_that_labels_need_another_task(client: Client) -> None:
    dataset, model = make_dataset(), make_model()
    dataset.schema["classes"] = [["praise", {"train": 6}], ["complaint", {"train": 6}]]
    dataset.save()
    page = client.get(f"/training/new/?model={model.pk}&dataset={dataset.pk}").content.decode()
    assert "has 2 labels, but the task of helper is chat" in page
