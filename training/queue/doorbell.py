"""Waking the worker."""

from __future__ import annotations

from django.db import transaction


def ring(delay_s: float = 0.0) -> None:
    """Wake the worker after the commit, or `delay_s` later. Never fails: a minute's tick follows."""
    from training.tasks import doorbell  # tasks → supervisor → queue

    # 0.1 s beyond the back-off, so that the job is due for certain when the bell rings.
    chime = (lambda: doorbell.schedule(delay=delay_s + 0.1)) if delay_s else doorbell
    transaction.on_commit(chime, robust=True)
