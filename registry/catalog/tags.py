"""A model's tags in a query, on both databases."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, Func, Value
from django.db.models.sql.compiler import SQLCompiler


class Tagged(Func):
    """Whether any of the tags is `text`, in any case; with `part`, whether any contains it."""

    output_field: ClassVar = BooleanField()

    def __init__(self, text: str, *, part: bool = False, column: str = "tags") -> None:
        escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        super().__init__(column, Value(f"%{escaped}%" if part else escaped))

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> Any:
        return self._written(
            compiler,
            "EXISTS (SELECT 1 FROM json_each({column}) AS tag"
            " WHERE tag.value LIKE {pattern} ESCAPE '\\')",
        )

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> Any:
        return self._written(
            compiler,
            "EXISTS (SELECT 1 FROM jsonb_array_elements_text({column}) AS tag(value)"
            " WHERE tag.value ILIKE {pattern} ESCAPE '\\')",
        )

    def _written(self, compiler: SQLCompiler, sql: str) -> tuple[str, tuple[Any, ...]]:
        column, pattern = self.get_source_expressions()
        column_sql, column_params = compiler.compile(column)
        pattern_sql, pattern_params = compiler.compile(pattern)
        written = sql.format(column=column_sql, pattern=pattern_sql)
        return written, (*column_params, *pattern_params)
