"""Checks of clients over JSON."""

# No postponed annotations here: ninja's `paginate` evaluates them in its own module.

import datetime
from typing import Annotated

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Router, Schema, Status
from ninja.pagination import paginate

from inference.clients import checks
from inference.clients.table import report
from inference.models import ClientCheck
from registry.background import work
from registry.web.paging import LimitOffset

router = Router(tags=["inference"])


class ClientCheckIn(Schema):
    model: Annotated[
        str,
        Field(description="NAME, NAME@VERSION, NAME@ALIAS, base:NAME or the name of a base model"),
    ]


class ClientCheckOut(Schema):
    """How far a check is."""

    id: int
    name: str
    status: str
    total: int
    asked: int
    error: Annotated[str, Field(validation_alias="error_message")]
    created_at: datetime.datetime


class ClientOutcomeOut(Schema):
    """What came of one behaviour, or one client's session, over one API."""

    name: str
    face: Annotated[str, Field(description="chat, responses, messages or ollama")]
    state: Annotated[
        str,
        Field(description="passed, failed (the model's doing), broken (the hub's) or skipped"),
    ]
    reason: str
    promised: Annotated[bool, Field(description="No model can fail it")]


class ClientReportOut(ClientCheckOut):
    """What the check found. `lost` is what the base model passes and this version does not,
    `lost_to_production` the same of the version in production."""

    passed: int
    judged: int
    outcomes: list[ClientOutcomeOut]
    lost: list[ClientOutcomeOut]
    lost_to_production: list[ClientOutcomeOut]


def _checks() -> QuerySet[ClientCheck]:
    return ClientCheck.objects.up_to_date().select_related("version__model", "base_model")


@router.get(
    "/client-checks", response=list[ClientCheckOut], summary="Checks of clients, newest first"
)
@paginate(LimitOffset)
def client_checks(
    request: HttpRequest, version_id: int | None = None, base_id: int | None = None
) -> QuerySet[ClientCheck]:
    """`base_id` chooses those of a base model alone."""
    found = _checks()
    if version_id is not None:
        found = found.filter(version=version_id)
    return found if base_id is None else found.filter(version=None, base_model=base_id)


@router.post("/client-checks", response={202: ClientCheckOut}, summary="Check clients")
def start(request: HttpRequest, payload: ClientCheckIn) -> Status[ClientCheck]:
    """Ask a version, or a base model, over every API, for what agents need. A version's metrics are `clients_passed`,
    `clients_lost`, `clients_broken` and one `client_NAME` for each behaviour."""
    return Status(202, work.launch(checks.plan(payload.model)))


@router.get("/client-checks/{int:check_id}", response=ClientReportOut, summary="What a check found")
def one(request: HttpRequest, check_id: int) -> dict[str, object]:
    row = get_object_or_404(_checks(), pk=check_id)
    made = report(row)
    told = ClientCheckOut.from_orm(row).model_dump()
    return {
        **told,
        "error_message": row.error_message,
        "passed": made.passed,
        "judged": made.judged,
        "outcomes": row.outcomes,
        "lost": [outcome.as_json() for outcome in made.lost],
        "lost_to_production": [outcome.as_json() for outcome in made.lost_to_production],
    }
