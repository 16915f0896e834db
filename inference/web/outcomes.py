"""How a request ended, in words: the first line of its page."""

from __future__ import annotations

from dataclasses import dataclass

from inference.models import InferenceRequest

CODES = {
    "too_many_requests": "the queue was full",
    "unavailable": "the engine was not available",
    "engine_stopped": "the engine stopped while answering",
    "deadline_exceeded": "its deadline passed",
    "context_length_exceeded": "the prompt is longer than the model's context",
    "tool_use_failed": "the model wrote a tool call that cannot be read",
    "gpu_interrupted": "the GPU was interrupted",
    "unsupported_model": "the model cannot do this",
    "engine_failed": "the engine failed",
    "internal_error": "the hub failed",
    "invalid": "the request was not valid",
    "bad_request": "the request was not valid",
    "not_found": "what it names does not exist",
    "conflict": "the model was not ready",
    "damaged": "the model's files are damaged",
    "too_large": "it was too large",
    "disk_full": "the disk was full",
}
"""The errors of the APIs by their codes, after "Failed: "."""


@dataclass(frozen=True)
class Outcome:
    """`tone` colours it; `todo` is the error's own sentence, which says what to do."""

    tone: str
    sentence: str
    todo: str = ""


def outcome(row: InferenceRequest) -> Outcome:
    """What became of a request."""
    if row.status == InferenceRequest.Status.FAILED:
        code = row.error_code or ""
        said = CODES.get(code, code.replace("_", " "))
        return Outcome("bad", f"Failed: {said}." if said else "Failed.", row.error)
    who = row.answered_by or row.requested_model
    written = f"{row.completion_tokens} token{'' if row.completion_tokens == 1 else 's'}"
    if row.status == InferenceRequest.Status.CANCELLED:
        return Outcome("warn", f"The client left after {written} of {who}’s answer.")
    took = "" if row.total_ms is None else f" in {_seconds(row.total_ms)}"
    if row.finish_reason == "length":
        return Outcome("warn", f"{who} answered with {written}{took}, and was cut off.", _CUT)
    if row.finish_reason == "tool_calls":
        calls = len(row.tool_calls or ()) or 1
        return Outcome("ok", f"{who} called {calls} tool{'' if calls == 1 else 's'}{took}.")
    if not row.completion_tokens:
        return Outcome("ok", f"{who} read {row.prompt_tokens} tokens{took}.")
    return Outcome("ok", f"{who} answered with {written}{took}.")


_CUT = (
    "It reached max_tokens, the end of the context or the hub's deadline; allow more tokens for a "
    "whole answer."
)


def _seconds(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"
