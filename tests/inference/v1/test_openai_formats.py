"""Enforced formats with the real `openai` client against real processes."""

import json

import openai
import pytest

from tests.inference.openai_asking import ASK, chat
from tests.inference.processes import Hub

pytestmark = pytest.mark.any_database

DAY = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "day": {"enum": ["Monday", "Friday"]}},
    "required": ["title", "day"],
    "additionalProperties": False,
}


def test_a_json_object_is_one(hub: Hub) -> None:
    answer = chat(hub, response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


@pytest.mark.parametrize("strict", [True, False, None])
def test_a_json_schema_is_kept(hub: Hub, strict: bool | None) -> None:
    schema = {"name": "event", "schema": DAY, "strict": strict}
    answer = chat(hub, response_format={"type": "json_schema", "json_schema": schema})
    value = json.loads(answer.choices[0].message.content)
    assert set(value) == {"title", "day"}
    assert value["day"] in ("Monday", "Friday")


def test_a_pydantic_class_is_parsed(hub: Hub) -> None:
    from pydantic import BaseModel

    class Event(BaseModel):
        title: str
        hour: int

    answer = hub.openai.chat.completions.parse(
        model="calendar", messages=ASK, response_format=Event
    )
    assert isinstance(answer.choices[0].message.parsed, Event)


def test_a_schema_that_cannot_be_followed_is_refused(hub: Hub) -> None:
    schema = {"name": "event", "schema": {"type": "nonsense"}}
    with pytest.raises(openai.BadRequestError, match="nonsense"):
        chat(hub, response_format={"type": "json_schema", "json_schema": schema})
