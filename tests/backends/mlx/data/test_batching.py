from __future__ import annotations

from backends.mlx.data import batching
from backends.mlx.data import examples as data


def test_every_epoch_shows_every_example_once() -> None:
    lengths = [7 + n % 13 for n in range(101)]
    for epoch in (0, 1):
        steps = range(epoch * 13 + 1, epoch * 13 + 14)
        seen = [i for step in steps for i in batching.step_indices(lengths, 8, 3, step)]
        assert sorted(seen) == list(range(101))


def test_the_order_follows_from_the_seed_and_differs_between_epochs() -> None:
    lengths = [7 + n % 13 for n in range(64)]
    assert batching.step_indices(lengths, 8, 3, 5) == batching.step_indices(lengths, 8, 3, 5)
    assert batching.step_indices(lengths, 8, 3, 5) != batching.step_indices(lengths, 8, 4, 5)
    assert batching.step_indices(lengths, 8, 3, 5) != batching.step_indices(lengths, 8, 3, 13)


def test_batches_of_like_length_waste_little_padding() -> None:
    lengths = [10 + (n * 37) % 200 for n in range(1024)]
    padded = used = 0
    for step in range(1, 129):
        rows = [lengths[i] for i in batching.step_indices(lengths, 8, 0, step)]
        padded += max(rows) * len(rows)
        used += sum(rows)
    assert used / padded > 0.9


def test_a_batch_judges_the_answers_tokens_only() -> None:
    short, long = data.Example([5, 6, 7, 8], 2), data.Example([1, 2, 3, 4, 9, 10], 5)
    batch = batching.make_batch([short, long], pad_to=4)
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
    groups = batching.divide(examples, 2)
    assert [len(group) for group in groups] == [3, 2]
    assert len(batching.divide(examples[:1], 4)) == 1


def test_the_lane_with_the_longest_examples_has_fewer_of_them() -> None:
    """They are worked on at the same time, padded to the longest of each."""
    examples = [data.Example([1] * length, 1) for length in (10, 300, 20, 40, 80, 30, 60, 290)]
    groups = [[example.length for example in group] for group in batching.divide(examples, 2)]
    assert groups == [[10, 20, 30, 40, 60, 80], [290, 300]]
    equal = [data.Example([1] * 64, 1)] * 8
    assert [len(group) for group in batching.divide(equal, 2)] == [4, 4]
