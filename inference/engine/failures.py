"""The error that a client gets when its request cannot be answered."""

from __future__ import annotations

from dataclasses import replace

import structlog

from backends.base import BackendError, OutOfMemory, PromptTooLong
from inference.engine.memory.neighbours import Taken
from inference.engine.requests.row import Row
from inference.protocol import DeadlineExceeded, EngineFailure, Failed, to_failed
from registry.errors import HubError, Unavailable
from registry.storage.sizes import human

log = structlog.get_logger(__name__)


def stopping() -> Unavailable:
    return Unavailable("The engine is stopping; send the request again in a few seconds.")


def failing() -> Unavailable:
    return Unavailable(
        "The engine failed and is being restarted; send the request again in a few seconds.", 2
    )


def out_of_budget(tokens: int, taken: Taken) -> Unavailable:
    beside = f", of which {taken.by} takes {human(taken.nbytes)}" if taken.nbytes else ""
    return Unavailable(
        f"A context of {tokens} tokens does not fit into the memory budget now{beside}; try again "
        "soon, send a shorter prompt or generate fewer tokens.",
        10,
    )


def too_late(row: Row) -> Failed:
    """The request missed its deadline."""
    moment = f"after {row.completion_tokens} tokens" if row.prompt_tokens else "while it waited"
    error = DeadlineExceeded(
        f"The request missed its deadline of {row.request.deadline_s:g} s {moment}; allow more time "
        "or generate fewer tokens."
    )
    return failure(error, row)


def failure(error: Exception, row: Row | None = None, correlation_id: str = "") -> Failed:
    """What the client gets for `error`; anything unforeseen goes to the log with its traceback."""
    correlation_id = row.request.correlation_id if row else correlation_id
    failed = _failure(error, correlation_id)
    if row is None:
        return failed
    counts = {n: getattr(row, n) for n in ("prompt_tokens", "completion_tokens")}
    return replace(failed, **counts)


def _failure(error: Exception, correlation_id: str) -> Failed:
    if isinstance(error, HubError):
        return to_failed(error)
    if isinstance(error, PromptTooLong):
        return Failed("context_length_exceeded", str(error), 400)
    if isinstance(error, OutOfMemory):
        return to_failed(Unavailable(f"The device ran out of memory: {error}", 10))
    if isinstance(error, BackendError):
        return Failed("unsupported_model", str(error), 422)
    log.error("generation failed", correlation_id=correlation_id, exc_info=error)
    unforeseen = EngineFailure(
        f"The engine failed on this request ({type(error).__name__}). Details are in its log under "
        f"ID {correlation_id or 'unknown'}."
    )
    unforeseen.code, unforeseen.status = "engine_failed", 500
    return to_failed(unforeseen)
