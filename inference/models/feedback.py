"""What people say of answers."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

from inference.models.requests import InferenceRequest, shown
from registry.models import ModelVersion


class FeedbackQuerySet(models.QuerySet["Feedback"]):
    def of_model(self, name: str) -> FeedbackQuerySet:
        """On answers of this model's versions; on all when it is empty."""
        return self.filter(version__model__name__iexact=name) if name else self

    def with_text(self) -> FeedbackQuerySet:
        """Those of which examples can be made."""
        return self.exclude(prompt=None)


class Feedback(models.Model):
    """One person's word on one answer: good or bad, and what it should have been.

    It has the texts of its own, so that it outlives the request log, and also where prompts are not
    logged; `prompt` is None where nobody sent them.
    """

    class Rating(models.TextChoices):
        GOOD = "good", "Good"
        BAD = "bad", "Bad"

    request_id = models.CharField(max_length=64, unique=True, help_text="In the request log")
    answered_by = models.CharField(max_length=250, blank=True)
    version = models.ForeignKey(
        ModelVersion, on_delete=models.SET_NULL, null=True, related_name="feedback"
    )
    rating = models.CharField(max_length=4, blank=True, choices=Rating)
    ideal = models.TextField(blank=True, help_text="What the answer should have been")
    prompt = models.JSONField(null=True)
    answer = models.TextField(blank=True)
    thoughts = models.TextField(blank=True)
    tools = models.JSONField(default=list, blank=True)
    tool_calls = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = FeedbackQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        verbose_name_plural = "feedback"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(rating__in=["", "good", "bad"]), name="feedback_rating_valid"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_rating_display() or 'Edited'}: {self.request_id}"

    @property
    def prompt_text(self) -> str:
        """The prompt for a person."""
        return shown(self.prompt)

    @property
    def asked(self) -> str:
        """The last thing that was asked."""
        return str(self.messages()[-1].get("content") or "") if self.messages() else ""

    @property
    def request(self) -> InferenceRequest | None:
        """Its row of the log, while that is kept."""
        return InferenceRequest.objects.filter(request_id=self.request_id).first()

    def messages(self) -> list[dict[str, Any]]:
        """The prompt as a chat; a text that was continued is what the user said."""
        if isinstance(self.prompt, list):
            return list(self.prompt)
        return [{"role": "user", "content": str(self.prompt or "")}]
