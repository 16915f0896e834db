"""Pages of inference: the playground, models in memory, the request log, feedback, replays, checks of
clients and keys."""

from inference.web.views.client_checks import base_client_checks, client_checks
from inference.web.views.conversations import (
    conversation_delete,
    conversation_rename,
    conversations,
)
from inference.web.views.feedback import rated, request_feedback
from inference.web.views.keys import key_limits, key_revoke, keys, keys_selected
from inference.web.views.loaded import (
    load_model,
    loaded,
    pin_model,
    unload_idle_models,
    unload_model,
)
from inference.web.views.playground import playground, playground_models
from inference.web.views.replays import replay, replays
from inference.web.views.request import request, request_replay
from inference.web.views.requests import requests
from inference.web.views.trial import trial
from inference.web.views.use import model_use, version_use

__all__ = [
    "base_client_checks",
    "client_checks",
    "conversation_delete",
    "conversation_rename",
    "conversations",
    "key_limits",
    "key_revoke",
    "keys",
    "keys_selected",
    "load_model",
    "loaded",
    "model_use",
    "pin_model",
    "playground",
    "playground_models",
    "rated",
    "replay",
    "replays",
    "request",
    "request_feedback",
    "request_replay",
    "requests",
    "trial",
    "unload_idle_models",
    "unload_model",
    "version_use",
]
