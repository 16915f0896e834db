"""The API tokens, the request log and what is replayed from it."""

from inference.models.replays import Replay, ReplayAnswer
from inference.models.requests import InferenceRequest, InferenceRequestQuerySet, shown
from inference.models.tokens import ApiToken

__all__ = [
    "ApiToken",
    "InferenceRequest",
    "InferenceRequestQuerySet",
    "Replay",
    "ReplayAnswer",
    "shown",
]
