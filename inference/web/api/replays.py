"""Replays over JSON."""

# No postponed annotations here: ninja's `paginate` evaluates them in its own module.

import datetime
from typing import Annotated, Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Router, Schema, Status
from ninja.pagination import paginate

from inference import replay
from inference.models import Replay, ReplayAnswer
from registry.background import work
from registry.web.paging import LimitOffset

router = Router(tags=["inference"])


class ReplayIn(Schema):
    source: Annotated[str, Field(description="NAME@VERSION whose requests are taken")]
    target: Annotated[str, Field(description="NAME@VERSION that answers them now")]
    since: Annotated[str, Field(description="30m, 24h, 7d, or a date")] = "24h"
    limit: Annotated[int, Field(ge=1, le=replay.MOST, description="The newest so many")] = 200


class ReplayOut(Schema):
    """Shares are 0 to 1; the target version's metric `replay_agreement` is the newest one's."""

    id: int
    source: str
    target: str
    since: datetime.datetime
    until: datetime.datetime
    status: str
    total: int
    skipped: int
    asked: int
    agreed: int
    agreement: float | None
    similarity: float | None
    error: Annotated[str, Field(validation_alias="error_message")]
    created_at: datetime.datetime

    @staticmethod
    def resolve_source(row: Replay) -> str:
        return str(row.source)

    @staticmethod
    def resolve_target(row: Replay) -> str:
        return str(row.target)


class ReplayAnswerOut(Schema):
    prompt: Any
    before: str
    after: str
    same: bool
    similarity: float
    error: str


def _replays() -> QuerySet[Replay]:
    return Replay.objects.up_to_date().select_related("source__model", "target__model")


@router.get("/replays", response=list[ReplayOut], summary="Replays, newest first")
@paginate(LimitOffset)
def replays(request: HttpRequest) -> QuerySet[Replay]:
    return _replays()


@router.post("/replays", response={202: ReplayOut}, summary="Replay requests")
def start(request: HttpRequest, payload: ReplayIn) -> Status[Replay]:
    """Send one version's stored requests to another and compare the answers."""
    source, target = replay.version_named(payload.source), replay.version_named(payload.target)
    planned = replay.plan(source, target, replay.start_of(payload.since), limit=payload.limit)
    return Status(202, work.launch(planned))


@router.get("/replays/{int:replay_id}", response=ReplayOut, summary="One replay")
def one(request: HttpRequest, replay_id: int) -> Replay:
    return get_object_or_404(_replays(), pk=replay_id)


@router.get(
    "/replays/{int:replay_id}/answers",
    response=list[ReplayAnswerOut],
    summary="Its answers, then and now",
)
@paginate(LimitOffset)
def answers(
    request: HttpRequest, replay_id: int, different: bool = False
) -> QuerySet[ReplayAnswer]:
    """With `different` those alone where both do not say the same."""
    found = get_object_or_404(Replay, pk=replay_id).answers.order_by("similarity", "pk")
    return found.filter(same=False) if different else found
