"""The rows of one Parquet file, read only in a process with limits (`registry.datasets.reading.limited`):
a stranger's file of a few hundred bytes can unpack to gigabytes.

A field that is null is left out. What JSON cannot say stays recognisable: bytes are
`{"": "bytes"}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from registry.datasets.files.values import Struct
from registry.errors import Invalid

_ROWS = 1024  # read at once, if they are short
_ROWS_OF_LISTS = 64
_PIECE = 1 << 20
"""Bytes that are read at once. A file is not mapped into memory: all of it would count as memory of
the process, whose limit is smaller than many a file."""
_AT_ONCE = 16 << 20  # bytes of text that are unpacked at once
_BYTES = {"": "bytes"}


def parquet_rows(path: Path, tick: Callable[[float], None], name: str) -> Iterator[dict[str, Any]]:
    """Every row with JSON types only. Raises Invalid when the file cannot be read; MemoryError."""
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    try:
        yield from _rows(path, tick)
    except pa.ArrowMemoryError:
        raise MemoryError from None
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        raise Invalid(f"{name} is not a readable Parquet file ({reason}).") from None


def _rows(path: Path, tick: Callable[[float], None]) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as probe:
        columns = [probe.schema.column(n) for n in range(len(probe.schema))]
        # Kept as dictionaries, a text that a thousand rows share is in memory once. Arrow cannot
        # do that within lists, so of those only few rows are read at once.
        texts = [
            column.path
            for column in columns
            if column.physical_type == "BYTE_ARRAY" and "." not in column.path
        ]
        nested = any("." in column.path for column in columns)
    with pq.ParquetFile(path, buffer_size=_PIECE, read_dictionary=texts) as file:
        total, done = file.metadata.num_rows or 1, 0
        classes = _class_names(file.schema_arrow.metadata or {})
        most = min(_ROWS_OF_LISTS if nested else _ROWS, _rows_at_once(file.metadata))
        for batch in _batches(file, most):
            step = max(1, min(batch.num_rows, _AT_ONCE // _longest(batch)))
            for first in range(0, batch.num_rows, step):
                for row in batch.slice(first, step).to_pylist():
                    done += 1
                    tick(done / total)
                    yield plain(_with_names(row, classes) if classes else row)


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """By column, the names of the classes that its numbers stand for, as Hugging Face's files have
    them in their description."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _with_names(row: dict[str, Any], classes: dict[str, list[str]]) -> dict[str, Any]:
    """The row with its classes by name; a number without one, such as the -1 of an example that
    has no label, is null."""
    named = {
        column: names[number] if 0 <= number < len(names) else None
        for column, names in classes.items()
        if isinstance(number := row.get(column), int)
    }
    return row | named


def _batches(file: Any, most: int) -> Iterator[Any]:
    """Batches of at most so many rows. Each row group has a reader of its own: one for the whole
    file would keep all that it has read in memory."""
    for group in range(file.num_row_groups):
        yield from file.iter_batches(batch_size=most, row_groups=[group], use_threads=False)


def _rows_at_once(metadata: Any) -> int:
    """As many as fit by what the file itself says of its size."""
    size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    return max(1, min(_ROWS, _AT_ONCE * (metadata.num_rows or 1) // (size or 1)))


def _longest(batch: Any) -> int:
    """Bytes that one row may take, by the longest value of each column."""
    return max(1, sum(_longest_value(column) for column in batch.columns))


def _longest_value(array: Any) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(array, pa.DictionaryArray):
        return _longest_value(array.dictionary)
    kind = array.type
    if pa.types.is_struct(kind):
        return sum(_longest_value(array.field(n)) for n in range(kind.num_fields))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        most = pc.max(pc.list_value_length(array)).as_py() if not pa.types.is_map(kind) else 64
        items = array.values if not pa.types.is_map(kind) else array.items
        return (most or 0) * _longest_value(items)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return int(pc.max(pc.binary_length(array)).as_py() or 0)
    return 8


def plain(value: Any) -> Any:
    """The value with JSON types only; fields that a struct has only for other rows (null) go."""
    if isinstance(value, dict):
        return Struct({str(key): plain(item) for key, item in value.items() if item is not None})
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, bytes):
        return _BYTES
    return str(value)  # dates and decimals
