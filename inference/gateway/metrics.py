"""What Prometheus sees of inference. A Grafana dashboard in `deploy/` uses these names."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

REQUESTS = Counter(
    "hub_inference_requests",
    "Finished generations, by model, outcome and API",
    ["model", "status", "api"],
)
LOST = Counter(
    "hub_inference_requests_lost",
    "Answers that the database did not log and that were too many to keep for later",
)
TOKENS = Counter("hub_inference_tokens", "Tokens read and written", ["kind"])
QUEUE = Histogram(
    "hub_inference_queue_seconds",
    "Time from the engine's receipt of a request to its place in the batch",
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
FIRST_TOKEN = Histogram(
    "hub_inference_first_token_seconds",
    "Time from the engine's receipt of a request to its first token",
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
RATE = Histogram(
    "hub_inference_tokens_per_second",
    "Decoding speed of one request",
    buckets=(1, 2.5, 5, 10, 20, 30, 50, 75, 100, 150, 250, 500),
)
