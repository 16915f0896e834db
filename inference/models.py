"""The request log and the API tokens."""

from __future__ import annotations

import datetime
import hashlib
import secrets
from typing import Any, ClassVar

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Q
from django.db.models.lookups import IContains
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

from registry.models import BaseModel, ModelVersion

_USED_EVERY = datetime.timedelta(minutes=1)  # a row is not written for each request


class ApiToken(models.Model):
    """A key for the API. Only its hash is kept; the text is shown once, when it is made."""

    class Scope(models.TextChoices):
        INFERENCE = "inference", "Generate text"
        MANAGE = "manage", "Generate, register and train"

    name = models.CharField(max_length=100, unique=True)
    prefix = models.CharField(max_length=12, editable=False, help_text="First characters")
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    scope = models.CharField(max_length=10, choices=Scope, default=Scope.INFERENCE)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("name",)
        verbose_name = "API token"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(scope__in=["inference", "manage"]), name="token_scope_valid"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def issue(cls, name: str, scope: str = Scope.INFERENCE) -> tuple[ApiToken, str]:
        """Make a token: the row, and the text that is shown this once.

        Raises IntegrityError when the name is taken or the scope is none of Scope.
        """
        text = f"hub-{secrets.token_urlsafe(32)}"
        row = cls.objects.create(name=name, scope=scope, prefix=text[:12], sha256=_digest(text))
        return row, text

    @classmethod
    def authenticate(cls, text: str) -> ApiToken | None:
        """The live token whose text this is, or None. Notes the use once a minute."""
        token = cls.objects.filter(sha256=_digest(text), revoked_at=None).first()
        if token is not None:
            now = timezone.now()
            stale = Q(last_used_at=None) | Q(last_used_at__lt=now - _USED_EVERY)
            if token.last_used_at is None or token.last_used_at < now - _USED_EVERY:
                cls.objects.filter(stale, pk=token.pk).update(last_used_at=now)
        return token

    def revoke(self) -> None:
        """Refuse the token from now on; doing so again keeps the first moment."""
        ApiToken.objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=timezone.now())


def _digest(text: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess.
    return hashlib.sha256(text.encode()).hexdigest()


class NameContains(IContains):
    """Part of a name in any case of ASCII letters, which are all that names have. To know the
    letters of every language makes PostgreSQL's scan of a log three times as long."""

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[Any, ...]]:
        column, before = compiler.compile(self.lhs)
        part, after = self.process_rhs(compiler, connection)
        return f'UPPER({column} COLLATE "C") LIKE UPPER({part} COLLATE "C")', (*before, *after)


models.CharField.register_lookup(NameContains, "name_contains")


class InferenceRequestQuerySet(models.QuerySet["InferenceRequest"]):
    def with_names(self) -> InferenceRequestQuerySet:
        """With what a list of requests names: version, model and base."""
        return self.select_related("version__model", "base_model")

    def matching(
        self,
        *,
        q: str = "",
        status: str = "",
        api: str = "",
        version: int | None = None,
        correlation_id: str = "",
    ) -> InferenceRequestQuerySet:
        """Those that fit everything that is not empty; `q` is part of the requested name."""
        exact = {
            "status": status,
            "api": api,
            "version_id": version,
            "correlation_id": correlation_id,
        }
        wanted = {field: value for field, value in exact.items() if value not in ("", None)}
        rows = self.filter(**wanted)
        return rows.filter(requested_model__name_contains=q) if q else rows


class InferenceRequest(models.Model):
    """One generation: who answered, how fast, how it ended. Times are milliseconds."""

    class Api(models.TextChoices):
        OPENAI = "openai", "OpenAI-compatible"
        NATIVE = "native", "Native"
        WEBSOCKET = "websocket", "WebSocket"

    class Status(models.TextChoices):
        COMPLETED = "completed", "Completed"
        CANCELLED = "cancelled", "Client went away"
        FAILED = "failed", "Failed"

    request_id = models.CharField(max_length=64, unique=True)
    correlation_id = models.CharField(max_length=64, blank=True)
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
    completion_tokens = models.PositiveIntegerField(default=0)
    queue_ms = models.FloatField(null=True)
    first_token_ms = models.FloatField(null=True)
    total_ms = models.FloatField(null=True)
    tokens_per_second = models.FloatField(null=True)
    finish_reason = models.CharField(max_length=20, blank=True)
    error = models.TextField(blank=True)
    prompt = models.JSONField(null=True, help_text="Only with HUB_LOG_PROMPTS")
    completion = models.TextField(null=True, help_text="Only with HUB_LOG_PROMPTS")  # noqa: DJ001
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
                condition=Q(api__in=["openai", "native", "websocket"]), name="request_api_valid"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["-created_at", "-id"], name="request_newest"),
            models.Index(fields=["version", "-created_at"]),
        ]

    def __str__(self) -> str:
        return self.request_id
