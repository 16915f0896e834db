"""Revisions of a data set: which is the newest, and how two differ.

Lines are compared by 8-byte digests, so a comparison holds 8 bytes per example (and three or four
times that while it sorts). Two different lines of a million share one by chance once in 40 million
data sets.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog
from django.db.models import QuerySet

from registry.datasets.splits import SPLITS
from registry.models import Dataset

_SHOWN = 3  # lines of each split
_WIDTH = 500  # characters of a line that is shown

log = structlog.get_logger(__name__)


def newest() -> QuerySet[Dataset]:
    """The newest revision of each data set."""
    return Dataset.objects.filter(next=None)


def newest_named(name: str) -> Dataset | None:
    """The newest revision of the data set `name`, in any case of letters."""
    return Dataset.objects.filter(name__iexact=name).order_by("-revision").first()


def revisions(dataset: Dataset) -> QuerySet[Dataset]:
    """Every revision under its name, newest first."""
    return Dataset.objects.filter(name__iexact=dataset.name).order_by("-revision")


def differences(old: Path, new: Path) -> dict[str, Any]:
    """By split, how many examples of the snapshot `new` are added, removed and kept since `old`,
    with a few of them as text. Equal examples count as often as they occur."""
    return {
        split: _difference(old / f"{split}.jsonl", new / f"{split}.jsonl")
        for split in SPLITS
        if (old / f"{split}.jsonl").exists() or (new / f"{split}.jsonl").exists()
    }


def digests(path: Path) -> array[int]:
    """The 8-byte digest of each line, in order; none for a missing file."""
    found = array("Q")
    if path.exists():
        with path.open("rb") as file:
            found.frombytes(b"".join(iter_digests(file)))
    return found


def iter_digests(lines: Iterable[bytes]) -> Iterable[bytes]:
    """8 bytes for each line, whatever its line end."""
    return (hashlib.blake2b(line.rstrip(b"\n"), digest_size=8).digest() for line in lines)


def _difference(old: Path, new: Path) -> dict[str, Any]:
    import numpy as np

    before = np.frombuffer(digests(old), np.uint64)
    after = np.frombuffer(digests(new), np.uint64)
    old_lines, old_counts = np.unique(before, return_counts=True)
    new_lines, new_counts = np.unique(after, return_counts=True)
    _, at_old, at_new = np.intersect1d(old_lines, new_lines, True, return_indices=True)
    kept = int(np.minimum(old_counts[at_old], new_counts[at_new]).sum())
    added = np.flatnonzero(np.isin(after, old_lines, invert=True))[:_SHOWN]
    removed = np.flatnonzero(np.isin(before, new_lines, invert=True))[:_SHOWN]
    return {
        "added": len(after) - kept,
        "removed": len(before) - kept,
        "kept": kept,
        "added_examples": lines_at(new, [int(n) for n in added]),
        "removed_examples": lines_at(old, [int(n) for n in removed]),
    }


def lines_at(path: Path, positions: list[int]) -> list[str]:
    """The starts of the lines at these positions (from 0), in their order in the file."""
    wanted = set(positions)
    if not wanted:
        return []
    found = []
    with path.open(encoding="utf-8", newline="\n") as file:
        for position, line in enumerate(file):
            if position in wanted:
                text = line.rstrip("\n")
                found.append(text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…")
                if len(found) == len(wanted):
                    break
    return found
