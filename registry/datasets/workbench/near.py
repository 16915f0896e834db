"""Near-duplicates by MinHash: rows that have most of their phrases in common.

Each row's phrases (three words in a row) become a signature, in which two rows agree in about the
share of phrases that they have in common. Rows whose signatures agree in a whole band are compared
(locality-sensitive hashing), so that not every pair has to be. Signatures lie in a file; memory holds
16 bytes a row, for one band at a time.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.background.progress import Progress
from registry.late import Late

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Late("numpy")

LIKE = 0.8
"""Share of phrases in common from which two rows are near-duplicates."""

_LENGTH = 128  # numbers of a signature; the share is known to 0.035 (its standard error)
_BANDS = 16
"""Of 8 numbers each: finds 95 % of the pairs with 80 % in common, and 99.7 % of those with 86 %."""

_PHRASE = 3  # words
_MOST = 20_000  # words of a row
# Scripts without spaces: each character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
_AT_ONCE = 16_384  # rows, or pairs of rows

type Numbers = NDArray[Any]


class Signatures:
    """A signature for each row, in a file that `path` names and the caller removes."""

    def __init__(self, path: Path, rows: int) -> None:
        from datasketch import MinHash

        shape = (max(1, rows), _LENGTH)
        self._of_rows: Numbers = np.lib.format.open_memmap(path, "w+", np.uint32, shape)
        self._has_words = np.zeros(rows, bool)
        self._empty = MinHash(_LENGTH, hashfunc=zlib.crc32)

    def add(self, row: int, texts: Iterable[str]) -> None:
        """Sign row number `row` by what it says; one without words is like no other."""
        words = _WORD.findall(" ".join(texts).casefold())[:_MOST]
        if words:
            signature = self._empty.copy()
            signature.update_batch(_phrases(words))
            self._of_rows[row] = signature.hashvalues
            self._has_words[row] = True

    def find(self, progress: Progress) -> tuple[Numbers, Numbers]:
        """For each row, the number (from 1) of an earlier one that is like it, 0 for none, and the
        share of phrases that both have in common, in percent."""
        near = np.zeros(len(self._has_words), np.uint32)
        share = np.zeros(len(near), np.uint8)
        signed = np.flatnonzero(self._has_words)
        for band in range(_BANDS):
            progress.part(band / _BANDS)
            for later, earlier in _pairs(signed, self._keys(signed, band)):
                alike = self._alike(later, earlier)
                at = np.flatnonzero((alike >= LIKE) & (near[later] == 0))
                near[later[at]] = earlier[at] + 1
                share[later[at]] = np.round(100 * alike[at])
                progress.beat()
        return near, share

    def _keys(self, signed: Numbers, band: int) -> Numbers:
        """A number for what each signed row has in a band."""
        width = _LENGTH // _BANDS
        keys = np.empty(len(signed), np.uint64)
        for start in range(0, len(signed), _AT_ONCE):
            rows = signed[start : start + _AT_ONCE]
            part = self._of_rows[rows, band * width : (band + 1) * width].astype(np.uint64)
            key = np.full(len(rows), 0xCBF29CE484222325, np.uint64)
            for column in part.T:  # FNV-1a, a number at a time; it wraps
                key = (key ^ column) * np.uint64(0x100000001B3)
            keys[start : start + _AT_ONCE] = key
        return keys

    def _alike(self, one: Numbers, other: Numbers) -> Numbers:
        """The share of numbers in which the signatures of each pair agree."""
        agree: Numbers = (self._of_rows[one] == self._of_rows[other]).mean(axis=1)
        return agree


def _phrases(words: list[str]) -> list[bytes]:
    last = max(1, len(words) - _PHRASE + 1)
    return [" ".join(words[at : at + _PHRASE]).encode() for at in range(last)]


def _pairs(signed: Numbers, keys: Numbers) -> Iterable[tuple[Numbers, Numbers]]:
    """Pairs of rows with the same key, some thousands at once: each row with the first of its key,
    and with the one before it."""
    order = np.argsort(keys, kind="stable")  # within a key, rows stay in their order
    again = np.flatnonzero(keys[order[1:]] == keys[order[:-1]]) + 1
    starts = np.arange(len(order))
    new = np.ones(len(order), bool)
    new[again] = False
    first = np.maximum.accumulate(np.where(new, starts, 0))
    for start in range(0, len(again), _AT_ONCE):
        at = again[start : start + _AT_ONCE]
        yield signed[order[at]], signed[order[first[at]]]
        yield signed[order[at]], signed[order[at - 1]]
