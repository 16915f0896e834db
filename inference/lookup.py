"""Requests of the log by an id, or by what was asked and answered, within a short time."""

from __future__ import annotations

import re
import time

from inference.models import InferenceRequest, shown
from registry.datasets.workbench.words import SHORTEST, excerpt

LOOKED_AT = 2000
"""The newest requests, of which texts are looked through."""
_AT_ONCE = 50
_ID = re.compile(r"[0-9a-f]{6,32}")


def by_id(q: str, most: int) -> list[InferenceRequest]:
    """Those whose id begins with these six or more digits, and those of one correlation id."""
    rows = InferenceRequest.objects.with_names().order_by("-pk")
    q = q.strip()
    if _ID.fullmatch(q.lower()):
        digits = q.lower()
        # A range, which every database takes from the index.
        found = list(rows.filter(request_id__gte=digits, request_id__lt=f"{digits}g")[:most])
        if found:
            return found
    if len(q) >= 8 and " " not in q:
        return list(rows.filter(correlation_id=q)[:most])
    return []


def by_text(q: str, most: int, within_s: float) -> list[tuple[InferenceRequest, str]]:
    """The newest requests with these words in their prompt or answer, where texts are kept, and what
    stands around them; as far as `within_s` seconds go."""
    words = q.strip().lower()
    newest = InferenceRequest.objects.order_by("-pk").values_list("pk", flat=True).first()
    if len(words) < SHORTEST or newest is None:
        return []
    until = time.monotonic() + within_s
    found: list[tuple[InferenceRequest, str]] = []
    rows = InferenceRequest.objects.filter(pk__gt=newest - LOOKED_AT).exclude(prompt=None)
    texts = rows.order_by("-pk").values_list("pk", "prompt", "completion")
    for pk, prompt, completion in texts.iterator(chunk_size=_AT_ONCE):
        text = f"{shown(prompt)}\n{completion or ''}"
        place = text.lower().find(words)
        if place >= 0:
            row = InferenceRequest.objects.with_names().get(pk=pk)
            found.append((row, excerpt(text, place)))
        if len(found) == most or time.monotonic() > until:
            break
    return found
