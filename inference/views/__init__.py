"""Pages of inference: the playground, the request log, replays and keys."""

from inference.views.keys import key_limits, key_revoke, keys
from inference.views.playground import playground
from inference.views.replays import replay, replays
from inference.views.requests import requests

__all__ = ["key_limits", "key_revoke", "keys", "playground", "replay", "replays", "requests"]
