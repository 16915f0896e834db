"""What a person keeps of the playground: conversations and presets."""

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
    tools = models.JSONField(default=list, editable=False)
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


class PresetQuerySet(models.QuerySet["Preset"]):
    def offered_to(self, model: str) -> PresetQuerySet:
        """Those of this model, and those for all."""
        return self.filter(model__in=["", model])


class Preset(models.Model):
    """How a model is asked, under a name: instructions, sampling with the shape of the answer, and
    tools. `model` is the name of the model it belongs to, without its version; empty: for all.

    `sampling` and `tools` are as in `inference.native.schemas.InferenceIn`.
    """

    name = models.CharField(max_length=100)
    model = models.CharField(max_length=200, blank=True, help_text="Empty: for all models")
    system = models.TextField(blank=True)
    sampling = models.JSONField(default=dict, blank=True)
    tools = models.JSONField(default=list, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = PresetQuerySet.as_manager()

    class Meta:
        ordering = ("name", "model")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["name", "model"], name="preset_name_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.model})" if self.model else self.name

    def keep(self, **fields: Any) -> None:
        """Raises Conflict when another one has this name."""
        for name, value in fields.items():
            setattr(self, name, value)
        try:
            with transaction.atomic():
                self.save()
        except IntegrityError:
            raise Conflict(
                f"There is already a preset named {self.name!r}; choose another name."
            ) from None
