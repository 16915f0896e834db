"""One sentence says what a version gained, and is honest where that is unknown."""

from __future__ import annotations

from typing import Any

import pytest

from registry.models import Model, ModelVersion
from registry.versions.gain import by_chance, gain, table, telling
from registry.versions.measures import measure
from tests.registry.build import make_dataset, make_model

pytestmark = pytest.mark.django_db
NUMBERS = iter(range(1, 1000))


def make(model: Model, metrics: dict[str, Any], **fields: Any) -> ModelVersion:
    dataset = fields.pop("dataset", None)
    return ModelVersion.objects.create(
        model=model,
        version=f"0.{next(NUMBERS)}.0",
        base_model=model.base_model,
        metrics=metrics,
        dataset=dataset,
        dataset_checksum=dataset.checksum if dataset else "",
        status=fields.pop("status", "ready"),
        artifact_path="active/x",
        manifest_sha256="a" * 64,
        **fields,
    )


def scored(examples: int = 50, **more: Any) -> dict[str, Any]:
    return {"scorer": "exact_match", "examples": examples, **more}


@pytest.mark.parametrize(
    ("metrics", "sentence", "tone"),
    [
        (
            {"exact_match": 0.92, "base_exact_match": 0.0},
            "92 % of answers exact; the base has 0 %.",
            "ok",
        ),
        (
            {"exact_match": 0.1, "base_exact_match": 0.4},
            "Worse than its base: 10 % of answers exact; the base has 40 %.",
            "bad",
        ),
        (
            {"exact_match": 0.4, "base_exact_match": 0.4},
            "No better than its base: 40 % of answers exact, as the base.",
            "warn",
        ),
        (
            {"exact_match": 0.44, "base_exact_match": 0.4},
            "44 % of answers exact; the base has 40 %, which may be chance with 50 examples.",
            "warn",
        ),
        ({"exact_match": 0.9}, "90 % of answers exact; its base was not measured.", ""),
        (
            {"perplexity": 1.03, "base_perplexity": 14.42},
            "Perplexity 1.03 on held-out text; the base has 14.4.",
            "ok",
        ),
        ({"train_loss": 0.1}, "Nothing was measured, so what it gained is unknown.", "warn"),
        (
            {"exact_match": float("nan")},
            "Nothing was measured, so what it gained is unknown.",
            "warn",
        ),
    ],
)
def test_the_sentence(metrics: dict[str, Any], sentence: str, tone: str) -> None:
    version = make(make_model(), {}, evaluation=scored())
    version.metrics = metrics
    found = gain(version)
    assert (found.sentence, found.tone) == (sentence, tone)


def test_the_task_decides_what_is_said() -> None:
    model = make_model(task_type="extraction")
    metrics = {"field_f1": 0.951, "base_field_f1": 0.02, "exact_match": 0.5, "base_exact_match": 0}
    version = make(model, metrics, evaluation=scored())
    assert gain(version).sentence == "95 % of fields right (F1); the base has 2.0 %."


def test_production_is_compared_on_the_same_examples_alone() -> None:
    model, dataset = make_model(), make_dataset()
    first = make(model, {"exact_match": 0.5}, dataset=dataset, evaluation=scored())
    better = make(model, {"exact_match": 0.92}, dataset=dataset, evaluation=scored())
    close = make(model, {"exact_match": 0.54}, dataset=dataset, evaluation=scored())
    few = make(model, {"exact_match": 0.92}, dataset=dataset, evaluation=scored(10))
    number = first.version
    assert gain(better, first).beside == f"42 points better than {number} in production."
    assert gain(first, better).beside == f"42 points worse than {better.version} in production."
    assert gain(close, first).beside == (
        f"4 points better than {number} in production, but with 50 examples that may be chance."
    )
    assert "on other examples; the two cannot be compared" in gain(few, first).beside
    assert gain(first, first).beside == "It is in production."
    assert gain(
        make(model, {"perplexity": 1.2}, dataset=dataset),
        make(model, {"perplexity": 1.5}, dataset=dataset),
    ).beside.startswith("By perplexity, 0.30 better than")
    assert gain(first, None).beside == "No version is in production yet."


def test_a_new_revision_with_the_same_held_out_examples_is_compared() -> None:
    model, one = make_model(), make_dataset()
    same, other = make_dataset(train=12), make_dataset(test=4)
    assert len({one.checksum, same.checksum, other.checksum}) == 3
    first, second, third = (
        make(model, {"exact_match": 0.5}, dataset=dataset, evaluation=scored())
        for dataset in (one, same, other)
    )
    assert gain(second, first).beside.startswith("As good as")
    assert "on other examples" in gain(third, first).beside


def test_production_is_compared_by_what_both_have() -> None:
    model, dataset = make_model(task_type="extraction"), make_dataset()
    first = make(model, {"exact_match": 0.5}, dataset=dataset, evaluation=scored())
    second = make(
        model, {"exact_match": 0.9, "field_f1": 0.9}, dataset=dataset, evaluation=scored()
    )
    assert gain(second, first).beside.startswith("By exact answers, 40 points better than")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"params": {"scoring": {"scorer": "none"}}}, "choose a scorer"),
        ({"evaluation": {"problem": "Every prompt is too long."}}, "Every prompt is too long."),
        ({}, "Train it again with a test split"),
    ],
)
def test_what_to_do_without_scores(fields: dict[str, Any], told: str) -> None:
    version = make(make_model(), {}, **fields)
    assert told in gain(version).todo
    assert f"POST /api/models/{version.model_id}/versions/{version.version}/metrics" in (
        gain(version).todo
    )


def test_a_data_set_without_a_test_split_is_named() -> None:
    dataset = make_dataset()
    dataset.splits = {"train": 8, "valid": 2}
    version = make(make_model(), {"perplexity": 2.0, "base_perplexity": 3.0}, dataset=dataset)
    assert "notes has no test split" in gain(version).todo


def test_few_examples_are_no_proof() -> None:
    exact = measure("exact_match")
    assert by_chance(exact, 1.0, 0.5, 4)
    assert not by_chance(exact, 1.0, 0.5, 40)
    assert not by_chance(measure("field_f1"), 0.51, 0.5, 40)  # no share of the examples


def test_the_answers_that_say_most_are_shown_with_one_that_is_wrong() -> None:
    def sample(line: int, base: float, tuned: float) -> dict[str, Any]:
        return {"line": line, "base_score": base, "tuned_score": tuned}

    dull, gained = [sample(n, 1, 1) for n in range(4)], [sample(n, 0, 1) for n in (4, 5, 6)]
    wrong = [sample(7, 0, 0), sample(8, 0, 0)]
    assert [one["line"] for one in telling([*dull, *gained, *wrong])] == [4, 5, 7]
    assert [one["line"] for one in telling([*dull, *gained])] == [4, 5, 6]
    assert [one["line"] for one in telling([*dull, wrong[0]])] == [0, 1, 7]
    assert telling([]) == []


def test_every_figure_is_in_the_table_once() -> None:
    metrics = {
        "exact_match": 0.5,
        "base_exact_match": 0.1,
        "base_loss_of_old": 3.0,
        "val_loss": 0.2,
        "train_dropped": 0,
        "client_tool_call_chat": 1.0,
    }
    model = make_model()
    rows = table(make(model, metrics), make(model, {"exact_match": 0.4}))
    assert [(row.label, row.value, row.base, row.production) for row in rows] == [
        ("Exact answers", 0.5, 0.1, 0.4),
        ("Validation loss", 0.2, None, None),
        ("Loss of old of the base", 3.0, None, None),
    ]
