"""What is wrong with a body is reported by field, by what came and by what is allowed."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from registry.problems import problems

pytestmark = pytest.mark.any_database


class Part(BaseModel):
    type: Literal["text"]
    text: str


class Named(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["function"]
    name: str


class Turn(BaseModel):
    content: str | list[Part]


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    turns: list[Turn] = Field([], max_length=2)
    choice: Literal["none", "auto"] | Named | None = None
    stop: str | list[str] | None = None
    heat: float = Field(0, le=2)
    n: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Asked:
        if self.n == 3:
            raise ValueError("three is too many")
        return self


def told(**sent: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Asked.model_validate(sent)
    return [one.sentence for one in problems(caught.value.errors(), sent)]


@pytest.mark.parametrize(
    ("sent", "sentences"),
    [
        ({"n": 0}, ["n must be greater than or equal to 1, not 0."]),
        ({"n": "many"}, ['n must be an integer, not "many".']),
        ({"n": 3}, ["Three is too many."]),
        ({"stop": 5}, ["stop must be a string or a list, not 5."]),
        ({"stop": ["a", 5]}, ["stop.1 must be a string, not 5."]),
        ({"choice": "maybe"}, ["choice must be 'none' or 'auto', not \"maybe\"."]),
        ({"choice": {"type": "function"}}, ["choice.name is required."]),
        (
            {"heat": 9, "m": 1},
            ["heat must be less than or equal to 2, not 9.", "m is not known here."],
        ),
        ({"turns": [{"content": 5}] * 3}, ["turns must have at most 2 items, not 3."]),
        ({"turns": [{}]}, ["turns.0.content is required."]),
        ({"turns": "x" * 99}, [f'turns must be a list, not "{"x" * 59}….']),
    ],
)
def test_it_is_told_in_words(sent: Any, sentences: list[str]) -> None:
    assert told(**sent) == sentences


@pytest.mark.parametrize(
    ("kind", "word"),
    [("image_url", "images"), ("input_audio", "audio recordings"), ("file", "documents")],
)
def test_what_no_model_here_reads_is_called_by_its_name(kind: str, word: str) -> None:
    turns = [{"content": [{"type": kind, kind: {}}]}]
    assert told(turns=turns)[0] == (
        f"turns.0.content.0: {word} are not supported by this model; send text."
    )


def test_without_the_body_types_are_left_out_too() -> None:
    with pytest.raises(ValidationError) as caught:
        Asked.model_validate({"stop": 5})
    assert all("[" not in one.sentence for one in problems(caught.value.errors()))


class Counted(str):
    """A key that counts how often it is compared."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)


def test_thousands_of_wrong_fields_are_not_compared_with_each_other() -> None:
    found = [
        {"loc": place, "type": "extra_forbidden", "msg": "Extra inputs are not permitted"}
        for n in range(300)
        for place in ((Counted(f"a{n}"),), (Counted(f"b{n}"), Counted("c")))
    ]
    assert len(problems(found)) == 600
    assert Counted.compared < 1000


def test_of_fields_within_each_other_the_innermost_counts() -> None:
    places = [("a",), ("a", "b"), ("a", "b", 0), ("a", "c"), ("ab",)]
    found = [{"loc": place, "type": "missing", "msg": "Field required"} for place in places]
    assert [one.place for one in problems(found)] == ["a.b.0", "a.c", "ab"]
