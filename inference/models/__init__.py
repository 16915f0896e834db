"""The API tokens, the request log and what is replayed from it, checks of clients, and what the
playground keeps."""

from inference.models.client_checks import ClientCheck
from inference.models.feedback import Feedback
from inference.models.playground import (
    TITLE_LENGTH,
    Conversation,
    ConversationQuerySet,
    Preset,
)
from inference.models.replays import Replay, ReplayAnswer
from inference.models.requests import InferenceRequest, InferenceRequestQuerySet, shown
from inference.models.tokens import ApiToken

__all__ = [
    "TITLE_LENGTH",
    "ApiToken",
    "ClientCheck",
    "Conversation",
    "ConversationQuerySet",
    "Feedback",
    "InferenceRequest",
    "InferenceRequestQuerySet",
    "Preset",
    "Replay",
    "ReplayAnswer",
    "shown",
]
