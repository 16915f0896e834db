"""The labels of a data set: the few answers that its examples have again and again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from backends.scorers import NoAnswer, question
from registry.datasets.dialects.classified import LONGEST
from registry.models import Dataset
from registry.storage import paths

MOST = 200
"""Labels of a data set; one with more different answers is not a classification set."""
IMBALANCE = 10
_FEW = 5  # labels that a sentence names

type Counts = dict[str, dict[str, int]]
"""By label, the most frequent one of train first, its examples by split."""


def settle(dataset: Dataset) -> None:
    """Count the labels of a data set that was registered before they were counted."""
    if "classes" not in dataset.schema:
        counted = count_labels(paths.absolute(dataset.path), dataset.splits)
        dataset.schema = dataset.schema | {"classes": as_kept(counted)}
        dataset.save(update_fields=["schema"])


def counted(dataset: Dataset, folder: Path) -> dict[str, Any]:
    """What a row keeps of the labels in its files, which lie in `folder`: `classes` of a
    classification set, and `labels`, how many answers are good and bad, where they are labelled."""
    if dataset.format != Dataset.Format.LABELLED:
        return {"classes": as_kept(count_labels(folder, dataset.splits))}
    good = {"true": 0, "false": 0}
    for split in dataset.splits:
        with (folder / f"{split}.jsonl").open(encoding="utf-8", newline="\n") as file:
            for line in file:
                good["true" if json.loads(line)["label"] else "false"] += 1
    return {"classes": [], "labels": good}


def as_kept(labels: Counts) -> list[Any]:
    """As a row keeps them: as a list, since PostgreSQL keeps no order of keys."""
    return [[label, counts] for label, counts in labels.items()]


def count_labels(folder: Path, splits: Iterable[str]) -> Counts:
    """The labels of the snapshot in `folder`; {} unless there are at least 2 and at most MOST of
    them, short ones, with two examples each on average. Reads on only while that is possible."""
    found: Counts = {}
    names = list(splits)
    examples = 0
    for split in names:
        with (folder / f"{split}.jsonl").open(encoding="utf-8", newline="\n") as file:
            for line in file:
                label = _label(json.loads(line))
                if not label:
                    return {}
                counts = found.setdefault(label, dict.fromkeys(names, 0))
                if len(found) > MOST:
                    return {}
                counts[split] += 1
                examples += 1
    if not 2 <= len(found) <= examples / 2:
        return {}
    return dict(sorted(found.items(), key=lambda item: (-item[1].get("train", 0), item[0])))


def _label(example: Mapping[str, Any]) -> str:
    """An example's answer where it can be a label, else ""."""
    if {"chosen", "label", "tools"} & example.keys():
        return ""
    try:
        answer = question(example).expected
    except NoAnswer:
        return ""
    short = len(answer) <= LONGEST and not {"\n", "\0"} & set(answer) and answer == answer.strip()
    return answer if short and not answer.startswith(("{", "[")) else ""


def warnings(labels: Counts) -> Iterable[str]:
    """What a person should do something about, one sentence each."""
    train = {label: counts.get("train", 0) for label, counts in labels.items()}
    for split in ("valid", "test"):
        unseen = [name for name, of in labels.items() if of.get(split) and not train[name]]
        if unseen:
            yield (
                f"Labels of {split} that train lacks, so that the model cannot learn them: "
                f"{_named(unseen)}. Add examples of them to train."
            )
    seen = {label: count for label, count in train.items() if count}
    if seen:
        most, least = max(seen, key=seen.__getitem__), min(seen, key=seen.__getitem__)
        total = sum(seen.values())
        if seen[most] >= IMBALANCE * seen[least]:
            yield (
                f"The labels are out of balance: {most} has {seen[most]:,} examples of train "
                f"({seen[most] / total:.0%}), {least} has {seen[least]:,}. Accuracy says little "
                "then, so look at macro F1, and add examples of the rare labels."
            )
    same: dict[str, list[str]] = {}
    for label in labels:
        same.setdefault(" ".join(label.casefold().split()), []).append(label)
    for names in same.values():
        if len(names) > 1:
            yield f"These labels differ only in capitals or spaces: {_named(names)}; make them one."


def _named(labels: list[str]) -> str:
    more = len(labels) - _FEW
    return ", ".join(labels[:_FEW]) + (f" and {more} more" if more > 0 else "")
