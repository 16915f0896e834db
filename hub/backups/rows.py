"""All rows from one database to another, of whichever kind, in bounded memory.

Rows are read in the order of their primary keys a few hundred at a time, and go into the target in
one transaction: by COPY where it is PostgreSQL, by bulk inserts where it is SQLite. Then every row
is read back. A table's checksum is the sum of its rows' hashes, so that it needs no order that both
databases agree on.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import batched
from typing import Any

from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import DataError, IntegrityError, connections, models, transaction
from django.db.models import Model

from registry.errors import Conflict, Damaged, Invalid

AT_ONCE = 500  # rows in memory: prompts and answers may be of some hundred kB each
_WHOLE = 2**53  # beyond it, two whole numbers may be one float
_MADE_BY_MIGRATE: tuple[type[Model], ...] = (Permission, ContentType)

Report = Callable[[str, int, int], object]
"""Receives a table, how many of its rows are copied, and how many there are."""


@dataclass(frozen=True)
class Table:
    """One table's rows: how many, and the sum of their hashes."""

    name: str
    rows: int
    checksum: str


def tables() -> list[type[Model]]:
    """Every table of the hub and of the libraries that keep rows in its database."""
    found = apps.get_models(include_auto_created=True)
    return [model for model in found if model._meta.managed and not model._meta.proxy]


def require_empty(alias: str) -> None:
    """Raises Conflict when the database holds rows, or tables that are not the hub's."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        present = set(connection.introspection.table_names(cursor))
    ours = {model._meta.db_table: model for model in tables()}
    if foreign := sorted(present - ours.keys() - {"django_migrations"}):
        raise Conflict(
            f"The target has tables of something else ({foreign[0]}); name an empty one."
        )
    for name in sorted(present & ours.keys()):
        model = ours[name]
        if model not in _MADE_BY_MIGRATE and _count(alias, model):
            raise Conflict(f"The target is not empty ({name} has rows); name an empty database.")


def copy(source: str, target: str, report: Report = lambda *_: None) -> list[Table]:
    """Copy every row from `source` to `target`, two aliases whose tables are the same, and compare
    both afterwards. All rows arrive or none. Raises Conflict when the target is not empty, Invalid
    when it does not take a row, Damaged when it holds other rows than were sent."""
    require_empty(target)
    with _reading(source):
        wanted = [(model, _count(source, model)) for model in tables()]
        with transaction.atomic(using=target):
            for model in _MADE_BY_MIGRATE:
                model._base_manager.using(target).all()._raw_delete(target)
            sent = [_copy(model, source, target, count, report) for model, count in wanted]
            for model, _ in wanted:
                _set_last_id(target, model, _last_id(source, model))
            arrived = [_sum(model, target) for model, _ in wanted]
            different = [now for then, now in zip(sent, arrived, strict=True) if then != now]
            if different:
                names = ", ".join(table.name for table in different)
                raise Damaged(f"Not copied: the target would hold other rows in {names}.")
    return arrived


def _reading(alias: str) -> Any:
    """One view of all tables, however long it takes."""
    block = transaction.atomic(using=alias)
    if connections[alias].vendor != "postgresql":
        return block
    return _Repeatable(block, alias)


@dataclass
class _Repeatable:
    block: Any
    alias: str

    def __enter__(self) -> None:
        self.block.__enter__()
        with connections[self.alias].cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def __exit__(self, *raised: Any) -> Any:
        return self.block.__exit__(*raised)


def _fields(model: type[Model]) -> list[models.Field[Any, Any]]:
    return [field for field in model._meta.local_concrete_fields if not field.generated]


def _count(alias: str, model: type[Model]) -> int:
    return model._base_manager.using(alias).count()


def _rows(model: type[Model], alias: str) -> Iterator[tuple[Any, ...]]:
    names = [field.attname for field in _fields(model)]
    found = model._base_manager.using(alias).order_by("pk").values_list(*names)
    return found.iterator(chunk_size=AT_ONCE)


def _copy(model: type[Model], source: str, target: str, count: int, report: Report) -> Table:
    summed = _Sum(model._meta.db_table)
    name = model._meta.db_table

    def adapted() -> Iterator[list[Any]]:
        fields, connection = _fields(model), connections[target]
        report(name, 0, count)
        for row in summed.over(_rows(model, source)):
            yield [
                field.get_db_prep_save(value, connection)
                for field, value in zip(fields, row, strict=True)
            ]
            if summed.rows % AT_ONCE == 0 or summed.rows == count:
                report(name, summed.rows, count)

    try:
        _write(model, target, adapted())
    except (DataError, IntegrityError) as error:
        said = str(error).partition("\n")[0]
        raise Invalid(
            f"The target does not take a row of {name} ({said}); correct that row in the "
            "source, then begin again."
        ) from error
    return summed.table()


def _write(model: type[Model], alias: str, rows: Iterable[list[Any]]) -> None:
    connection = connections[alias]
    quote = connection.ops.quote_name
    names = ", ".join(quote(str(field.column)) for field in _fields(model))
    place = f"{quote(model._meta.db_table)} ({names})"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {place} FROM STDIN") as copying:
                for row in rows:
                    copying.write_row(row)
            return
        marks = ", ".join(["%s"] * len(_fields(model)))
        for part in batched(rows, AT_ONCE):
            cursor.executemany(f"INSERT INTO {place} VALUES ({marks})", part)  # noqa: S608  # nosec B608


class _Sum:
    """The sum of the hashes of rows that pass by."""

    def __init__(self, name: str) -> None:
        self.name, self.rows, self._total = name, 0, 0

    def over(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        for row in rows:
            said = repr([_canonical(value) for value in row]).encode("utf-8", "surrogatepass")
            digest = hashlib.blake2b(said, digest_size=16).digest()
            self._total = (self._total + int.from_bytes(digest)) % 2**128
            self.rows += 1
            yield row

    def table(self) -> Table:
        return Table(self.name, self.rows, f"{self._total:032x}")


def _sum(model: type[Model], alias: str) -> Table:
    summed = _Sum(model._meta.db_table)
    for _ in summed.over(_rows(model, alias)):
        pass
    return summed.table()


def _canonical(value: Any) -> Any:
    """The same for both databases: PostgreSQL orders the keys of JSON and writes 1e20 in full."""
    match value:
        case datetime.datetime():
            return value.astimezone(datetime.UTC).isoformat()
        case dict() | list():
            return json.dumps(_plain(value), sort_keys=True)
        case memoryview():
            return bytes(value)
    return value


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case bool():
            return value
        case int() | float() if abs(value) >= _WHOLE:
            return float(value)
        case float() if value.is_integer():
            return int(value)
    return value


def _last_id(alias: str, model: type[Model]) -> int:
    """The highest id that was ever given, of deleted rows too: files are named by ids."""
    field = model._meta.auto_field
    if field is None:
        return 0
    table = model._meta.db_table
    with connections[alias].cursor() as cursor:
        if connections[alias].vendor == "sqlite":
            cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
            found = cursor.fetchone()
            return int(found[0]) if found else 0
        cursor.execute("SELECT pg_get_serial_sequence(%s, %s)", [f'"{table}"', field.column])
        (sequence,) = cursor.fetchone()
        cursor.execute(f"SELECT last_value, is_called FROM {sequence}")  # noqa: S608  # nosec B608
        last, is_called = cursor.fetchone()
        return int(last) if is_called else 0


def _set_last_id(alias: str, model: type[Model], last: int) -> None:
    field = model._meta.auto_field
    if field is None or not last:
        return
    table = model._meta.db_table
    with connections[alias].cursor() as cursor:
        if connections[alias].vendor == "sqlite":
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
            cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, last])
            return
        asked = "SELECT setval(pg_get_serial_sequence(%s, %s), %s)"
        cursor.execute(asked, [f'"{table}"', field.column, last])
