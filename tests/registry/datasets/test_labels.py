"""Classification sets: their columns are found, their labels counted, and the doctor says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client

from registry.datasets import labels
from registry.datasets.dialects.canonical import canonical
from registry.datasets.dialects.parts import Unused
from registry.datasets.examination import examine, warnings
from registry.datasets.files.values import BadLine
from registry.datasets.snapshots import register_dataset
from registry.models import Dataset
from tests.registry.build import make_base, write_jsonl

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


def read(row: dict[str, Any]) -> tuple[str, dict[str, Any], list[str]]:
    names = Unused()
    dialect, _, example = canonical(row, {}, names)
    return dialect.name, example, list(names)


@pytest.mark.parametrize(
    ("row", "label", "unused"),
    [
        ({"text": "Cold.", "label": " bad "}, "bad", []),
        ({"sentence": "Cold.", "label": 0, "idx": 7}, "0", ["idx"]),
        ({"Review": "Cold.", "Sentiment": "bad"}, "bad", []),
        ({"Review Text": "Cold.", "Class Index": 3.0}, "3", []),
        ({"query": "Cold.", "intent": True}, "true", []),
        ({"text": "Cold.", "title": "Soup", "category": "bad"}, "bad", ["title"]),
        ({"text": "Cold.", "label": 1, "label_text": "bad"}, "bad", []),
        ({"text": "Cold.", "label": ["bad"]}, "bad", []),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_text_and_its_label_are_a_prompt_and_its_completion(
    row: dict[str, Any], label: str, unused: list[str]
) -> None:
    expected = {"prompt": "Cold.", "completion": label}
    assert read(row) == ("Text and label", expected, unused)


@pytest.mark.parametrize(
    "row",
    [
        {"text": "A whole page.", "category": "word " * 50},
        {"text": "A whole page.", "label": {"a": 1}},
        {"text": "A whole page."},
    ],
)
def test_a_text_without_a_label_is_a_plain_text(row: dict[str, Any]) -> None:
    assert read(row)[0] == "Plain text"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": " ", "label": "bad"}, '"text" must be a non-empty text'),
        ({"text": "Cold.", "label": " "}, '"label" must be a label'),
        ({"text": "Cold.", "label": ["bad", "cold"]}, "holds 2 labels"),
    ],
)
def test_a_row_without_one_label_is_refused(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadLine, match=reason):
        read(row)


def csv_of(folder: Path, rows: list[tuple[str, str]]) -> Path:
    path = folder / "reviews.csv"
    path.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows))
    return path


def test_300_rows_of_csv_are_a_classification_set(tmp_path: Path, client: Client) -> None:
    kinds = ("praise", "complaint", "question")
    rows = [(f"text {n}", kinds[n % 3]) for n in range(300)]
    dataset = register_dataset("reviews", csv_of(tmp_path, rows))
    assert (dataset.format, dataset.read_as) == ("completions", ["Text and label (text, label)"])
    assert {
        label: sum(counts.values()) for label, counts in dataset.labels.items()
    } == dict.fromkeys(kinds, 100)
    per_split = {s: sum(c[s] for c in dataset.labels.values()) for s in dataset.splits}
    assert per_split == dataset.splits
    train = [counts["train"] for counts in Dataset.objects.get().labels.values()]
    assert train == sorted(train, reverse=True)  # also as the database gives it back
    page = client.get(dataset.get_absolute_url()).content.decode()
    assert "3 different" in page
    assert "complaint" in page
    answer = client.get(f"/api/datasets/{dataset.pk}").json()
    assert answer["labels"] == dataset.labels


@pytest.mark.slow
def test_the_classes_of_a_parquet_file_have_their_names(tmp_path: Path) -> None:
    described = {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}
    rows = [{"text": f"text {n}", "label": n % 2} for n in range(20)]
    table = pa.Table.from_pylist(rows).replace_schema_metadata(
        {"huggingface": json.dumps(described)}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert set(register_dataset("named", tmp_path / "a.parquet").labels) == {"neg", "pos"}


@pytest.mark.parametrize(
    "answers",
    [
        ["yes"] * 8,  # one label says nothing
        [f"answer {n}" for n in range(8)],
        ["a\nb", "c\nd"] * 4,
        ['{"a": 1}', '{"a": 2}'] * 4,
    ],
)
def test_other_answers_are_no_labels(tmp_path: Path, answers: list[str]) -> None:
    rows = [{"prompt": f"q {n}", "completion": answer} for n, answer in enumerate(answers)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    assert labels.count_labels(tmp_path, ["train"]) == {}


def test_prompts_with_few_answers_and_chats_have_labels_too(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "no"}]
    rows = [{"prompt": "q", "completion": "yes"}] * 2 + [{"messages": chat}] * 2
    write_jsonl(tmp_path / "train.jsonl", rows)
    assert labels.count_labels(tmp_path, ["train"]) == {"no": {"train": 2}, "yes": {"train": 2}}


@pytest.mark.both_databases
def test_a_data_set_from_before_gets_its_labels(tmp_path: Path) -> None:
    dataset = register_dataset(
        "old", csv_of(tmp_path, [(f"t {n}", "ab"[n % 2]) for n in range(40)])
    )
    counted = dataset.labels
    schema = {key: value for key, value in dataset.schema.items() if key != "classes"}
    Dataset.objects.update(schema=schema)
    dataset.refresh_from_db()
    assert dataset.labels == {}
    labels.settle(dataset)
    assert Dataset.objects.get().labels == counted


def test_the_doctor_tells_imbalance_unseen_labels_and_look_alikes(tmp_path: Path) -> None:
    def rows(**counts: int) -> list[dict[str, str]]:
        return [
            {"text": f"{label} {n}", "label": label}
            for label, count in counts.items()
            for n in range(count)
        ]

    write_jsonl(tmp_path / "train.jsonl", rows(ham=40, spam=3, Ham=5))
    write_jsonl(tmp_path / "valid.jsonl", rows(ham=2))
    write_jsonl(tmp_path / "test.jsonl", rows(ham=1, phish=1))
    found = list(warnings(examine(register_dataset("mail", tmp_path), make_base(), 64)))
    assert (
        "Labels of test that train lacks, so that the model cannot learn them: phish." in found[0]
    )
    assert "ham has 40 examples of train (83%), spam has 3" in found[1]
    assert "differ only in capitals or spaces: ham, Ham" in found[2]


def test_the_doctor_is_content_with_balanced_labels() -> None:
    even = {"a": {"train": 30, "test": 3}, "b": {"train": 20, "test": 3}}
    assert list(labels.warnings(even)) == []


@pytest.mark.both_databases
def test_the_label_can_be_mapped_by_hand(tmp_path: Path) -> None:
    rows = [{"words": f"text {n}", "stars": n % 5} for n in range(40)]
    source = write_jsonl(tmp_path / "a.jsonl", rows)
    dataset = register_dataset("mapped", source, columns={"text": "words", "label": "stars"})
    assert sorted(dataset.labels) == ["0", "1", "2", "3", "4"]
    plain = register_dataset("plain", source, columns={"text": "words"})
    assert (plain.format, plain.labels) == ("text", {})
