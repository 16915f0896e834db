"""The error that a client gets when its request cannot be answered."""

from __future__ import annotations

from dataclasses import replace

import structlog

from backends.base import BackendError, GPUInterrupted, OutOfMemory, PromptTooLong
from inference.engine.memory.neighbours import Taken
from inference.engine.requests.row import Row
from inference.protocol import DeadlineExceeded, Failed, to_failed
from registry import traces
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


def no_room_for_texts(needed: int, taken: Taken) -> Unavailable:
    beside = f", of which {taken.by} takes {human(taken.nbytes)}" if taken.nbytes else ""
    return Unavailable(
        f"Reading these texts needs {human(needed)} beside the model, which the memory budget does not "
        f"have now{beside}; try again soon, or send shorter texts.",
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
    if isinstance(error, HubError):
        failed = to_failed(error)
    elif isinstance(error, PromptTooLong):
        failed = Failed("context_length_exceeded", str(error), 400)
    elif isinstance(error, OutOfMemory):
        failed = to_failed(Unavailable(f"The device ran out of memory: {error}", 10))
    elif isinstance(error, GPUInterrupted):
        failed = Failed("gpu_interrupted", str(error), 503)
    elif isinstance(error, BackendError):
        failed = Failed("unsupported_model", str(error), 422)
    else:
        trace = traces.trace_id(row.request.traceparent) if row else ""
        traced = {"trace_id": trace} if trace else {}
        log.error("generation failed", correlation_id=correlation_id, **traced, exc_info=error)
        message = (
            f"The engine failed on this request ({type(error).__name__}). Details are in its log "
            f"under ID {correlation_id or 'unknown'}."
        )
        failed = Failed("engine_failed", message, 500)
    if row is None:
        return failed
    counts = {n: getattr(row, n) for n in ("prompt_tokens", "completion_tokens")}
    return replace(failed, **counts)
