from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from backends.base import TrainingConfig
from backends.mlx.data import batching
from backends.mlx.data import examples as data
from backends.schedule import cut, divide


def order(lengths: Sequence[int], seed: int, **config: object) -> batching.Order:
    return batching.Order(lengths, TrainingConfig(**{"batch_size": 8, "seed": seed, **config}))


def test_every_epoch_shows_every_example_once() -> None:
    lengths = [7 + n % 13 for n in range(101)]
    shown = order(lengths, 3)
    for epoch in (0, 1):
        steps = range(epoch * 13 + 1, epoch * 13 + 14)
        seen = [i for step in steps for i in shown.step(step)]
        assert sorted(seen) == list(range(101))


def test_the_order_follows_from_the_seed_and_differs_between_epochs() -> None:
    lengths = [7 + n % 13 for n in range(64)]
    assert order(lengths, 3).step(5) == order(lengths, 3).step(5)
    assert order(lengths, 3).step(5) != order(lengths, 4).step(5)
    assert order(lengths, 3).step(5) != order(lengths, 3).step(13)


def recorded(lengths: list[int], size: int, seed: int, epoch: int, by_length: bool) -> list[int]:
    """The order that versions were trained in before examples lay in columns, written out."""
    draw = random.Random(f"{seed}/{epoch}")
    order = list(range(len(lengths)))
    draw.shuffle(order)
    steps: list[list[int]] = []
    for at in range(0, len(order), size * 16):
        window = order[at : at + size * 16]
        if by_length:
            window.sort(key=lambda i: lengths[i])
        cut = [window[i : i + size] for i in range(0, len(window), size)]
        draw.shuffle(cut)
        steps.extend(cut)
    return [index for step in steps for index in step]


@pytest.mark.parametrize("packing", [False, True], ids=["by length", "packed"])
def test_the_order_is_that_of_older_versions(packing: bool) -> None:
    lengths = [5 + (n * 37) % 11 for n in range(613)]  # many of them equal, and a last short step
    shown = order(lengths, 9, grad_accumulation_steps=2, packing=packing)
    for epoch in (0, 1, 0):  # a resumed run may begin anywhere
        steps = range(epoch * 39 + 1, epoch * 39 + 40)
        found = [index for step in steps for batch in shown.batches(step) for index in batch]
        assert found == recorded(lengths, 16, 9, epoch, by_length=not packing)


def test_evaluation_takes_everything_shortest_first_and_in_the_files_order() -> None:
    lengths = [30, 10, 20, 10, 3000, 20, 9000]
    assert list(batching.sequential(lengths)) == [[1, 3, 2, 5, 0], [4], [6]]
    assert list(batching.sequential(lengths, 40)) == [[1, 3], [2, 5], [0], [4], [6]]


def test_batches_of_like_length_waste_little_padding() -> None:
    lengths = [10 + (n * 37) % 200 for n in range(1024)]
    padded = used = 0
    shown = order(lengths, 0)
    for step in range(1, 129):
        rows = [lengths[i] for i in shown.step(step)]
        padded += max(rows) * len(rows)
        used += sum(rows)
    assert used / padded > 0.9


def test_a_batch_judges_the_answers_tokens_only() -> None:
    short, long = data.Example([5, 6, 7, 8], 2), data.Example([1, 2, 3, 4, 9, 10], 5)
    batch = batching.make_batch([short, long], batching.multiples(4))
    assert batch.inputs.tolist() == [
        [5, 6, 7, 0, 0, 0, 0, 0],
        [1, 2, 3, 4, 9, 0, 0, 0],
    ]
    judged = int(batch.weights.sum())
    assert batch.targets[:judged].tolist() == [7, 8, 10]
    assert batch.inputs.reshape(-1)[batch.positions[:judged]].tolist() == [6, 7, 9]
    assert (batch.tokens, batch.judged, len(batch.targets)) == (8, 3, 4)


def test_lanes_share_a_batch_without_losing_a_row() -> None:
    examples = [data.Example([1] * (n + 2), 1) for n in range(5)]
    groups = divide(examples, 2)
    assert [len(group) for group in groups] == [3, 2]
    assert len(divide(examples[:1], 4)) == 1


def test_the_lane_with_the_longest_examples_has_fewer_of_them() -> None:
    """They are worked on at the same time, padded to the longest of each."""
    examples = [data.Example([1] * length, 1) for length in (10, 300, 20, 40, 80, 30, 60, 290)]
    groups = [[example.length for example in group] for group in divide(examples, 2)]
    assert groups == [[10, 20, 30, 40, 60, 80], [290, 300]]
    equal = [data.Example([1] * 64, 1)] * 8
    assert [len(group) for group in divide(equal, 2)] == [4, 4]


def test_a_batch_is_cut_into_few_pieces_that_fit() -> None:
    """Two lanes of at most 64 tokens with their padding, or those of the longest example."""
    draw = random.Random(4)
    examples = [data.Example([1] * draw.randrange(5, 60), 1) for _ in range(24)]
    examples.append(data.Example([1] * 90, 1))
    groups = cut(examples, 2, 64)
    assert sorted(map(id, examples)) == sorted(id(example) for group in groups for example in group)
    for group in groups:
        for lane in divide(group, 2):
            longest = max(example.length for example in lane)
            assert len(lane) * longest <= 90
    tokens = sum(example.length for example in examples)
    assert tokens / 180 < len(groups) < 1.4 * tokens / 180
    assert cut(examples, 2, 10_000) == [[*divide(examples, 2)[0], *divide(examples, 2)[1]]]
    assert [len(group) for group in cut(examples[:3], 2, 1)] == [2, 1]


def test_a_gpus_batches_have_few_shapes_for_little_padding() -> None:
    """Each shape is compiled and kept: 5 numbers of targets for each of 20 lengths up to 2,048."""
    draw = random.Random(3)
    shapes, needed, given = set(), 0, 0
    for _ in range(5000):
        length = draw.randint(1, 2048)
        shape = (4, length, draw.randint(1, 4 * length))
        rows, padded, targets = batching.ladder(shape, packed=False)
        assert rows == 4
        assert length <= padded <= max(length * 1.25, length + 31)
        assert shape[2] <= targets <= rows * padded
        shapes.add((rows, padded, targets))
        needed, given = needed + length, given + padded
    assert len({length for _, length, _ in shapes}) == 20
    assert len(shapes) <= 100
    assert given < 1.1 * needed
    packed = {batching.ladder((rows, 2000, 1), packed=True)[0] for rows in range(1, 65)}
    assert packed == {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64}


def test_rows_that_only_pad_a_packed_batch_are_empty() -> None:
    examples = [data.Example(list(range(1, 30)), start=3) for _ in range(9)]
    batch = batching.make_packed(examples, batching.ladder, capacity=30)
    assert batch.inputs.shape == (10, 32)
    assert not batch.inputs[9].any()
    assert (batch.tokens, batch.judged) == (9 * 28, 9 * 26)
    assert batch.weights.sum() == batch.judged
    assert len(batch.targets) == 240
