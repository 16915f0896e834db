"""The request log."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar, TypeAlias

from django.db import connection, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Q
from django.db.models.lookups import IContains
from django.db.models.sql.compiler import SQLCompiler
from django.urls import reverse
from django.utils import timezone

from inference.models.tokens import ApiToken
from registry import traces
from registry.models import BaseModel, ModelVersion

_FILTERED = ("created_at", "requested_model", "status", "api", "token", "version")


class NameContains(IContains):
    """Part of a name in any case of ASCII letters, which are all that names have. To know the
    letters of every language makes PostgreSQL's scan of a log three times as long, and of UPPER it
    can't guess how much it will find: then it sorts a third of the log for a page of it."""

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[Any, ...]]:
        column, before = compiler.compile(self.lhs)
        part, after = self.process_rhs(compiler, connection)
        return f'{column} COLLATE "C" ILIKE {part}', (*before, *after)


models.CharField.register_lookup(NameContains, "name_contains")


class InferenceRequestQuerySet(models.QuerySet["InferenceRequest"]):
    def with_names(self) -> InferenceRequestQuerySet:
        """With what a list of requests names: version, model and base."""
        return self.select_related("version__model", "base_model", "token")

    def matching(
        self,
        *,
        q: str = "",
        status: str = "",
        api: str = "",
        version: int | None = None,
        correlation_id: str = "",
        token: int | None = None,
    ) -> InferenceRequestQuerySet:
        """Those that fit everything that is not empty; `q` is part of the requested name."""
        exact = {
            "status": status,
            "api": api,
            "token_id": token,
            "version_id": version,
            "correlation_id": correlation_id,
        }
        wanted = {field: value for field, value in exact.items() if value not in ("", None)}
        rows = self.filter(**wanted)
        return rows.filter(requested_model__name_contains=q) if q else rows

    def add_all(
        self, rows: Sequence[InferenceRequest], moment: datetime.datetime | None = None
    ) -> None:
        """Insert new rows as ones of now or of an earlier `moment`, in one transaction, and count them on
        the keys that were used. As `bulk_create`, without ids, and without making the same statement
        each time, which took as long as to run it. Raises DatabaseError; then none is `added`."""
        statement, columns = _insertion(connection.vendor)
        for row in rows:
            row.created_at = moment or timezone.now()
        values = [
            [prepared(getattr(row, name), connection) for name, prepared in columns] for row in rows
        ]
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.executemany(statement, values)
            for row in rows:
                row.count_on_key()
        for row in rows:
            row._state.adding = False

    def with_text(self) -> InferenceRequestQuerySet:
        """Completed ones whose prompt and answer were kept."""
        return self.filter(status="completed").exclude(prompt=None).exclude(completion=None)

    def expire(self, rows_before: datetime.datetime, texts_before: datetime.datetime) -> int:
        """Delete old rows, and the texts of somewhat newer ones; how many rows changed."""
        gone, _ = self.filter(created_at__lt=rows_before).delete()
        nothing = dict.fromkeys(("prompt", "completion", "thoughts", "tools", "tool_calls"))
        kept = self.filter(created_at__lt=texts_before).exclude(**nothing)
        return gone + kept.update(**nothing)


class InferenceRequest(models.Model):
    """One generation: who answered, how fast, how it ended. Times are milliseconds."""

    class Api(models.TextChoices):
        OPENAI = "openai", "OpenAI-compatible"
        ANTHROPIC = "anthropic", "Anthropic-compatible"
        OLLAMA = "ollama", "Ollama-compatible"
        NATIVE = "native", "Native"
        WEBSOCKET = "websocket", "WebSocket"

    class RequestStatus(models.TextChoices):
        COMPLETED = "completed", "Completed"
        CANCELLED = "cancelled", "Client disconnected"
        FAILED = "failed", "Failed"

    Status: TypeAlias = RequestStatus  # noqa: UP040  # an attribute, too

    request_id = models.CharField(max_length=64, unique=True)
    correlation_id = models.CharField(max_length=64, blank=True)
    trace_id = models.CharField(  # noqa: DJ001  # without a default SQLite adds it without a copy
        max_length=32, null=True, help_text="Where traces are sent"
    )
    api = models.CharField(max_length=10, choices=Api)
    status = models.CharField(max_length=10, choices=Status)
    requested_model = models.CharField(max_length=250)
    version = models.ForeignKey(
        ModelVersion, on_delete=models.SET_NULL, null=True, related_name="requests"
    )
    base_model = models.ForeignKey(
        BaseModel, on_delete=models.SET_NULL, null=True, related_name="requests"
    )
    token = models.ForeignKey(ApiToken, on_delete=models.SET_NULL, null=True)
    streamed = models.BooleanField(default=False)
    params = models.JSONField(default=dict)
    prompt_tokens = models.PositiveIntegerField(default=0)
    cached_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    thought_tokens = models.PositiveIntegerField(default=0, help_text="Of the completion's")
    queue_ms = models.FloatField(null=True)
    load_ms = models.FloatField(null=True, help_text="Of the queue's: loading the model for it")
    first_token_ms = models.FloatField(null=True)
    total_ms = models.FloatField(null=True)
    tokens_per_second = models.FloatField(null=True)
    finish_reason = models.CharField(max_length=20, blank=True)
    error = models.TextField(blank=True)
    error_code = models.CharField(  # noqa: DJ001  # as the trace's ID
        max_length=64, null=True, help_text="As the APIs report it"
    )
    prompt = models.JSONField(null=True, help_text="Only with HUB_LOG_PROMPTS")
    completion = models.TextField(null=True, help_text="Only with HUB_LOG_PROMPTS")  # noqa: DJ001
    thoughts = models.TextField(null=True, help_text="Only with HUB_LOG_PROMPTS")  # noqa: DJ001
    tools = models.JSONField(null=True, help_text="Only with HUB_LOG_PROMPTS")
    tool_calls = models.JSONField(null=True, help_text="Only with HUB_LOG_PROMPTS")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = InferenceRequestQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-pk")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["completed", "cancelled", "failed"]),
                name="request_status_valid",
            ),
            models.CheckConstraint(
                condition=Q(api__in=["openai", "anthropic", "ollama", "native", "websocket"]),
                name="request_api_valid",
            ),
        ]
        indexes: ClassVar = [
            # With all that the list filters by, here and below: then what is rare, or not there at
            # all, is looked for in the index, and no rows are read but those that are shown.
            models.Index(
                fields=["-created_at", "-id", "requested_model", "status", "api", "token"],
                name="request_newest",
            ),
            models.Index(fields=["token", "-created_at", "-id"], name="request_newest_of_key"),
            models.Index(fields=["correlation_id"], name="request_correlation"),
            # In the order of a page, so that SQLite takes it rather than looking at every request.
            models.Index(
                fields=["-created_at", "-id"],
                condition=Q(status="failed"),
                name="request_newest_failed",
            ),
            models.Index(fields=["version", "-created_at"]),
            # The slowest first; those without the figure are not in them.
            models.Index(
                fields=["-total_ms", "-id", *_FILTERED],
                condition=Q(total_ms__isnull=False),
                name="request_slowest",
            ),
            models.Index(
                fields=["-first_token_ms", "-id", *_FILTERED],
                condition=Q(first_token_ms__isnull=False),
                name="request_slowest_start",
            ),
        ]

    def __str__(self) -> str:
        return self.request_id

    def get_absolute_url(self) -> str:
        return reverse("request", args=[self.request_id])

    @property
    def added(self) -> bool:
        """Whether it is in the database."""
        return not self._state.adding

    def count_on_key(self) -> None:
        if self.token is not None:
            self.token.count(self.prompt_tokens, self.completion_tokens)

    @property
    def answered_by(self) -> str:
        """The exact name of what answered, as a client would ask for it; empty when it is deleted."""
        if self.version:
            return str(self.version)
        return f"base:{self.base_model.name}" if self.base_model else ""

    @property
    def tokens_in_words(self) -> str:
        """How many tokens were read and written, for a person."""
        read = f"{self.prompt_tokens} prompt tokens ({self.cached_tokens} cached)"
        thought = f", {self.thought_tokens} of them thoughts" if self.thought_tokens else ""
        return f"{read}, {self.completion_tokens} written{thought}"

    @property
    def trace_url(self) -> str:
        """Where its trace is shown; empty when it has none, or nobody said where."""
        return traces.url(self.trace_id)

    @property
    def prefill_ms(self) -> float | None:
        """From the prompt's place in the batch to the first token."""
        if self.first_token_ms is None or self.queue_ms is None:
            return None
        return round(self.first_token_ms - self.queue_ms, 3)

    @property
    def phases(self) -> list[tuple[str, float, float]]:
        """Where its time went: (name, begin, milliseconds) one after the other, as far as it came. What
        comes after the first token is decoding and sending."""
        if self.queue_ms is None:
            return []
        waited = max(0.0, self.queue_ms - (self.load_ms or 0))
        found = [("queue", 0.0, waited)]
        if self.load_ms:
            found.append(("load", waited, self.load_ms))
        if self.prefill_ms is not None and self.first_token_ms is not None:
            found.append(("prefill", self.queue_ms, max(0.0, self.prefill_ms)))
            if self.total_ms is not None:
                rest = max(0.0, self.total_ms - self.first_token_ms)
                found.append(("decode", self.first_token_ms, rest))
        return found

    @property
    def per_token_ms(self) -> float | None:
        """Between two tokens of the answer, on average."""
        return round(1000 / self.tokens_per_second, 3) if self.tokens_per_second else None

    @property
    def prompt_text(self) -> str:
        """The kept prompt for a person: turns under their roles, or the text that was continued."""
        return shown(self.prompt)


def shown(prompt: Any) -> str:
    """A kept prompt (a list of messages, or a text) as one text."""
    if not isinstance(prompt, list):
        return str(prompt or "")
    return "\n\n".join(f"{turn.get('role')}: {turn.get('content')}" for turn in prompt)


@cache
def _insertion(vendor: str) -> tuple[str, list[tuple[str, Callable[..., Any]]]]:
    """The statement that inserts a row in that kind of database; of each of its columns the attribute,
    and what makes of its value what the database takes."""
    table = InferenceRequest._meta
    fields = [field for field in table.concrete_fields if not field.primary_key]
    quoted = connection.ops.quote_name
    columns = ", ".join(quoted(str(field.column)) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    statement = f"INSERT INTO {quoted(table.db_table)} ({columns}) VALUES ({places})"  # noqa: S608  # nosec B608
    return statement, [(field.attname, field.get_db_prep_save) for field in fields]
