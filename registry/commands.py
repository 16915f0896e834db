"""Commands as a person types them: an installed hub's program has another name than a checkout's."""

from __future__ import annotations

from django.conf import settings


def typed(words: str) -> str:
    """`gc` → `uv run manage.py gc`, or `mlx-hub gc` of an installed hub."""
    return f"{settings.COMMAND} {words}"
