"""What the task of a model makes of scoring: labels and their confusion, fields of JSON answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from registry.datasets.snapshots import register_dataset
from registry.models import Dataset, MLflowOutbox, ModelVersion
from registry.promotion import rules
from registry.storage import paths
from registry.task_types import TASK_TYPES
from tests.training.attempt.test_scoring import attempt
from tests.training.build import SHORT, make_config, make_model
from training import queue

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

KINDS = ("praise", "complaint", "question")


def splits_of(rows: list[dict[str, str]], name: str = "own") -> Dataset:
    """A data set whose splits are all `rows`, apart from the word SPLIT in them."""
    folder = paths.root() / f"source-{name}"
    folder.mkdir(parents=True)
    for split in ("train", "valid", "test"):
        lines = [json.dumps(row).replace("SPLIT", split) for row in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return register_dataset(name, folder)


def trained(task: str, rows: list[dict[str, str]], **config: Any) -> ModelVersion:
    model = make_model()
    model.task_type = task
    model.save()
    queue.enqueue(model, splits_of(rows), make_config(**SHORT | config))
    assert attempt().status == "completed"
    return ModelVersion.objects.select_related("model").get()


def reviews(count: int = 9) -> list[dict[str, str]]:
    return [{"text": f"text {n}", "label": KINDS[n % 3]} for n in range(count)]


@pytest.mark.both_databases
def test_a_classification_version_is_scored_by_its_labels(
    monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    monkeypatch.setenv("HUB_FAKE_REPLY", "complaint")
    version = trained("classification", reviews())
    assert sorted(version.labels) == sorted(KINDS)
    found = version.evaluation
    assert (found["problem"], found["scorer"], found["labels"]) == ("", "label", 3)
    # Always "complaint", which is right for 3 of 9: F1 is 2·3 / (9 + 3), 0 and 0.
    assert version.metrics["accuracy"] == pytest.approx(1 / 3)
    assert version.metrics["macro_f1"] == pytest.approx((2 * 3 / 12) / 3)
    assert {"base_accuracy", "base_macro_f1"} <= version.metrics.keys()
    rules.add_rule(version.model, "exact_match", ">=", 0.3)  # from before labels were scored
    assert [
        verdict.value for verdict in rules.judge(version.model, "production", version, None)
    ] == [pytest.approx(1 / 3)]
    matrix = found["classes"]["tuned"]["matrix"]
    at = matrix["columns"].index("complaint")
    assert [row[at] for row in matrix["rows"]] == [3, 3, 3]
    assert all(sample["tuned"] == "complaint" for sample in found["samples"])

    [kept] = MLflowOutbox.objects.filter(operation="log_text")
    assert kept.payload["name"] == "evaluation/classes.json"
    assert json.loads(kept.payload["text"])["tuned"] == found["classes"]["tuned"]

    page = client.get(f"{version.get_absolute_url()}scores/").content.decode()
    assert "each answered with the likeliest of 3 labels" in " ".join(page.split())
    assert "Confusion matrix" in page
    assert page.count('scope="col"') == 6  # the version's and its base's
    lineage = client.get(f"/api/models/{version.model_id}/versions/0.1.0").json()
    assert sorted(lineage["lineage"]["labels"]) == sorted(KINDS)
    assert lineage["evaluation"]["classes"]["tuned"]["accuracy"] == pytest.approx(1 / 3)


def test_a_version_keeps_its_labels_when_its_data_set_gets_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = trained("classification", reviews())
    splits_of([{"text": f"t {n}", "label": "xy"[n % 2]} for n in range(6)], "next")
    folder = paths.root() / "source-next"
    newest = register_dataset("own", folder)
    assert (newest.revision, sorted(newest.labels)) == (2, ["x", "y"])
    version.refresh_from_db()
    assert sorted(version.answers_with) == sorted(KINDS)


def test_a_chat_model_is_not_held_to_labels() -> None:
    version = trained("chat", reviews())
    assert (version.evaluation["scorer"], version.evaluation["labels"]) == ("exact_match", 0)
    assert version.answers_with == []


def test_answers_without_a_set_of_labels_are_scored_as_they_are_given() -> None:
    rows = [{"prompt": f"q {n}", "completion": f"SPLIT {n}"} for n in range(6)]
    version = trained("classification", rows)
    found = version.evaluation
    assert (found["problem"], found["labels"], version.metrics["accuracy"]) == ("", 0, 0)
    assert found["classes"]["tuned"]["matrix"]["columns"][-1] == "(no label)"


def test_an_extraction_version_is_scored_by_its_fields(
    monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    monkeypatch.setenv("HUB_FAKE_REPLY", '{"day": "friday", "who": "Ana"}')
    rows = [
        {"prompt": f"q {n}", "completion": json.dumps({"day": day, "title": "x"})}
        for n, day in enumerate(("friday", "monday") * 2)
    ]
    version = trained("extraction", rows)
    found = version.evaluation
    assert (found["problem"], found["scorer"]) == ("", "json")
    fields = {one["field"]: one for one in found["fields"]["tuned"]["fields"]}
    assert (fields["day"]["precision"], fields["day"]["recall"]) == (0.5, 0.5)
    assert (fields["who"]["precision"], fields["who"]["support"]) == (0, 0)
    assert (fields["title"]["recall"], fields["title"]["support"]) == (0, 4)
    # 2 right of 8 given and 8 expected
    assert version.metrics["field_f1"] == pytest.approx(0.25)
    assert version.metrics["json"] == pytest.approx(0.25)
    assert version.metrics["exact_match"] == 0
    page = client.get(f"{version.get_absolute_url()}scores/").content.decode()
    assert '<th scope="row" class="wrap">title</th>' in page


def test_an_extraction_of_plain_text_is_scored_by_exact_match() -> None:
    version = trained("extraction", [{"prompt": f"q {n}", "completion": "Ana"} for n in range(4)])
    assert (version.evaluation["scorer"], version.evaluation["problem"]) == ("exact_match", "")


def test_a_chosen_scorer_wins_over_the_task() -> None:
    version = trained("classification", reviews(), scoring={"scorer": "contains"})
    assert (version.evaluation["scorer"], "accuracy" in version.metrics) == ("contains", False)


def test_every_task_proposes_and_its_rule_can_be_added(client: Client) -> None:
    from backends.scorers import SCORERS
    from registry.models import Model

    assert TASK_TYPES.keys() == set(Model.TaskType.values)
    assert all(task.scorer in SCORERS and task.metrics for task in TASK_TYPES.values())
    model = make_model()
    model.task_type = "classification"
    model.save()
    told = client.get(f"/api/models/{model.pk}").json()["proposes"]
    expected = {"scorer": "label", "metrics": ["macro_f1", "accuracy"], "form": "labels"}
    assert told == expected
    page = client.get(f"{model.get_absolute_url()}promotion/").content.decode()
    assert "macro_f1 at least the current version&#x27;s" in page
    [rule] = rules.proposed(model, [])
    fields = {"alias": rule.alias, "metric": rule.metric, "comparison": rule.comparison}
    client.post(f"/models/{model.pk}/rules/", fields)
    assert [str(kept) for kept in model.promotion_rules.all()] == [str(rule)]
    assert rules.proposed(model, model.promotion_rules.all()) == []
