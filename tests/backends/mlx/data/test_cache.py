"""Tokens that are kept: those of the run before, found again or made again, never half."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backends.base import BadExample, Tokenizing, TrainingConfig
from backends.mlx import MLXBackend
from backends.mlx.data import cache, columns, tokenizing
from backends.mlx.data.examples import Example
from tests.backends.mlx.data.reading import read_labelled, read_pairs, read_split
from tests.backends.training_runs import chat, write_split

pytestmark = pytest.mark.any_database

CONFIG = TrainingConfig(max_seq_length=60)
TURNS = [*chat("one"), *chat("two words")[1:], *chat("three")[1:]]
UNWEIGHTED = [{**m, "weight": 0} if m["role"] == "assistant" else m for m in TURNS]


@pytest.fixture(scope="session")
def tokenizer(tiny_base: Path) -> Any:
    return tokenizing.open_tokenizer(tiny_base)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Every kind of example: short, cut, with nothing to learn within 60 tokens or at all."""
    values = [
        {"messages": chat("first")},
        {"messages": TURNS},
        {"messages": UNWEIGHTED},
        {"messages": [*UNWEIGHTED[:3], *TURNS[3:]]},
        {"messages": [*TURNS[:-1], UNWEIGHTED[-1]]},
        {"messages": [*TURNS[:2], {"role": "assistant", "content": ""}, *TURNS[3:]]},
        {"messages": chat("far " * 90)},
        {"text": "A plain text. " * 40},
        {"prompt": "Two plus two?", "completion": "Four."},
    ]
    write_split(tmp_path / "data", "train", values)
    return tmp_path / "data" / "train.jsonl"


@pytest.fixture
def rarely(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were tokenized."""
    done: list[Path] = []
    tokenize = tokenizing.tokenize

    def counting(path: Path, *rest: Any) -> Any:
        done.append(path)
        return tokenize(path, *rest)

    monkeypatch.setattr(cache, "tokenize", counting)
    return done


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one line each."""
    monkeypatch.setattr(tokenizing, "PIECE", 1)


def returned(reading: Generator[Tokenizing, None, Any]) -> Any:
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return end.value


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("learn", ["answers", "last_answer", "everything"])
def test_kept_examples_are_those_of_the_file(
    tiny_base: Path, tokenizer: Any, data: Path, tmp_path: Path, learn: Any, rarely: list[Path]
) -> None:
    for limit in (60, 2048, 20):
        config = TrainingConfig(max_seq_length=limit, learn=learn)
        expected = read_split(data, tokenizer, limit, learn)
        for kept in (None, tmp_path / "kept", tmp_path / "kept"):
            found = cache.read_here(data, tiny_base, tokenizer, config, kept)
            plain = [(e.tokens, e.start, e.line, e.earlier, e.learned) for e in expected.examples]
            assert [
                (e.tokens, e.start, e.line, e.earlier, e.learned) for e in found.examples
            ] == plain
            assert found.examples.lengths.tolist() == [e.length for e in expected.examples]
            assert (found.truncated, found.dropped) == (expected.truncated, expected.dropped)
            assert found.notes == expected.notes
    assert len(rarely) == 3 + 1  # three times in memory; one folder serves every limit


def test_kept_pairs_are_those_of_the_file(
    tiny_base: Path, tokenizer: Any, tmp_path: Path, rarely: list[Path]
) -> None:
    far, alike = "x " * 200, "a " * 200
    values = [
        {"prompt": "x", "chosen": "y", "rejected": "z"},
        {"prompt": far, "chosen": "y", "rejected": "z"},
        {"prompt": "x", "chosen": alike + "y", "rejected": alike + "z"},
        {"prompt": "x", "chosen": alike + "y", "rejected": "z"},
    ]
    write_split(tmp_path / "data", "train", values)
    path = tmp_path / "data" / "train.jsonl"
    for limit, lines in ((100, [1, 4]), (2048, [1, 2, 3, 4])):
        config = TrainingConfig(objective="dpo", max_seq_length=limit)
        expected = read_pairs(path, tokenizer, limit)
        found = cache.read_here(path, tiny_base, tokenizer, config, tmp_path / "kept")
        assert list(found.examples) == expected.examples
        assert [pair.line for pair in found.examples] == lines
        assert found.examples.lengths.tolist() == [pair.length for pair in expected.examples]
        assert (found.truncated, found.dropped) == (expected.truncated, expected.dropped)
    assert len(rarely) == 1


def test_kept_labelled_answers_are_those_of_the_file(
    tiny_base: Path, tokenizer: Any, tmp_path: Path, rarely: list[Path]
) -> None:
    """One item of some lines and two of others, which are kept or dropped together."""
    alike = "a " * 200
    values = [
        {"prompt": "x", "completion": "y", "label": True},
        {"prompt": "x", "completion": "z", "label": False},
        {"prompt": "x " * 200, "completion": "y", "label": True},
        {"prompt": "x", "chosen": "y", "rejected": "z"},
        {"prompt": "x", "chosen": alike + "y", "rejected": alike + "z"},
        {"prompt": "x", "chosen": "<think>hm</think>y", "rejected": "z"},
    ]
    write_split(tmp_path / "data", "train", values)
    path = tmp_path / "data" / "train.jsonl"
    for limit, lines in ((100, [1, 2, 4, 4, 6, 6]), (2048, [1, 2, 3, 4, 4, 5, 5, 6, 6])):
        for thoughts in ("kept", "masked"):
            config = TrainingConfig(objective="kto", max_seq_length=limit, thoughts=thoughts)
            expected = read_labelled(path, tokenizer, limit, thoughts=thoughts)
            found = cache.read_here(path, tiny_base, tokenizer, config, tmp_path / "kept")
            assert list(found.examples) == expected.examples
            assert [item.line for item in found.examples] == lines
            assert (found.truncated, found.dropped) == (expected.truncated, expected.dropped)
    assert len(rarely) == 2


def test_a_split_with_nothing_to_learn_is_refused_from_the_cache_too(
    tiny_base: Path, tokenizer: Any, tmp_path: Path
) -> None:
    write_split(tmp_path / "data", "train", [{"messages": UNWEIGHTED}])
    for _ in range(2):
        with pytest.raises(BadExample, match="no usable example within max_seq_length"):
            cache.read_here(
                tmp_path / "data/train.jsonl", tiny_base, tokenizer, CONFIG, tmp_path / "kept"
            )


def key_of(base: Path, **settings: Any) -> str:
    return cache.key("0" * 64, base, cache.data_settings(TrainingConfig(**settings)))


def test_every_setting_counts_unless_it_has_no_part_in_the_tokens(tiny_base: Path) -> None:
    """A new setting counts by itself; one that does not must be named in NO_PART."""
    counting = set(TrainingConfig.model_fields) - cache.NO_PART
    assert counting == {"objective", "learn", "thoughts", "special_tokens", "tools"}
    keys = [
        key_of(tiny_base),
        key_of(tiny_base, objective="dpo"),
        key_of(tiny_base, learn="last_answer"),
        key_of(tiny_base, thoughts="masked"),
        key_of(tiny_base, special_tokens="control"),
        key_of(tiny_base, tools="as_written"),
        cache.key("1" * 64, tiny_base, TrainingConfig()),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of(tiny_base, seed=4, max_seq_length=99, batch_size=1, packing=True) == keys[0]


def test_tokenizing_cannot_see_a_setting_that_has_no_part() -> None:
    config = TrainingConfig(learn="everything", max_seq_length=99, seed=5, warmup=0, iters=3)
    assert cache.data_settings(config) == TrainingConfig(learn="everything")


def test_another_tokenizer_template_or_code_is_another_name(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    before = key_of(base)
    assert before == key_of(tiny_base)
    (base / "model.safetensors").write_bytes(b"other weights")
    assert key_of(base) == before
    (base / "chat_template.jinja").write_text("{{ messages }}")
    templated = key_of(base)
    assert templated != before
    monkeypatch.setattr(cache, "date", SimpleNamespace(today=lambda: date(2031, 1, 2)))
    assert key_of(base) == templated
    (base / "chat_template.jinja").write_text("{{ strftime_now('%d') }}{{ messages }}")
    dated = key_of(base)
    monkeypatch.setattr(cache, "date", SimpleNamespace(today=lambda: date(2031, 1, 3)))
    assert key_of(base) != dated
    monkeypatch.setattr(cache, "_makers", lambda: {"turns.py": "other"})
    assert key_of(tiny_base) != before


@pytest.mark.parametrize("harm", ["cut", "changed", "gone", "unfinished"])
def test_what_is_not_whole_is_made_again(
    tiny_base: Path, tokenizer: Any, data: Path, tmp_path: Path, harm: str, rarely: list[Path]
) -> None:
    kept = tmp_path / "kept"
    first = list(cache.read_here(data, tiny_base, tokenizer, CONFIG, kept).examples)
    (name,) = entries(kept)
    tokens = kept / name / "tokens"
    content = tokens.read_bytes()
    if harm == "cut":
        tokens.write_bytes(content[:-2])
    elif harm == "changed":
        tokens.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "gone":
        tokens.unlink()
    else:
        (kept / name / columns.META).unlink()
    assert list(cache.read_here(data, tiny_base, tokenizer, CONFIG, kept).examples) == first
    assert entries(kept) == [name]
    cache.read_here(data, tiny_base, tokenizer, CONFIG, kept)
    assert len(rarely) == 2


def test_a_run_that_was_killed_leaves_nothing_that_is_taken_for_whole(
    tiny_base: Path, tokenizer: Any, data: Path, tmp_path: Path, rarely: list[Path]
) -> None:
    kept = tmp_path / "kept"
    whole = list(cache.read_here(data, tiny_base, tokenizer, CONFIG, kept).examples)
    (name,) = entries(kept)
    (kept / name).rename(kept / f".{name}-0")  # where it was being written
    assert list(cache.read_here(data, tiny_base, tokenizer, CONFIG, kept).examples) == whole
    assert entries(kept) == [f".{name}-0", name]
    assert len(rarely) == 2


def test_a_run_that_is_stopped_meanwhile_leaves_nothing(
    tiny_base: Path, tokenizer: Any, data: Path, tmp_path: Path, small_pieces: None
) -> None:
    reading = cache.read(data, tiny_base, tokenizer, CONFIG, tmp_path / "kept")
    assert next(reading) == Tokenizing("train", 1, 9)
    assert len(entries(tmp_path / "kept")) == 1
    reading.close()
    assert entries(tmp_path / "kept") == []


def test_two_runs_may_write_the_same_at_once(
    tiny_base: Path,
    tokenizer: Any,
    data: Path,
    tmp_path: Path,
    small_pieces: None,
    rarely: list[Path],
) -> None:
    kept = tmp_path / "kept"
    slow = cache.read(data, tiny_base, tokenizer, CONFIG, kept)
    next(slow)
    quick = cache.read_here(data, tiny_base, tokenizer, CONFIG, kept)
    split, problem = returned(slow)
    assert list(split.examples) == list(quick.examples)
    assert problem == ""
    assert len(entries(kept)) == 1
    assert len(rarely) == 2


def test_a_place_that_cannot_be_written_is_said_and_memory_holds_the_tokens(
    tiny_base: Path, tokenizer: Any, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("a file, not a folder")
    split, problem = returned(cache.read(data, tiny_base, tokenizer, CONFIG, tmp_path / "kept"))
    assert problem.startswith("The tokens of train.jsonl could not be kept in storage (")
    assert problem.endswith("Free some space, or make the folder writable.")
    assert list(split.examples) == list(
        cache.read_here(data, tiny_base, tokenizer, CONFIG).examples
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
def test_a_disk_that_fills_up_on_the_way_loses_nothing(
    tokenizer: Any, data: Path, tmp_path: Path
) -> None:
    (piece,) = tokenizing._pieces(data)
    made = tokenizing._columns(data, piece, tokenizer, CONFIG, narrow=True)
    writer = columns.Writer(tmp_path / "new")
    writer.add(made)
    (tmp_path / "new/spans").rename(tmp_path / "new/before")
    (tmp_path / "new/spans").symlink_to("/dev/full")
    real = columns.Writer._give_up

    def give_up(self: columns.Writer, error: OSError) -> None:
        (tmp_path / "new/before").rename(tmp_path / "new/spans")
        real(self, error)

    columns.Writer._give_up = give_up  # type: ignore[method-assign]
    try:
        writer.add(made)
    finally:
        columns.Writer._give_up = real  # type: ignore[method-assign]
    writer.add(made)
    assert writer.failed
    found = writer.close({})
    assert found.notes == {why: 3 * count for why, count in made.notes.items()}
    for name, column in made.held.items():
        assert found.held[name].tolist() == 3 * column.tolist()


def test_large_files_are_tokenized_by_several_processes_in_order(
    tiny_base: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizing, "PIECE", 400)
    values: list[Any] = [{"messages": chat(f"number {n}")} for n in range(12)]
    write_split(tmp_path, "train", [*values, {"messages": []}, *values[:3]])
    path = tmp_path / "train.jsonl"
    pieces = list(tokenizing._pieces(path))
    assert len(pieces) > 3
    found: list[Any] = []
    with tokenizing._Processes(path, tiny_base, CONFIG, 2) as others:
        with pytest.raises(BadExample, match=r"train\.jsonl, line 13: needs a request"):
            found.extend(pair for pair in others.work(pieces) if pair[1] is not None)
        children = others._all
    assert [child.poll() for child in children] == [-9, -9]
    assert found
    for piece, made in found:
        here = tokenizing._columns(path, piece, tokenizer, CONFIG, narrow=True)
        for name, column in here.held.items():
            assert made.held[name].tolist() == column.tolist()
            assert made.held[name].dtype == column.dtype


@pytest.mark.slow
def test_a_process_that_dies_is_an_error_not_a_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_split(tmp_path, "train", [{"text": "x"}])
    monkeypatch.setattr(tokenizing.sys, "executable", "false")
    (piece,) = tokenizing._pieces(tmp_path / "train.jsonl")
    with (
        tokenizing._Processes(tmp_path / "train.jsonl", tmp_path, CONFIG, 2) as others,
        pytest.raises(RuntimeError, match="died"),
    ):
        list(others.work([piece]))


def test_lines_are_counted_over_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizing, "PIECE", 16)
    texts = ["a", "", "é" * 20, "b" * 40, "c"]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    pieces = list(tokenizing._pieces(path))
    assert sum(piece.size for piece in pieces) == path.stat().st_size
    assert sum(piece.lines for piece in pieces) == 5
    for piece in pieces:
        before = path.read_bytes()[: piece.begin]
        assert piece.line == before.count(b"\n") + 1


def test_the_lengths_of_an_earlier_run_are_found_without_a_tokenizer(
    tiny_base: Path, tokenizer: Any, data: Path, tmp_path: Path
) -> None:
    kept, backend = tmp_path / "kept", MLXBackend()
    assert backend.token_lengths(tiny_base, data.parent, CONFIG, kept) is None
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    manifest = {"files": {"train.jsonl": {"sha256": digest}}}
    (data.parent / "manifest.json").write_text(json.dumps(manifest))
    assert backend.token_lengths(tiny_base, data.parent, CONFIG, kept) is None
    cache.read_here(data, tiny_base, tokenizer, CONFIG, kept)
    whole = read_split(data, tokenizer, 2048, "everything").examples
    for limit in (60, 2048):
        config = TrainingConfig(max_seq_length=limit)
        found = backend.token_lengths(tiny_base, data.parent, config, kept)
        assert found is not None
        assert found.tolist() == sorted(example.length for example in whole)
        learned = backend.learned_tokens(tiny_base, data.parent, config, kept)
        assert learned is not None
        asked = read_split(data, tokenizer, 2048, "answers").examples
        ordered = sorted(asked, key=lambda example: example.length)
        assert [n for n in learned.tolist() if n] == [example.judged for example in ordered]
        assert learned.sum() < found.sum()
    others = TrainingConfig(learn="everything")
    assert backend.token_lengths(tiny_base, data.parent, others, kept) is None


def test_of_pairs_the_longer_answer_counts(
    tiny_base: Path, tokenizer: Any, preferences: Path, tmp_path: Path
) -> None:
    config, path = TrainingConfig(objective="dpo"), preferences / "train.jsonl"
    manifest = {"files": {"train.jsonl": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}}
    (preferences / "manifest.json").write_text(json.dumps(manifest))
    pairs = cache.read_here(path, tiny_base, tokenizer, config, tmp_path / "kept").examples
    place = (tiny_base, preferences, config, tmp_path / "kept")
    found, learned = MLXBackend().token_lengths(*place), MLXBackend().learned_tokens(*place)
    assert found is not None
    assert learned is not None
    assert found.tolist() == sorted(pairs.lengths.tolist())
    assert learned.sum() == sum(part.judged for pair in pairs for part in pair.parts)


@dataclass(frozen=True)
class Half(Example):
    """A kind of which a line makes two: they are kept or left out together."""

    label: int = 0  # type: ignore[misc]

    @classmethod
    def joined(cls, parts: Sequence[Example], line: int, label: int) -> Half:
        return cls(parts[0].tokens, parts[0].start, line, label=label)

    @classmethod
    def fits(cls, items: Sequence[Half], limit: int) -> bool:
        cut = [item.fit(limit) for item in items]
        if None in cut:
            return False
        return len(cut) == 1 or cut[0].tokens != cut[1].tokens


def test_items_of_one_line_are_kept_together() -> None:
    def half(line: int, label: int, *tokens: int, start: int = 1) -> Half:
        return Half(list(tokens), start, line, label=label)

    items = [
        half(1, 1, 1, 2, 3),
        half(1, 0, 1, 2, 4),
        half(2, 1, 5, 6, 7, 8),  # within three tokens they are the same
        half(2, 0, 5, 6, 7, 9),
        half(4, 1, 5, 6, 7, 8, 9, start=4),  # has nothing to learn there, so its other half goes
        half(4, 0, 1, 2),
        half(5, 1, 3, 4, 5, 6),
    ]
    held = columns.Columns.of(items, narrow=True)
    found = columns.Items(Half, held, 3)
    assert [(e.line, e.label, e.tokens) for e in found] == [
        (1, 1, [1, 2, 3]),
        (1, 0, [1, 2, 4]),
        (5, 1, [3, 4, 5]),
    ]
    assert (found.truncated, found.dropped) == (3, 2)
    assert list(columns.Items(Half, held, 9)) == items
