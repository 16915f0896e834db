"""docs/datasets.md: every dialect has an example there, and it can be registered."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from registry.datasets.dialects.table import DIALECTS, Dialect
from registry.datasets.files.documents import LISTS
from registry.datasets.snapshots import register_dataset
from registry.datasets.splits import _WORDS
from tests.registry.build import write_jsonl

pytestmark = pytest.mark.any_database

DOCUMENT = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text()
SHARED = DOCUMENT.split("## Dialects")[1].split("### ")[0]
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", DOCUMENT, re.M | re.S))


def example(section: str) -> dict[str, Any]:
    [block] = re.findall(r"```json\n(.*?)```", section, re.S)
    found: dict[str, Any] = json.loads(block)
    return found


def test_every_dialect_and_no_other_is_documented() -> None:
    assert sorted(SECTIONS) == sorted(dialect.name for dialect in DIALECTS)


@pytest.mark.django_db
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name)
def test_a_documented_example_is_registered_as_its_dialect(
    dialect: Dialect, tmp_path: Path
) -> None:
    row = example(SECTIONS[dialect.name])
    for split in ("train", "valid"):
        write_jsonl(tmp_path / f"{split}.jsonl", [row])
    dataset = register_dataset("documented", tmp_path)
    used = [key for key in dialect.fields if key in row]
    assert dataset.read_as == [f"{dialect.name} ({', '.join(used)})"]
    assert all("label" in note for note in dataset.notes)  # one example has one label


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name)
def test_every_field_of_a_dialect_is_documented(dialect: Dialect) -> None:
    said = SECTIONS[dialect.name] + SHARED
    assert [field for field in dialect.fields if f"`{field}`" not in said] == []


def test_words_and_lists_are_documented() -> None:
    assert all(f"`{word}`" in DOCUMENT for word in (*_WORDS, *LISTS))
