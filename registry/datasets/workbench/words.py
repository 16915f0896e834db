"""Words in the rows of any data set, checked or not, within a short time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from registry.datasets.revisions import newest
from registry.datasets.snapshots import dataset_path
from registry.datasets.splits import SPLITS
from registry.datasets.workbench import texts
from registry.models import Dataset

SETS = 30  # the newest data sets
SHORTEST = 3  # letters
_BLOCK = 1 << 20  # bytes of lines that are looked at together
_AROUND = 60  # characters shown before the words


@dataclass(frozen=True)
class Found:
    """A row that has the words, and what stands around them. Lines count from 1."""

    dataset: Dataset
    split: str
    line: int
    text: str


def rows_with(words: str, most: int, within_s: float) -> list[Found]:
    """The first rows of the newest data sets with these words (in any case of ASCII letters), as far
    as `within_s` seconds go; none for less than SHORTEST letters."""
    words = words.strip().lower()
    if len(words) < SHORTEST:
        return []
    until = time.monotonic() + within_s
    found: list[Found] = []
    sets = newest().order_by("-pk").only("name", "revision", "path", "splits")[:SETS]
    for dataset in sets:
        for one in _rows(dataset, words, until):
            found.append(one)
            if len(found) == most:
                return found
        if time.monotonic() > until:
            break
    return found


def _rows(dataset: Dataset, words: str, until: float) -> Iterator[Found]:
    """A data set gives one row to each split at most, so that others come, too."""
    # Files have letters beyond ASCII as they are, or as JSON's escapes.
    wanted = {form for ascii_ in (True, False) if (form := _as_json(words, ascii_))}
    for split in SPLITS:
        if split not in dataset.splits:
            continue
        try:
            with (dataset_path(dataset) / f"{split}.jsonl").open("rb") as file:
                line = 1
                while block := file.readlines(_BLOCK):
                    joined = b"".join(block).lower()
                    if any(form in joined for form in wanted):
                        hit = _first(block, wanted, words, until)
                        if hit is not None:
                            at, text = hit
                            yield Found(dataset, split, line + at, text)
                            break
                    line += len(block)
                    if time.monotonic() > until:
                        return
        except OSError:
            continue  # the data set's own page says that files are missing


def _as_json(words: str, ascii_: bool) -> bytes:
    return json.dumps(words, ensure_ascii=ascii_)[1:-1].lower().encode()


def _first(
    block: list[bytes], wanted: set[bytes], words: str, until: float
) -> tuple[int, str] | None:
    """The first line in whose texts the words are, not only in the names of its fields."""
    for at, line in enumerate(block):
        lowered = line.lower()
        if not any(form in lowered for form in wanted):
            continue
        for text in texts.every(json.loads(line)):
            place = text.lower().find(words)
            if place >= 0:
                return at, excerpt(text, place)
        if time.monotonic() > until:
            return None
    return None


def excerpt(text: str, place: int, length: int = 140) -> str:
    """What stands around a place of a text, in one line."""
    start = max(0, place - _AROUND)
    cut = " ".join(text[start : start + length].split())
    return f"{'…' if start else ''}{cut}{'…' if start + length < len(text) else ''}"
