"""The API tokens."""

from __future__ import annotations

import datetime
import hashlib
import secrets
from typing import ClassVar

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

_USED_EVERY = datetime.timedelta(minutes=1)  # a row is not written for each request


class ApiToken(models.Model):
    """A key for the API. Only its hash is kept; the text is shown once, when it is created."""

    PREFIX: ClassVar = "hub-"  # of every token's text

    class Scope(models.TextChoices):
        INFERENCE = "inference", "Generate text"
        MANAGE = "manage", "Generate, register and train"
        ADMIN = "admin", "Everything, keys included"

    name = models.CharField(max_length=100, unique=True)
    prefix = models.CharField(max_length=12, editable=False, help_text="First characters")
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    scope = models.CharField(max_length=10, choices=Scope, default=Scope.INFERENCE)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)
    max_running = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Requests answered at once; empty: no limit",
    )
    max_waiting = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests that may wait; empty: no limit"
    )
    requests = models.PositiveBigIntegerField(default=0, editable=False)
    prompt_tokens = models.PositiveBigIntegerField(default=0, editable=False)
    completion_tokens = models.PositiveBigIntegerField(default=0, editable=False)

    class Meta:
        ordering = ("name",)
        verbose_name = "API token"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(scope__in=["inference", "manage", "admin"]), name="token_scope_valid"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def issue(
        cls,
        name: str,
        scope: str = Scope.INFERENCE,
        *,
        max_running: int | None = None,
        max_waiting: int | None = None,
    ) -> tuple[ApiToken, str]:
        """Create a token: the row, and the text that is shown this once.

        Raises IntegrityError when the name is taken or the scope is not one of Scope.
        """
        text = cls.PREFIX + secrets.token_urlsafe(32)
        row = cls.objects.create(
            name=name,
            scope=scope,
            prefix=text[:12],
            sha256=_digest(text),
            max_running=max_running,
            max_waiting=max_waiting,
        )
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

    def count(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Add one request to what the token has used; the log forgets, this does not."""
        ApiToken.objects.filter(pk=self.pk).update(
            requests=F("requests") + 1,
            prompt_tokens=F("prompt_tokens") + prompt_tokens,
            completion_tokens=F("completion_tokens") + completion_tokens,
        )

    def revoke(self) -> bool:
        """Refuse the token from now on; False when it was revoked before, which keeps its moment."""
        live = ApiToken.objects.filter(pk=self.pk, revoked_at=None)
        return bool(live.update(revoked_at=timezone.now()))


def _digest(text: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess.
    return hashlib.sha256(text.encode()).hexdigest()
