"""Inference over JSON: answers, models in memory, the request log, replays and keys."""

from __future__ import annotations

from ninja import Router

from inference.api import generate, keys, loaded, replays, requests

router = Router()
for part in (generate, loaded, requests, replays, keys):
    router.add_router("", part.router)
