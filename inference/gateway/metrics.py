"""What Prometheus sees of inference, by model and version, however a request ended. Buckets are those of
OpenTelemetry's GenAI conventions; the dashboards and rules in `deploy/` use these names."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client import Counter, Histogram

from inference.protocol import DeadlineExceeded
from registry.errors import HubError

MOST_VERSIONS = 25
"""That have series of their own at a time; each has up to some hundred lines."""
UNUSED_S = 24 * 3600.0
"""After so long without a request a version's series make room for another's."""
OTHER = ("other", "")

REQUESTS = Counter(
    "hub_inference_requests",
    "Ended requests: completed, failed, cancelled (the client left), late (deadline) or refused "
    "(nothing was computed), with the error's code",
    ["model", "version", "api", "outcome", "code"],
)
LOST = Counter(
    "hub_inference_requests_lost",
    "Answers that the database did not log and that were too many to keep for later",
)
TOKENS = Counter("hub_inference_tokens", "Tokens read and written", ["model", "version", "kind"])
QUEUE = Histogram(
    "hub_inference_queue_seconds",
    "Time from the engine's receipt of a request to its place in the batch",
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
# https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
DURATION = Histogram(
    "hub_inference_request_duration_seconds",
    "Time from a request to its last token, or to its end without one",
    ["model", "version", "outcome"],
    buckets=(*(0.01 * 2**power for power in range(14)),),
)
FIRST_TOKEN = Histogram(
    "hub_inference_time_to_first_token_seconds",
    "Time to the first token, of cancelled and failed requests that had one, too",
    ["model", "version"],
    buckets=(
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
        *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    ),
)
PER_TOKEN = Histogram(
    "hub_inference_time_per_output_token_seconds",
    "Mean time between two tokens of one request",
    ["model", "version"],
    buckets=(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
_BY_VERSION = (REQUESTS, TOKENS, DURATION, FIRST_TOKEN, PER_TOKEN)
_used: dict[tuple[str, str], float] = {}  # when each version with series had its last request


@dataclass(frozen=True)
class Ended:
    """How one request ended. None is what it did not come to."""

    api: str
    outcome: str
    code: str = ""
    duration_s: float | None = None
    queue_s: float | None = None
    first_token_s: float | None = None
    per_token_s: float | None = None
    tokens: Mapping[str, int] = field(default_factory=dict)


def count(model: str, version: str, ended: Ended) -> None:
    """Count a request that ended; `version` is empty for a base model. Called on the event loop."""
    name, number = labels = labels_of(model, version)
    REQUESTS.labels(name, number, ended.api, ended.outcome, ended.code).inc()
    for kind, tokens in ended.tokens.items():
        TOKENS.labels(name, number, kind).inc(tokens)
    if ended.duration_s is not None:
        DURATION.labels(name, number, ended.outcome).observe(ended.duration_s)
    if ended.queue_s is not None:
        QUEUE.observe(ended.queue_s)
    if ended.first_token_s is not None:
        FIRST_TOKEN.labels(*labels).observe(ended.first_token_s)
    if ended.per_token_s is not None:
        PER_TOKEN.labels(*labels).observe(ended.per_token_s)


def labels_of(model: str, version: str) -> tuple[str, str]:
    """The labels of a version: its own, or OTHER's while MOST_VERSIONS others were used lately."""
    key, now = (model, version), time.monotonic()
    if key == OTHER:
        return OTHER
    if key not in _used and len(_used) >= MOST_VERSIONS:
        oldest = min(_used, key=_used.__getitem__)
        if now - _used[oldest] < UNUSED_S:
            return OTHER
        del _used[oldest]
        for family in _BY_VERSION:
            family.remove_by_labels({"model": oldest[0], "version": oldest[1]})
    _used[key] = now
    return key


def outcome_of(error: Exception, computed: int = 0) -> str:
    """Late, refused or failed: who refuses has not `computed` a single token, and the request is why."""
    if isinstance(error, DeadlineExceeded):
        return "late"
    refused = isinstance(error, HubError) and error.status < 500 and not computed
    return "refused" if refused else "failed"


def code_of(error: Exception) -> str:
    """As the APIs report it."""
    return error.code if isinstance(error, HubError) else "internal_error"
