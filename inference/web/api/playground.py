"""Conversations and presets kept from the playground, over JSON, and requests as code."""

# No postponed annotations here: ninja's `paginate` evaluates them in its own module.

import datetime
from typing import Annotated, Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Router, Schema, Status
from ninja.pagination import paginate
from pydantic import StringConstraints

from inference.models import Conversation, Preset
from inference.native.schemas import InferenceIn, SamplingIn
from inference.playground import programs, snippets
from inference.playground.conversations import Content, Title, keep_conversation
from registry.web.paging import LimitOffset

router = Router(tags=["playground"])
_WORDS = StringConstraints(strip_whitespace=True, min_length=1)
_REVISION = Field(ge=1, description="The revision to replace; 409 when it is not the newest")


class ConversationItem(Schema):
    """A kept conversation in a list."""

    id: int
    title: str
    models: Annotated[list[str], Field(alias="models_asked")]
    turns: int
    created_at: datetime.datetime
    updated_at: datetime.datetime


class ConversationOut(ConversationItem):
    """A whole one. Saving it again needs its `revision`."""

    revision: int
    system: str
    sampling: dict[str, Any]
    tools: list[dict[str, Any]]
    columns: list[dict[str, Any]]


class ConversationIn(Content):
    title: Annotated[Title, Field(description="By default its first words")] = ""


class ContentIn(Content):
    revision: Annotated[int, _REVISION]


class TitleIn(Schema):
    title: Annotated[Title, _WORDS]


class PresetIn(Schema):
    """How a model is asked, under a name."""

    name: Annotated[str, _WORDS, Field(max_length=100)]
    model: Annotated[
        str, Field(max_length=200, description="A model's name without its version; empty: for all")
    ] = ""
    system: Annotated[str, Field(max_length=1_000_000)] = ""
    sampling: Annotated[SamplingIn, Field(description="With json_schema or regex")] = SamplingIn()
    tools: Annotated[
        list[dict[str, Any]], Field(max_length=128, description="OpenAI's function descriptions")
    ] = []

    def fields(self) -> dict[str, Any]:
        """Those of the row; of the sampling what was said."""
        said = self.sampling.model_dump(mode="json", exclude_unset=True)
        return self.dict() | {"sampling": said}


class PresetOut(Schema):
    id: int
    name: str
    model: str
    system: str
    sampling: dict[str, Any]
    tools: list[dict[str, Any]]
    updated_at: datetime.datetime


class CodeOut(Schema):
    """The same request over `/v1`."""

    curl: Annotated[str, Field(description="For a POSIX shell")]
    python: Annotated[str, Field(description="For the `openai` package")]
    anthropic: Annotated[str, Field(description="For the `anthropic` package")]
    javascript: Annotated[str, Field(description="For Node and the `openai` package")]


@router.get("/playground/conversations", response=list[ConversationItem], summary="Conversations")
@paginate(LimitOffset)
def conversations(request: HttpRequest, q: str = "") -> QuerySet[Conversation]:
    """Kept conversations, newest first; `q` is part of the title."""
    return Conversation.objects.titled(q)


@router.post(
    "/playground/conversations", response={201: ConversationOut}, summary="Keep a conversation"
)
def keep(request: HttpRequest, payload: ConversationIn) -> Status[Conversation]:
    return Status(201, keep_conversation(payload, payload.title))


@router.get(
    "/playground/conversations/{int:conversation_id}",
    response=ConversationOut,
    summary="One conversation",
)
def conversation(request: HttpRequest, conversation_id: int) -> Conversation:
    return get_object_or_404(Conversation, pk=conversation_id)


@router.put(
    "/playground/conversations/{int:conversation_id}",
    response=ConversationOut,
    summary="Replace what a conversation says",
)
def replace(request: HttpRequest, conversation_id: int, payload: ContentIn) -> Conversation:
    found = get_object_or_404(Conversation, pk=conversation_id)
    found.keep(payload.revision, **payload.row())
    return found


@router.patch(
    "/playground/conversations/{int:conversation_id}",
    response=ConversationOut,
    summary="Rename a conversation",
)
def rename(request: HttpRequest, conversation_id: int, payload: TitleIn) -> Conversation:
    found = get_object_or_404(Conversation, pk=conversation_id)
    found.rename(payload.title)
    return found


@router.delete(
    "/playground/conversations/{int:conversation_id}",
    response={204: None},
    summary="Delete a conversation",
)
def delete(request: HttpRequest, conversation_id: int) -> Status[None]:
    get_object_or_404(Conversation, pk=conversation_id).delete()
    return Status(204, None)


@router.get("/playground/presets", response=list[PresetOut], summary="Presets")
@paginate(LimitOffset)
def presets(request: HttpRequest, model: str | None = None) -> QuerySet[Preset]:
    """With `model` those of this model and those for all."""
    return Preset.objects.all() if model is None else Preset.objects.offered_to(model)


@router.post("/playground/presets", response={201: PresetOut}, summary="Keep a preset")
def keep_preset(request: HttpRequest, payload: PresetIn) -> Status[Preset]:
    preset = Preset()
    preset.keep(**payload.fields())
    return Status(201, preset)


@router.put("/playground/presets/{int:preset_id}", response=PresetOut, summary="Change a preset")
def change_preset(request: HttpRequest, preset_id: int, payload: PresetIn) -> Preset:
    preset = get_object_or_404(Preset, pk=preset_id)
    preset.keep(**payload.fields())
    return preset


@router.delete(
    "/playground/presets/{int:preset_id}", response={204: None}, summary="Delete a preset"
)
def delete_preset(request: HttpRequest, preset_id: int) -> Status[None]:
    get_object_or_404(Preset, pk=preset_id).delete()
    return Status(204, None)


@router.post("/playground/code", response=CodeOut, summary="A request as programs")
def code(request: HttpRequest, payload: InferenceIn) -> dict[str, str]:
    """Nothing is generated. Beyond loopback the code sends the key in HUB_API_KEY."""
    body = snippets.chat_body(payload)
    origin = f"{request.scheme}://{request.get_host()}"
    keyed = not settings.IS_LOOPBACK
    return {
        "curl": snippets.curl(body, origin, keyed),
        "python": snippets.python(body, origin, keyed),
        "anthropic": programs.anthropic(body, origin, keyed),
        "javascript": programs.javascript(body, origin, keyed),
    }
