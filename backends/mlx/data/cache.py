"""Tokenized splits, kept from one run to the next.

A split's folder is named by everything that decides its tokens: the bytes of its file, the model's
tokenizer and chat template, the settings, and the code and libraries that make tokens. So nothing is
ever out of date; it is only not found, and made again.

It is written beside its place and renamed, so that one with a name is whole; two runs may write the
same at once, and the later one takes what the earlier made.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import uuid
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends import examples as formats
from backends import thoughts
from backends.base import Tokenizing, TrainingConfig
from backends.examples import Split
from backends.litter import tidy
from backends.mlx import plain, tool_calls, tools_in_words
from backends.mlx.data import columns as stored
from backends.mlx.data.columns import Columns, Item, Items, Writer
from backends.mlx.data.tokenizing import kind_of, tokenize

_FORMAT = 1
_LIBRARIES = ("mlx-lm", "transformers", "tokenizers", "jinja2")
_WEIGHTS = (".safetensors", ".gguf", ".bin", ".npz")
_MANIFEST = "manifest.json"

NO_PART = frozenset(
    {
        *("fine_tune_type", "lora", "num_layers", "seed"),
        *("beta", "gamma", "desirable_weight", "undesirable_weight"),
        *("iters", "epochs", "batch_size", "grad_accumulation_steps", "packing", "max_seq_length"),
        *("grad_checkpoint", "learning_rate", "optimizer", "weight_decay", "schedule", "warmup"),
        "arithmetic",
        *("grad_clip", "steps_per_eval", "eval_examples", "patience", "restore_best", "save_every"),
        *("keep_checkpoints", "samples", "sample_tokens", "scoring"),
    }
)
"""Settings that have no part in an example's tokens or in which of them are learned. All others are
part of the name, a new one by itself."""


@dataclass(frozen=True)
class Tokenized(Split[Item]):
    """A split whose examples lie in columns."""

    examples: Items[Any]


def data_settings(config: TrainingConfig) -> TrainingConfig:
    """`config` as tokenizing may see it: the settings of NO_PART have their defaults."""
    return TrainingConfig.model_validate(config.model_dump(mode="json", exclude=set(NO_PART)))


def read(
    path: Path, base: Path, tokenizer: Any, config: TrainingConfig, cache: Path | None = None
) -> Generator[Tokenizing, None, tuple[Tokenized, str]]:
    """The examples of the JSON-lines file `path` that fit, and a sentence when they could not be kept
    in the folder `cache`; without one they are held in memory.

    Raises BadExample, which names the file and the line.
    """
    settings = data_settings(config)
    columns, problem = yield from _columns(path, base, tokenizer, settings, cache)
    items = Items(kind_of(config), columns, config.max_seq_length)
    if not len(items):
        raise formats.no_example(path.name, items.dropped)
    return Tokenized(items, items.truncated, items.dropped, dict(columns.notes)), problem


def read_here(
    path: Path, base: Path, tokenizer: Any, config: TrainingConfig, cache: Path | None = None
) -> Tokenized:
    """What `read` returns, without its signs of life."""
    reading = read(path, base, tokenizer, config, cache)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            split: Tokenized = end.value[0]
            return split


def token_lengths(
    base: Path, data: Path, config: TrainingConfig, cache: Path
) -> NDArray[np.uint32] | None:
    """See `backends.base.Backend.token_lengths`. The data's manifest is believed, nothing is hashed
    but the tokenizer's files, once."""
    found = _known_counts(base, data, config, cache)
    return found[0] if found else None


def learned_tokens(
    base: Path, data: Path, config: TrainingConfig, cache: Path
) -> NDArray[np.int64] | None:
    """See `backends.base.Backend.learned_tokens`."""
    found = _known_counts(base, data, config, cache)
    return found[1] if found else None


type Counts = tuple[NDArray[np.uint32], NDArray[np.int64]]


def _known_counts(base: Path, data: Path, config: TrainingConfig, cache: Path) -> Counts | None:
    try:
        manifest = json.loads((data / _MANIFEST).read_text())["files"]
        found = key(manifest["train.jsonl"]["sha256"], base, data_settings(config))
        place = _place(cache, data / "train.jsonl", found)
        files = json.loads((place / stored.META).read_text())["files"]
        return _counts(place, files["lines"]["bytes"], files["lengths"]["bytes"])
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError):
        return None


@functools.lru_cache(maxsize=4)
def _counts(place: Path, items: int, examples: int) -> Counts:
    """The tokens of each item's longest example, in ascending order, and how many tokens of all of the
    item's examples are learned. The arguments' numbers, in any unit, tell how many an item has."""
    parts = examples // items
    lengths, spans, learned = (
        np.fromfile(place / name, np.uint32) for name in ("lengths", "spans", "learned")
    )
    ends = np.concatenate([[0], np.cumsum(spans[1::2].astype(np.int64) - spans[::2])])
    after = np.concatenate([[0], np.cumsum(learned, dtype=np.int64)])[::parts]
    longest = lengths.reshape(-1, parts).max(axis=1)
    order = np.argsort(longest, kind="stable")
    return longest[order], np.diff(ends[after])[order]


def _columns(
    path: Path, base: Path, tokenizer: Any, settings: TrainingConfig, cache: Path | None
) -> Generator[Tokenizing, None, tuple[Columns, str]]:
    about: dict[str, Any] = {}
    target = None
    if cache is not None and path.exists():
        about = {"key": key(sha256(path), base, settings)}
        target = _place(cache, path, about["key"])
        if (found := _found(target, about)) is not None:
            return found, ""
    staging = target and target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    writer = Writer(staging)
    try:
        for done, total in tokenize(path, base, tokenizer, settings, writer):
            yield Tokenizing(path.stem, done, total)
        made = writer.close(about)
        if writer.place is not None and target is not None:
            # What is mapped stays, whatever its folder is called.
            _put(writer.place, target, about)
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    problem = ""
    if writer.failed is not None:
        problem = (
            f"The tokens of {path.name} could not be kept in storage ({writer.failed.strerror}): "
            "this run holds them in memory, and the next one tokenizes again. Free some space, or "
            "make the folder writable."
        )
    return made, problem


def _place(cache: Path, path: Path, key: str) -> Path:
    return cache / f"{path.stem}-{key[:32]}"


def _found(target: Path, about: dict[str, Any]) -> Columns | None:
    columns = stored.opened(target, about)
    if columns is not None:
        with suppress(OSError):
            os.utime(target)  # says that it is in use
    return columns


def _put(staging: Path, target: Path, about: dict[str, Any]) -> None:
    """Give the written folder its name, unless another run was first. A damaged one goes."""
    for _ in range(2):
        try:
            staging.rename(target)
            return
        except OSError:
            if stored.opened(target, about) is not None:
                return
            aside = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
            with suppress(OSError):
                target.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)


# ---------------------------------------------------------------- the name


def key(data: str, base: Path, settings: TrainingConfig) -> str:
    """sha256 of everything that decides the tokens; `data` is that of the split's file."""
    said = settings.model_dump(mode="json", exclude=set(NO_PART))
    return digest(base, {"format": _FORMAT, "data": data, "settings": said})


def digest(base: Path, deciding: Mapping[str, Any]) -> str:
    """sha256 of `deciding`, of the tokenizer of the folder `base`, and of what makes tokens."""
    files = [
        path
        for path in tidy(base.iterdir())
        if path.is_file() and path.suffix not in _WEIGHTS and path.name != _MANIFEST
    ]
    known = [_known(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    everything = {
        **deciding,
        "base": {path.name: found for path, (found, _) in zip(files, known, strict=True)},
        "made by": _makers(),
        # A template that writes the date writes another one tomorrow.
        "day": date.today().isoformat() if any(dated for _, dated in known) else "",
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


@functools.cache
def _makers() -> dict[str, str]:
    """The code and the libraries that make tokens."""
    modules = [plain, formats, thoughts, tool_calls, tools_in_words]
    code = [
        *Path(__file__).parent.glob("*.py"),
        *(Path(module.__file__ or "") for module in modules),
    ]
    return {
        **{path.name: sha256(path) for path in sorted(code)},
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


@functools.lru_cache(maxsize=256)
def _known(path: Path, size: int, changed: int) -> tuple[str, bool]:
    """The sha256 of a tokenizer's file, and whether it may hold a template that asks for the time; read
    again when its size or time is another."""
    content = path.read_bytes()
    return hashlib.sha256(content).hexdigest(), b"strftime_now" in content


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
