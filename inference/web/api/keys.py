"""API keys over JSON; beyond loopback they need a key of the scope admin."""

# No postponed annotations here: ninja's `paginate` evaluates them in its own module.

import datetime
from typing import Annotated

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Router, Schema, Status
from ninja.pagination import paginate

from inference.keys import issue_key, limit_key, require_scope, revoke_key
from inference.models import ApiToken
from registry.web.paging import LimitOffset

router = Router(tags=["keys"])
_RUNNING = Field(description="Requests answered at the same time; null is no limit")
_WAITING = Field(description="Requests that may wait; null is no limit")


class KeyOut(Schema):
    """A key and its usage; its text is shown only when it is created."""

    id: int
    name: str
    prefix: str
    scope: str
    max_running: int | None
    max_waiting: int | None
    requests: int
    prompt_tokens: int
    completion_tokens: int
    created_at: datetime.datetime
    last_used_at: datetime.datetime | None
    revoked_at: datetime.datetime | None


class LimitsIn(Schema):
    max_running: Annotated[int | None, _RUNNING] = None
    max_waiting: Annotated[int | None, _WAITING] = None


class KeyIn(LimitsIn):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    scope: ApiToken.Scope = ApiToken.Scope.INFERENCE


class NewKeyOut(KeyOut):
    text: Annotated[str, Field(description="Send it as a bearer token; it is shown this once")]


@router.get("/keys", response=list[KeyOut], summary="API keys")
@paginate(LimitOffset)
def keys(request: HttpRequest) -> QuerySet[ApiToken]:
    return ApiToken.objects.all()


@router.post("/keys", response={201: NewKeyOut}, summary="Make an API key")
def make(request: HttpRequest, payload: KeyIn) -> Status[dict[str, object]]:
    """The answer has the key's text, which is stored nowhere."""
    require_scope(request, payload.scope)
    key, text = issue_key(payload.name, payload.scope, payload.max_running, payload.max_waiting)
    return Status(201, {**KeyOut.from_orm(key).dict(), "text": text})


@router.patch("/keys/{int:key_id}", response=KeyOut, summary="Change a key's limits")
def limit(request: HttpRequest, key_id: int, payload: LimitsIn) -> ApiToken:
    key = get_object_or_404(ApiToken, pk=key_id)
    return limit_key(key, payload.max_running, payload.max_waiting)


@router.delete("/keys/{int:key_id}", response=KeyOut, summary="Revoke a key")
def revoke(request: HttpRequest, key_id: int) -> ApiToken:
    """It is refused from now on; its row stays for the request log."""
    key = get_object_or_404(ApiToken, pk=key_id)
    revoke_key(key)
    key.refresh_from_db()
    return key
