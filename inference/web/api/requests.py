"""The request log over JSON."""

# No postponed annotations here: ninja's `paginate` evaluates them in its own module.

import datetime
from typing import Annotated, Any, Literal

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema
from ninja.pagination import paginate

from inference.models import Feedback, InferenceRequest
from inference.web.api.feedback import FeedbackOut
from registry.web.paging import LimitOffset

router = Router(tags=["inference"])


class RequestOut(Schema):
    """One row of the request log. Times are milliseconds."""

    id: int
    request_id: str
    correlation_id: str
    trace_id: str | None
    trace_url: Annotated[str, Field(description="Where the trace is shown (HUB_TRACE_URL)")]
    api: str
    status: str
    requested_model: str
    version: Annotated[
        str | None, Field(description="The version that answered; null for a base model")
    ]
    base_model: str | None
    streamed: bool
    params: dict[str, Any]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    thought_tokens: Annotated[int, Field(description="Of the completion's")]
    key: Annotated[str | None, Field(description="Name of the API key")]
    queue_ms: float | None
    load_ms: Annotated[float | None, Field(description="Of the queue's: its model was loaded")]
    prefill_ms: float | None
    first_token_ms: float | None
    per_token_ms: float | None
    total_ms: float | None
    tokens_per_second: float | None
    finish_reason: str
    error: str
    error_code: Annotated[str | None, Field(description="As the APIs report it")]
    created_at: datetime.datetime

    @staticmethod
    def resolve_version(row: InferenceRequest) -> str | None:
        return str(row.version) if row.version else None

    @staticmethod
    def resolve_key(row: InferenceRequest) -> str | None:
        return row.token.name if row.token else None

    @staticmethod
    def resolve_base_model(row: InferenceRequest) -> str | None:
        return row.base_model.name if row.base_model else None


class PhaseOut(Schema):
    """A part of a request's time. Milliseconds."""

    name: Literal["queue", "load", "prefill", "decode"]
    begin_ms: float
    ms: float


class WholeRequestOut(RequestOut):
    """With its texts, which are null unless HUB_LOG_PROMPTS keeps them."""

    prompt: Any
    completion: str | None
    thoughts: str | None
    tools: list[dict[str, Any]] | None
    tool_calls: list[dict[str, Any]] | None
    phases: Annotated[list[PhaseOut], Field(description="Where its time went")]
    feedback: FeedbackOut | None

    @staticmethod
    def resolve_phases(row: InferenceRequest) -> list[dict[str, Any]]:
        return [
            {"name": name, "begin_ms": begin, "ms": length} for name, begin, length in row.phases
        ]

    @staticmethod
    def resolve_feedback(row: InferenceRequest) -> Feedback | None:
        return Feedback.objects.filter(request_id=row.request_id).first()


@router.get("/requests", response=list[RequestOut], summary="The request log, newest first")
@paginate(LimitOffset)
def requests(
    request: HttpRequest,
    q: Annotated[str, Query(description="Part of the requested model's name")] = "",
    status: InferenceRequest.Status | None = None,
    api: InferenceRequest.Api | None = None,
    version_id: int | None = None,
    correlation_id: str = "",
    key_id: int | None = None,
) -> QuerySet[InferenceRequest]:
    """Without the texts of prompts and answers."""
    return InferenceRequest.objects.with_names().matching(
        q=q,
        status=status or "",
        api=api or "",
        version=version_id,
        correlation_id=correlation_id,
        token=key_id,
    )


@router.get("/requests/{request_id}", response=WholeRequestOut, summary="One request")
def one(request: HttpRequest, request_id: str) -> InferenceRequest:
    """By its `request_id`, with its texts where they are kept and what was said of it."""
    return get_object_or_404(InferenceRequest.objects.with_names(), request_id=request_id)
