"""The doctor of a data set: checks for problems before training.

Duplicates and leaks are counted over every line, tokens over a sample that the report states.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from array import array
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.base import Examination, SplitTokens
from backends.examples import explained
from registry.background.progress import SILENT, Progress
from registry.bases.child import ask_backend
from registry.bases.registration import base_path
from registry.datasets import labels
from registry.datasets.revisions import lines_at
from registry.datasets.snapshots import dataset_path
from registry.datasets.splits import SPLITS
from registry.errors import NotFound
from registry.late import Late
from registry.models import BaseModel, Dataset, DatasetReport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Late("numpy")

SAMPLE = 2_000  # examples of each split whose tokens a page counts
DEFAULT_LENGTH = 2048
_SHOWN = 5
_EVERY = 5_000  # examples between two reports of progress
_BARS = 24

type Digests = NDArray[np.uint64]


def examine(
    dataset: Dataset,
    base: BaseModel,
    max_seq_length: int,
    sample: int = SAMPLE,
    progress: Progress = SILENT,
) -> DatasetReport:
    """Examine a data set for training on `base`, and keep the report; `sample` 0 is all examples.

    Raises NotFound when the snapshot is missing, Invalid when the base has no usable tokenizer.
    """
    base.refuse_embedding_model()
    folder = dataset_path(dataset)
    if not folder.is_dir():
        raise NotFound(f"The snapshot of {dataset.name} is missing from storage.")
    labels.settle(dataset)
    progress.stage("Counting tokens")
    tokens = ask_backend(
        *(Examination, "examine", base_path(base), folder, max_seq_length, sample),
        beat=progress.beat,
    )
    progress.stage("Looking for repeats and leaks")
    row, _ = DatasetReport.objects.update_or_create(
        dataset=dataset,
        base_model=base,
        max_seq_length=max_seq_length,
        defaults={"report": findings(dataset, max_seq_length, tokens, progress)},
    )
    return row


def findings(
    dataset: Dataset, max_seq_length: int, tokens: Examination, progress: Progress = SILENT
) -> dict[str, Any]:
    """A report, as its row keeps it: what every line says, beside what a tokenizer made of some."""
    found = dataclasses.asdict(tokens)
    splits = [split for split in SPLITS if split in dataset.splits]
    return {
        **_sameness(dataset_path(dataset), splits, progress),
        "labels": labels.as_kept(dataset.labels),
        "tokens": {
            split: _summary(SplitTokens(**measured), max_seq_length)
            for split, measured in found["splits"].items()
        },
        "rendered": found["rendered"],
    }


def find_report(
    dataset: Dataset, base: BaseModel | None = None, max_seq_length: int | None = None
) -> DatasetReport | None:
    """The newest report, of this base and limit when they are given."""
    wanted = {"base_model": base, "max_seq_length": max_seq_length}
    reports = dataset.reports.select_related("base_model", "dataset")
    return reports.filter(**{k: v for k, v in wanted.items() if v is not None}).first()


# ---------------------------------------------------------------- duplicates and leaks


def _sameness(folder: Path, splits: list[str], progress: Progress) -> dict[str, Any]:
    """Equal examples within each split, and what two splits share: whole examples, and prompts
    that differ in case and spaces at most. Holds 16 bytes per example."""
    keys = {split: _keys(folder / f"{split}.jsonl", progress) for split in splits}
    return {
        "duplicates": {
            split: _duplicates(folder / f"{split}.jsonl", whole)
            for split, (whole, _) in keys.items()
        },
        "leaks": [
            {
                "splits": [one, other],
                "exact": int(np.isin(keys[other][0], keys[one][0]).sum()),
                "prompts": int(np.isin(keys[other][1], keys[one][1]).sum()),
                "shown": _leaks(folder, one, other, keys[one][1], keys[other][1]),
            }
            for one, other in combinations(splits, 2)
        ],
    }


def _keys(path: Path, progress: Progress) -> tuple[Digests, Digests]:
    """8-byte digests of every line, and of every example's normalised prompt."""
    whole, prompts = array("Q"), array("Q")
    size, done = path.stat().st_size or 1, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            done += len(line)
            if number % _EVERY == 0:
                progress.part(done / size, examples=number)
            whole.frombytes(digest(line.rstrip(b"\n")))
            prompts.frombytes(digest(prompt_of(json.loads(line)).encode()))
    return np.frombuffer(whole, np.uint64), np.frombuffer(prompts, np.uint64)


def digest(text: bytes) -> bytes:
    """8 bytes; two different texts of a million share theirs by chance once in 40 million sets."""
    return hashlib.blake2b(text, digest_size=8).digest()


def prompt_of(example: dict[str, Any]) -> str:
    """What the model is asked, without its answer; of a plain text the whole. Two prompts are
    equal when only case and white space differ."""
    if "messages" in example:
        asked: Any = [
            (message["role"], message["content"], message.get("tool_calls", ""))
            for message in example["messages"][:-1]
        ]
    else:
        asked = example.get("prompt", example.get("text"))
    text = asked if isinstance(asked, str) else json.dumps(asked, ensure_ascii=False)
    return re.sub(r"(\\n|\s)+", " ", text).strip().casefold()


def _duplicates(path: Path, whole: Digests) -> dict[str, Any]:
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[inverse] != np.arange(len(whole)))
    shown = [int(at) for at in again[:_SHOWN]]
    return {
        "examples": len(again),
        "shown": [
            {"line": at + 1, "first": int(first[inverse[at]]) + 1, "text": text}
            for at, text in zip(shown, lines_at(path, shown), strict=True)
        ],
    }


def _leaks(folder: Path, one: str, other: str, left: Digests, right: Digests) -> list[Any]:
    shown = [int(at) for at in np.flatnonzero(np.isin(right, left))[:_SHOWN]]
    texts = lines_at(folder / f"{other}.jsonl", shown)
    return [
        {one: int(np.flatnonzero(left == right[at])[0]) + 1, other: at + 1, "text": text}
        for at, text in zip(shown, texts, strict=True)
    ]


# ---------------------------------------------------------------- tokens


def _summary(split: SplitTokens, limit: int) -> dict[str, Any]:
    lengths = np.array(split.lengths, np.int64)
    plain = {k: v for k, v in dataclasses.asdict(split).items() if k != "lengths"}
    if not len(lengths):
        return {**plain, "longest": 0, "histogram": []}
    return {
        **plain,
        "longest": int(lengths.max()),
        "mean": round(float(lengths.mean()), 1),
        "median": int(np.median(lengths)),
        "p95": int(np.percentile(lengths, 95)),
        "tokens": int(lengths.sum()),
        "histogram": _histogram(lengths, limit),
    }


def _histogram(lengths: NDArray[np.int64], limit: int) -> list[dict[str, Any]]:
    """Bars of equal width from 0 to the longest; `over` are those that begin beyond the limit."""
    width = max(1, -(-(int(lengths.max()) + 1) // _BARS))
    counts = np.bincount(lengths // width)
    return [
        {"from": n * width, "to": (n + 1) * width - 1, "count": int(c), "over": n * width > limit}
        for n, c in enumerate(counts)
    ]


def warnings(report: DatasetReport) -> Iterable[str]:
    """What a person should do something about, one sentence each."""
    yield from labels.warnings(dict(report.report.get("labels", [])))
    yield from _shared(report.report["leaks"])
    for split, tokens in report.report["tokens"].items():
        if tokens["wrong"]:
            yield f"{tokens['wrong']} examples of {split} cannot be trained on with this base."
        if tokens["dropped"]:
            yield (
                f"{tokens['dropped']} examples of {split} have no answer to learn within "
                f"{report.max_seq_length} tokens and are left out; raise the limit, or the weight "
                "of their answers."
            )
        elif tokens["truncated"]:
            yield f"{tokens['truncated']} examples of {split} are cut at {report.max_seq_length}."
        yield from explained(split, tokens.get("notes", {}))
        if typed := tokens.get("typed"):
            yield (
                f"{typed} messages of {split} contain special tokens of the base model, such as the "
                "end of a turn. They are read as text, in training and when the model is served."
            )
    yield from _repeated(report.report["duplicates"])


def spoiled(folder: Path, splits: Mapping[str, int]) -> list[str]:
    """What the splits in `folder` have wrong that needs no base model to be seen: labels out of
    balance, prompts in two splits, examples that repeat. A sentence each."""
    same = _sameness(folder, [split for split in SPLITS if split in splits], SILENT)
    found = labels.warnings(labels.count_labels(folder, splits))
    return [*found, *_shared(same["leaks"]), *_repeated(same["duplicates"])]


def _shared(leaks: list[Any]) -> Iterable[str]:
    for leak in leaks:
        one, other = leak["splits"]
        if many := leak["prompts"]:
            asked = "1 prompt of {} occurs" if many == 1 else f"{many} prompts of {{}} occur"
            exact = f", {leak['exact']} with the same answer" if leak["exact"] else ""
            yield (
                f"{asked.format(other)} in {one} too{exact}: results on {other} look better than "
                "they are."
            )


def _repeated(duplicates: dict[str, Any]) -> Iterable[str]:
    """One sentence for all splits, which need no decision each."""
    many = {split: found["examples"] for split, found in duplicates.items() if found["examples"]}
    if not many:
        return
    total = sum(many.values())
    where = " of " + next(iter(many)) if len(many) == 1 else ""
    said = f"1 example{where} repeats" if total == 1 else f"{total} examples{where} repeat"
    each = ", ".join(f"{examples} in {split}" for split, examples in many.items())
    yield f"{said} an earlier one{f' ({each})' if len(many) > 1 else ''}."
