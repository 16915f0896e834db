"""From files to the snapshot's train.jsonl, valid.jsonl and test.jsonl."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from registry.datasets.files.rows import kind
from registry.datasets.reading.examples import Reader
from registry.errors import Invalid

SPLITS = ("train", "valid", "test")
_WORDS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "eval": "valid",
    "test": "test",
    "testing": "test",
}


def write_splits(source: Path, target: Path, reader: Reader) -> dict[str, int]:
    """Write the examples of the file or folder `source` into the folder `target`.

    Returns the examples per split. A single file, or a folder whose files name no split, is split
    80/10/10 by a hash of each example, so that equal examples stay together. Raises Invalid.
    """
    if not source.is_dir():
        return _split([source], target, reader)
    files = _files(source, source.iterdir())
    reader.leave_out(path for path in sorted(source.iterdir()) if _is_unknown(path))
    if not files["train"] and not files["valid"] and files[""]:
        reader.leave_out(files["test"])
        return _split(files[""], target, reader)
    for split in ("train", "valid"):
        if not files[split]:
            raise Invalid(
                f"{source.name} needs a {split}.jsonl (or .json, .csv, .parquet); or give one file "
                "to be split."
            )
    reader.leave_out(files[""])
    return _write_all(files, target, reader)


def _write_all(files: dict[str, list[Path]], target: Path, reader: Reader) -> dict[str, int]:
    counts = {
        split: _write(target / f"{split}.jsonl", _all(files[split], reader, split))
        for split in SPLITS
        if files[split]
    }
    reader.check()
    for split in ("train", "valid"):
        if not counts[split]:
            raise Invalid(f"{reader.name(files[split][0])} holds no example.")
    if counts.get("test") == 0:
        (target / "test.jsonl").unlink()
        del counts["test"]
    return counts


def split_hub_files(source: Path, target: Path, reader: Reader) -> dict[str, int]:
    """As `write_splits`, for folders from other sources: with training examples alone, or with no
    validation, what is missing is taken from the training examples by their hash."""
    files = _files(source, source.rglob("*"))
    if not files["train"]:
        return _split([path for named in files.values() for path in named], target, reader)
    reader.leave_out(files[""])
    if files["valid"]:
        return _write_all(files, target, reader)
    counts = _split(files["train"], target, reader, without_test=bool(files["test"]))
    if files["test"]:
        counts["test"] = _write(target / "test.jsonl", _all(files["test"], reader, "test"))
        reader.check()
    return counts


def _files(folder: Path, paths: Iterable[Path]) -> dict[str, list[Path]]:
    """The data files of a folder by split, as the words of their names say; "" has the others."""
    found: dict[str, list[Path]] = {split: [] for split in (*SPLITS, "")}
    for path in sorted(paths):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") for part in parts) or not path.is_file():
            continue
        if kind(path):
            found[split_named(*parts)].append(path)
    return found


def _is_unknown(path: Path) -> bool:
    """Whether a file's name says a split and no kind that is read."""
    hidden = path.name.startswith(".")
    return not (hidden or kind(path)) and bool(split_named(path.name)) and path.is_file()


def split_named(*parts: str) -> str:
    """The split that a file's name says, or else a folder's that it is in: val.jsonl and
    dev-0001.parquet are "valid"; "" for names that say none."""
    for part in reversed(parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _WORDS:
                return _WORDS[word]
    return ""


def _all(files: Iterable[Path], reader: Reader, split: str = "") -> Iterator[str]:
    for path in files:
        yield from reader.read(path, split)


def _write(path: Path, lines: Iterable[str]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(line + "\n")
            count += 1
    return count


def _split(
    files: list[Path], target: Path, reader: Reader, *, without_test: bool = False
) -> dict[str, int]:
    names = SPLITS[:2] if without_test else SPLITS
    choose: Callable[[str], str] = (
        (lambda line: "valid" if _split_of(line) == "valid" else "train")
        if without_test
        else _split_of
    )
    counts = dict.fromkeys(names, 0)
    with ExitStack() as stack:
        outputs = {
            split: stack.enter_context(
                (target / f"{split}.jsonl").open("w", encoding="utf-8", newline="\n")
            )
            for split in names
        }
        for line in _all(files, reader):
            split = choose(line)
            outputs[split].write(line + "\n")
            counts[split] += 1
    reader.check()
    return counts if all(counts.values()) else _fill_empty_splits(target, names)


def _split_of(line: str) -> str:
    tenth = int(_digest(line)[:8], 16) % 10
    return {0: "test", 1: "valid"}.get(tenth, "train")


def _fill_empty_splits(target: Path, names: tuple[str, ...]) -> dict[str, int]:
    """Chance left a split of a small file empty: give it a distinct example of a fuller one.

    Only few different examples leave one empty, so a count of each stays small.
    """
    groups: dict[str, dict[str, int]] = {}
    for split in names:
        groups[split] = {}
        with (target / f"{split}.jsonl").open(encoding="utf-8", newline="\n") as file:
            for line in file:
                groups[split][line] = groups[split].get(line, 0) + 1
    if sum(len(group) for group in groups.values()) < len(names):
        raise Invalid(
            f"A data set needs at least {len(names)} different examples, so that each of "
            f"{', '.join(names)} gets one."
        )
    for split in names:
        if not groups[split]:
            fullest = max(groups.values(), key=len)
            line = min(fullest, key=lambda line: _digest(line.rstrip("\n")))
            groups[split][line] = fullest.pop(line)
    return {
        split: _write(
            target / f"{split}.jsonl",
            (line.rstrip("\n") for line, times in group.items() for _ in range(times)),
        )
        for split, group in groups.items()
    }


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()
