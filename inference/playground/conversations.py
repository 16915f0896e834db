"""Conversations that are kept: what they hold, and how they are created."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from inference.gateway.request import MAX_MESSAGES
from inference.models import TITLE_LENGTH, Conversation
from inference.native.schemas import SamplingIn
from registry.errors import Invalid

MAX_COLUMNS = 4
MAX_BRANCHES = 100  # of one message
_SUGGESTED = 60  # characters of a title taken from the first message

_Text = Annotated[str, Field(max_length=1_000_000)]
_Name = Annotated[str, Field(max_length=250)]
Title = Annotated[str, Field(max_length=TITLE_LENGTH)]


class Figures(BaseModel):
    """How fast an answer came; milliseconds and tokens."""

    model_config = ConfigDict(extra="forbid")

    first_token_ms: float | None = None
    tokens_per_second: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None


class Called(BaseModel):
    """A tool that the answer calls; `arguments` is JSON text."""

    model_config = ConfigDict(extra="forbid")

    name: _Name
    arguments: _Text


class Exchange(BaseModel):
    """A message, its answer, and what answered it.

    `others` are the other branches of the conversation that begin in this one's place, each with all
    that follows there; `at` is this one's place among them.
    """

    model_config = ConfigDict(extra="forbid")

    user: _Text
    answer: _Text
    thoughts: _Text = ""
    tool_calls: Annotated[list[Called], Field(max_length=128)] = []
    request_id: Annotated[str, Field(max_length=64)] = ""
    answered_by: _Name = ""
    finish_reason: Annotated[str, Field(max_length=20)] = ""
    seed: Annotated[int | None, Field(ge=0, lt=2**63)] = None
    figures: Figures = Figures()
    others: Annotated[
        list[Annotated[list[Exchange], Field(min_length=1, max_length=MAX_MESSAGES // 2)]],
        Field(max_length=MAX_BRANCHES),
    ] = []
    at: Annotated[int, Field(ge=0, le=MAX_BRANCHES)] = 0


class Column(BaseModel):
    """One model's side of the conversation."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[_Name, Field(min_length=1)]
    exchanges: Annotated[list[Exchange], Field(max_length=MAX_MESSAGES // 2)] = []


class Content(BaseModel):
    """A whole conversation as the playground shows it."""

    model_config = ConfigDict(extra="forbid")

    system: _Text = ""
    sampling: SamplingIn = SamplingIn()
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] = []
    columns: Annotated[list[Column], Field(min_length=1, max_length=MAX_COLUMNS)]

    def row(self) -> dict[str, Any]:
        """The fields of a Conversation. Raises Invalid when it is empty."""
        if not any(column.exchanges for column in self.columns):
            raise Invalid("There is nothing to keep yet; send a message first.")
        return {
            "system": self.system,
            "sampling": self.sampling.model_dump(mode="json", exclude_unset=True),
            "tools": self.tools,
            "columns": [column.model_dump(mode="json") for column in self.columns],
        }


def keep_conversation(content: Content, title: str = "") -> Conversation:
    """Keep a conversation under `title`, or under its first words. Raises Invalid."""
    row = content.row()
    if not (title := title.strip()):
        first = next(column for column in content.columns if column.exchanges)
        title = " ".join(first.exchanges[0].user.split())
        if len(title) > _SUGGESTED:
            title = f"{title[: _SUGGESTED - 1].rstrip()}…"
    return Conversation.objects.create(title=title, **row)
