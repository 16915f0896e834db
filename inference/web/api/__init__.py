"""Inference over JSON: answers, models in memory, the request log, feedback, replays, checks of clients,
keys and the playground."""

from __future__ import annotations

from ninja import Router

from inference.web.api import (
    client_checks,
    feedback,
    generate,
    keys,
    loaded,
    playground,
    replays,
    requests,
)

router = Router()
for part in (generate, loaded, requests, feedback, replays, client_checks, keys, playground):
    router.add_router("", part.router)
