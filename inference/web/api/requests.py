"""The request log over JSON."""

# No postponed annotations here: ninja's `paginate` evaluates them in its own module.

import datetime
from typing import Annotated, Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Field, Query, Router, Schema
from ninja.pagination import paginate

from inference.models import InferenceRequest
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
    prefill_ms: float | None
    first_token_ms: float | None
    per_token_ms: float | None
    total_ms: float | None
    tokens_per_second: float | None
    finish_reason: str
    error: str
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
