"""Base models over JSON."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Router, Status
from ninja.pagination import LimitOffsetPagination, paginate

from registry import bases
from registry.models import BaseModel
from registry.schemas import BaseIn, BaseOut

router = Router(tags=["base models"])


@router.get("/bases", response=list[BaseOut], summary="Base models")
@paginate(LimitOffsetPagination)
def base_models(request: HttpRequest) -> QuerySet[BaseModel]:
    """What models can be fine-tuned from; each answers as `base:NAME`."""
    return BaseModel.objects.all()


@router.post("/bases", response={201: BaseOut}, summary="Import the bundled base model")
def create_base(request: HttpRequest, payload: BaseIn) -> Status[BaseModel]:
    """Takes seconds the first time; afterwards it gives what is there."""
    return Status(201, bases.register_starter())
