"""A data set's page says first whether it is fit to train on."""

from __future__ import annotations

import pytest

from registry.datasets.fitness import fitness
from registry.models import Dataset, DatasetReport
from tests.registry.build import make_base, make_dataset

pytestmark = pytest.mark.django_db
CLEAN: dict[str, object] = {"duplicates": {}, "leaks": [], "tokens": {}}


def checked(dataset: Dataset, base: str = "tiny", **found: object) -> Dataset:
    DatasetReport.objects.create(
        dataset=dataset,
        base_model=make_base(base),
        max_seq_length=512,
        report={**CLEAN, **found},
    )
    return dataset


def test_it_says_what_is_known() -> None:
    dataset = make_dataset()
    assert fitness(dataset).sentence == "Not checked for problems yet."
    found = fitness(checked(dataset))
    assert found.sentence == "Ready to train on: the check for tiny found no problems."
    assert (found.more, found.tone) == ([], "ok")
    checked(dataset, duplicates={"train": {"examples": 3}}, base="other")
    found = fitness(dataset)
    assert found.sentence == "The check for other found 1 problem: look before you train."
    assert found.more == ["3 examples of train repeat an earlier one."]
    both = {"train": {"examples": 3}, "valid": {"examples": 1}}
    assert fitness(checked(dataset, duplicates=both, base="both")).more == [
        "4 examples repeat an earlier one (3 in train, 1 in valid)."
    ]
    leak = {"splits": ["train", "valid"], "prompts": 1, "exact": 0}
    assert fitness(checked(dataset, leaks=[leak], base="leak")).more == [
        "1 prompt of valid occurs in train too: results on valid look better than they are."
    ]
    dataset.reports.all().delete()
    dataset.splits = {"train": 8, "valid": 2}
    assert "not scored: add test examples" in fitness(dataset).more[-1]
    assert fitness(checked(dataset, base="third")).tone == "warn"
    dataset.splits = {"valid": 2}
    assert fitness(dataset).tone == "bad"
