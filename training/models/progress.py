"""A job's progress and memory."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from training.models.leases import Leased


class Progressing(Leased):
    """The columns of `TrainingJob` that describe its progress."""

    iters = models.PositiveIntegerField(
        null=True, editable=False, help_text="Optimizer steps in total, known once the data is read"
    )
    checkpoint_iteration = models.PositiveIntegerField(
        default=0, editable=False, help_text="Where the job continues after an interruption"
    )
    yielded_s = models.FloatField(
        default=0.0, editable=False, help_text="Total seconds paused for others"
    )
    phases = models.JSONField(
        default=dict, editable=False, help_text="Seconds in each phase, of all attempts"
    )
    tokens_per_second = models.FloatField(null=True, editable=False)
    peak_memory_bytes = models.BigIntegerField(null=True, editable=False)
    memory_estimate_bytes = models.BigIntegerField(
        null=True, editable=False, help_text="Expected peak, corrected by earlier runs"
    )
    memory_parts = models.JSONField(
        default=dict,
        editable=False,
        help_text="Bytes of each part, before the correction",
    )
    memory_family = models.CharField(
        max_length=100,
        blank=True,
        editable=False,
        help_text="Runs whose measurements correct each other's estimates",
    )
    durations = models.JSONField(
        default=dict,
        editable=False,
        help_text="Measured seconds by part of the run: step, validation, test, saving, scoring",
    )

    class Meta:
        abstract = True

    @property
    def yield_text(self) -> str:
        """`paused 12 s: someone is chatting` while training waits for others, else empty."""
        if not self.yielding or self.yielding_since is None:
            return ""
        seconds = (timezone.now() - self.yielding_since).total_seconds()
        return f"paused {max(0.0, seconds):.0f} s: {self.yielding}"

    @property
    def memory_error(self) -> float | None:
        """Measured / estimated peak, minus 1; None until the job has finished and both are known."""
        if not (self.is_over and self.peak_memory_bytes and self.memory_estimate_bytes):
            return None
        return self.peak_memory_bytes / self.memory_estimate_bytes - 1
