"""What can go wrong, in one sentence for a person. `hub.api` maps each to its HTTP answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class HubError(Exception):
    """Base of the hub's own errors; the text says what is wrong and what to do."""

    status = 400
    code = "bad_request"


class Invalid(HubError):
    """The request makes no sense as it stands."""

    status = 422
    code = "invalid"


class Forbidden(HubError):
    """Who asks may not do this."""

    status = 403
    code = "permission"


class NotFound(HubError):
    """What the request names does not exist."""

    status = 404
    code = "not_found"


class Conflict(HubError):
    """The state of things forbids it: a name is taken, a version is not ready."""

    status = 409
    code = "conflict"


class TooLarge(HubError):
    """The request is larger than the hub takes in one piece."""

    status = 413
    code = "too_large"


class DiskFull(HubError):
    """The disk of storage or of the database has no room left."""

    status = 507
    code = "disk_full"


class TooManyRequests(HubError):
    """A bounded queue is full."""

    status = 429
    code = "too_many_requests"

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(HubError):
    """A part the request needs (engine, MLflow, memory) is not there at the moment."""

    status = 503
    code = "unavailable"

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Damaged(HubError):
    """Files do not match the checksums that were recorded for them."""

    status = 500
    code = "damaged"


def explain(problems: Iterable[Mapping[str, Any]]) -> str:
    """A sentence for each problem that pydantic found (its `error.errors()`), such as
    "iters: Input should be greater than 0."."""
    return " ".join(
        f"{place}: {message}." if place else f"{message[:1].upper()}{message[1:]}."
        for place, message in map(place_and_message, problems)
    )


def place_and_message(found: Mapping[str, Any]) -> tuple[str, str]:
    """Where one of pydantic's problems is, such as `lora.rank` (empty: in the whole), and what is
    wrong there, without a full stop."""
    place = ".".join(map(str, found["loc"]))
    return place, str(found["msg"]).removeprefix("Value error, ").removesuffix(".")


def internal_error(correlation_id: str) -> str:
    """The sentence for an error nobody foresaw; the log has its traceback under this ID."""
    return f"Internal error. Details are in the log under ID {correlation_id or 'unknown'}."
