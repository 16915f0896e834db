"""The index of known beginnings: what it finds, and that its budget always holds."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from backends.prefixes import BLOCK, PrefixTree

ROOT = bytes(32)


def tree(blocks: int) -> PrefixTree[tuple[int, int]]:
    """A tree for so many blocks of one byte a token; a segment's content is its range."""
    return PrefixTree(blocks * BLOCK)


def add(prefixes: PrefixTree[tuple[int, int]], tokens: list[int], root: bytes = ROOT) -> None:
    prefixes.add(root, tokens, 1, lambda start, stop: (start, stop))


def found(prefixes: PrefixTree[tuple[int, int]], tokens: list[int], root: bytes = ROOT) -> int:
    return BLOCK * sum(blocks for _, blocks in prefixes.find(root, tokens))


def sequence(seed: int, length: int) -> list[int]:
    return random.Random(seed).choices(range(50_000), k=length)


def test_a_beginning_is_found_in_whole_blocks() -> None:
    prefixes, tokens = tree(100), sequence(1, 4 * BLOCK + 7)
    add(prefixes, tokens)
    assert found(prefixes, tokens) == 4 * BLOCK
    assert found(prefixes, tokens[: 3 * BLOCK + 1] + sequence(2, BLOCK)) == 3 * BLOCK
    assert found(prefixes, tokens[: BLOCK - 1]) == 0
    assert found(prefixes, [tokens[0] + 1, *tokens[1:]]) == 0


def test_a_shared_beginning_is_held_once() -> None:
    prefixes, shared = tree(100), sequence(1, 10 * BLOCK)
    for seed in range(2, 6):
        add(prefixes, shared + sequence(seed, 2 * BLOCK))
    assert prefixes.nbytes == (10 + 4 * 2) * BLOCK
    assert found(prefixes, shared + sequence(4, 2 * BLOCK)) == 12 * BLOCK


def test_segments_name_what_each_of_them_holds() -> None:
    prefixes, tokens = tree(100), sequence(1, 10 * BLOCK)
    add(prefixes, tokens[: 4 * BLOCK])
    add(prefixes, tokens)
    path = [(segment.content, blocks) for segment, blocks in prefixes.find(ROOT, tokens)]
    assert path == [((0, 4 * BLOCK), 4), ((4 * BLOCK, 10 * BLOCK), 6)]


def test_the_newest_rest_behind_a_block_is_found_as_far_as_it_agrees() -> None:
    prefixes, tokens = tree(100), sequence(1, 3 * BLOCK + 9)
    add(prefixes, tokens)
    for longer in (tokens, [*tokens, 1, 2], [*tokens[:-4], 7, 8, 9]):
        prefixes.add_rest(ROOT, longer, 1, lambda start, stop: (start, stop))
    assert prefixes.nbytes == 3 * BLOCK + 8  # of the last alone
    path = prefixes.find(ROOT, tokens)
    assert prefixes.find_rest(path, tokens) == ((3 * BLOCK, 3 * BLOCK + 8), 5)
    assert prefixes.find_rest(path, tokens[: 3 * BLOCK + 2]) == ((3 * BLOCK, 3 * BLOCK + 8), 2)
    assert prefixes.find_rest(path, [*tokens[: 3 * BLOCK], 5]) is None
    assert prefixes.find_rest(path[:0], tokens) is None
    prefixes.add_rest(ROOT, sequence(2, 9), 1, lambda start, stop: (start, stop))  # behind nothing
    small = tree(3)
    add(small, tokens)
    small.add_rest(ROOT, tokens, 1, lambda start, stop: (start, stop))  # for which there is no room
    assert small.nbytes == 3 * BLOCK
    prefixes.shrink(0)
    assert (prefixes.nbytes, len(prefixes)) == (0, 0)


def test_roots_share_nothing() -> None:
    prefixes, tokens = tree(100), sequence(1, 300)
    add(prefixes, tokens)
    assert found(prefixes, tokens, root=b"\x01" * 32) == 0


def test_the_least_recently_used_goes_first() -> None:
    prefixes = tree(8)
    old, new = sequence(1, 4 * BLOCK), sequence(2, 4 * BLOCK)
    add(prefixes, old)
    add(prefixes, new)
    assert found(prefixes, old)
    add(prefixes, sequence(3, 4 * BLOCK))
    assert found(prefixes, old) == 4 * BLOCK
    assert found(prefixes, new) == 0


def test_what_is_too_long_is_held_as_far_as_it_fits() -> None:
    prefixes, tokens = tree(5), sequence(1, 40 * BLOCK)
    add(prefixes, tokens)
    assert found(prefixes, tokens) == prefixes.nbytes == 5 * BLOCK


def test_a_limit_holds_until_the_next_one() -> None:
    prefixes = tree(8)
    for seed, most, held in ((1, 3, 3), (2, 2, 2), (3, 6, 6), (4, 100, 8)):
        prefixes.limit(most * BLOCK)
        assert prefixes.nbytes <= most * BLOCK
        add(prefixes, sequence(seed, 9 * BLOCK))
        assert prefixes.nbytes == held * BLOCK
    prefixes.limit(-1)
    add(prefixes, sequence(5, BLOCK))
    assert prefixes.nbytes == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 9), st.booleans()),
        max_size=60,
    ),
    st.integers(0, 20),
)
def test_the_budget_holds_and_paths_stay_whole(
    steps: list[tuple[int, int, int, bool]], blocks: int
) -> None:
    """Sequences that branch off four trunks at any block, added or looked up in any order."""
    prefixes = tree(blocks)
    for trunk, at, branch, adds in steps:
        tokens = sequence(trunk, at * BLOCK + 3) + sequence(100 + branch, 5 * BLOCK)
        if adds:
            add(prefixes, tokens)
            prefixes.add_rest(ROOT, tokens, 1, lambda start, stop: (start, stop))
        position = 0
        for segment, used in prefixes.find(ROOT, tokens):
            assert segment.first == position
            assert segment.content[1] - segment.content[0] == len(segment.names) * BLOCK
            position += used
        assert prefixes.nbytes <= blocks * BLOCK
    prefixes.shrink(0)
    assert (prefixes.nbytes, len(prefixes)) == (0, 0)


def test_a_beginning_of_32000_tokens_is_found() -> None:
    prefixes, tokens = tree(1000), sequence(1, 32_000)
    add(prefixes, tokens)
    assert found(prefixes, tokens) == 32_000
