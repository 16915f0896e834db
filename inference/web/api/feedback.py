"""What people say of answers, over JSON, and the examples it makes."""

# No postponed annotations here: ninja's `paginate` evaluates them in its own module.

import datetime
from typing import Annotated, Any, Literal

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Router, Schema, Status
from ninja.pagination import paginate
from pydantic import ConfigDict

from inference import feedback
from inference.models import Feedback
from registry.web.paging import LimitOffset

router = Router(tags=["inference"])
_TEXT = Field(max_length=1_000_000)


class FeedbackIn(Schema):
    """`prompt` and what follows it are needed only where the log keeps no texts (HUB_LOG_PROMPTS)."""

    model_config = ConfigDict(extra="forbid")

    rating: Literal["good", "bad"] | None = None
    ideal: Annotated[str, _TEXT, Field(description="What the answer should have been")] = ""
    prompt: Annotated[
        list[dict[str, Any]] | str | None, Field(description="The messages, or the text")
    ] = None
    answer: Annotated[str, _TEXT] = ""
    thoughts: Annotated[str, _TEXT] = ""
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] = []
    tool_calls: Annotated[list[dict[str, Any]], Field(max_length=128)] = []
    answered_by: Annotated[str, Field(max_length=250, description="As the answer said")] = ""

    def texts(self) -> feedback.Texts | None:
        if self.prompt is None:
            return None
        return feedback.Texts(
            self.prompt, self.answer, self.thoughts, self.tools, self.tool_calls, self.answered_by
        )


class FeedbackOut(Schema):
    """What a person says of one answer. Texts are null where nobody kept them."""

    request_id: str
    answered_by: str
    rating: str | None
    ideal: str
    prompt: Any
    answer: str
    created_at: datetime.datetime
    updated_at: datetime.datetime

    @staticmethod
    def resolve_rating(row: Feedback) -> str | None:
        return row.rating or None


class FeedbackExamplesIn(Schema):
    kind: Annotated[
        feedback.Kind,
        Field(description="; ".join(f"{k}: {about}" for k, (_, about) in feedback.KINDS.items())),
    ]
    model: Annotated[str, Field(max_length=200, description="Of its versions alone")] = ""


class FeedbackExamplesOut(Schema):
    upload: Annotated[str, Field(description="Register it: `upload` of POST /api/datasets")]
    examples: list[dict[str, Any]]


@router.get("/feedback", response=list[FeedbackOut], summary="Feedback, newest first")
@paginate(LimitOffset)
def every(
    request: HttpRequest, rating: Literal["good", "bad"] | None = None, model: str = ""
) -> QuerySet[Feedback]:
    """`model` is a model's name without its version."""
    rows = Feedback.objects.of_model(model)
    return rows.filter(rating=rating) if rating else rows


@router.put(
    "/requests/{request_id}/feedback",
    response={200: FeedbackOut, 204: None},
    summary="Rate or edit an answer",
)
def rate(request: HttpRequest, request_id: str, payload: FeedbackIn) -> Status[Feedback | None]:
    """Replaces what was said before; 204 when neither a rating nor an ideal answer is left."""
    kept = feedback.rate(request_id, payload.rating or "", payload.ideal, payload.texts())
    return Status(200 if kept else 204, kept)


@router.delete(
    "/requests/{request_id}/feedback", response={204: None}, summary="Take feedback back"
)
def take_back(request: HttpRequest, request_id: str) -> Status[None]:
    get_object_or_404(Feedback, request_id=request_id).delete()
    return Status(204, None)


@router.post(
    "/feedback/examples", response={201: FeedbackExamplesOut}, summary="Make examples of feedback"
)
def make_examples(request: HttpRequest, payload: FeedbackExamplesIn) -> Status[dict[str, Any]]:
    """They wait for a day as an upload, which becomes a data set like any other."""
    saved = feedback.stage(payload.kind, payload.model)
    return Status(
        201, {"upload": saved.key, "examples": feedback.examples(payload.kind, payload.model)}
    )
