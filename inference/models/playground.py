"""What a person keeps of the playground: conversations and system prompts."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import IntegrityError, models, transaction
from django.db.models import F
from django.urls import reverse
from django.utils import timezone

from registry.errors import Conflict

TITLE_LENGTH = 200


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def titled(self, q: str) -> ConversationQuerySet:
        """Those with `q` in their title; all of them when it is empty."""
        return self.filter(title__icontains=q) if q else self


class Conversation(models.Model):
    """A chat that was kept: one to four columns with the same messages.

    `columns` and `sampling` are what `inference.playground.conversations` checks and gives.
    """

    title = models.CharField(max_length=TITLE_LENGTH)
    system = models.TextField(blank=True)
    sampling = models.JSONField(default=dict, editable=False)
    columns = models.JSONField(default=list, editable=False)
    revision = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ("-updated_at", "-pk")
        indexes: ClassVar = [
            models.Index(fields=["-updated_at", "-id"], name="conversation_newest"),
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return f"{reverse('playground')}?conversation={self.pk}"

    @property
    def models_asked(self) -> list[str]:
        return [column["model"] for column in self.columns]

    @property
    def turns(self) -> int:
        """Messages in the longest column."""
        return max((len(column["exchanges"]) for column in self.columns), default=0)

    def rename(self, title: str) -> None:
        self.title = title
        self.save(update_fields=["title"])

    def keep(self, revision: int, **content: Any) -> None:
        """Replace the content of `revision`. Raises Conflict when it is no longer the newest."""
        changed = Conversation.objects.filter(pk=self.pk, revision=revision).update(
            **content, revision=F("revision") + 1, updated_at=timezone.now()
        )
        if not changed:
            raise Conflict(
                "This conversation was changed in another window; open it again, or start a new one."
            )
        self.refresh_from_db()


class SystemPrompt(models.Model):
    """Instructions that are used again under a name."""

    name = models.CharField(max_length=100, unique=True)
    text = models.TextField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    def keep(self, name: str, text: str) -> None:
        """Raises Conflict when another one has this name."""
        self.name, self.text = name, text
        try:
            with transaction.atomic():
                self.save()
        except IntegrityError:
            raise Conflict(
                f"There is already a system prompt named {name!r}; choose another name."
            ) from None
