"""The rows of one Parquet file as JSON lines: `python -m registry.datasets.parquet FILE`.

It runs in a process of its own, with limits on memory, because a stranger's file of a few hundred
bytes can unpack to gigabytes. It knows neither Django nor what an example should hold.

Each line is `[share, row]`: the share of the file that is read, and an object with JSON types
only. A field that is null is left out. What JSON cannot say stays recognisable: numbers that are
not finite as NaN or Infinity, bytes as `{"": "bytes"}`. A last line `[1, null]` says that all came.
A failure is one sentence on stderr and a status that is not zero.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from pathlib import Path
from typing import Any

PROCESSOR_S = 3600
MEMORY = 2 << 30  # bytes of address space, pyarrow itself included
_ROWS = 1024  # read at once, if they are short
_ROWS_OF_LISTS = 64
_AT_ONCE = 16 << 20  # bytes of text that are unpacked at once
_BYTES = {"": "bytes"}


def main(path: Path) -> int:
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_S, PROCESSOR_S))
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    try:
        write_rows(path)
    except (MemoryError, pa.ArrowMemoryError):
        print(f"{path.name} needs more than {MEMORY >> 30} GB of memory to read.", file=sys.stderr)
        return 1
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        print(f"{path.name} is not a readable Parquet file ({reason}).", file=sys.stderr)
        return 1
    return 0


def write_rows(path: Path) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, memory_map=True) as probe:
        columns = [probe.schema.column(n) for n in range(len(probe.schema))]
        # Kept as dictionaries, a text that a thousand rows share is in memory once. Arrow cannot
        # do that within lists, so of those only few rows are read at once.
        texts = [
            column.path
            for column in columns
            if column.physical_type == "BYTE_ARRAY" and "." not in column.path
        ]
        nested = any("." in column.path for column in columns)
    with pq.ParquetFile(path, memory_map=True, read_dictionary=texts) as file:
        total, done = file.metadata.num_rows or 1, 0
        most = min(_ROWS_OF_LISTS if nested else _ROWS, _rows_at_once(file.metadata))
        for batch in file.iter_batches(batch_size=most, use_threads=False):
            step = max(1, min(batch.num_rows, _AT_ONCE // _longest(batch)))
            for first in range(0, batch.num_rows, step):
                for row in batch.slice(first, step).to_pylist():
                    done += 1
                    print(json.dumps([done / total, plain(row)]))
    print(json.dumps([1, None]), flush=True)


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
        return {str(key): plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, bytes):
        return _BYTES
    return str(value)  # dates and decimals


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
