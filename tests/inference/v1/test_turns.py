"""System turns in every place, for every API."""

from typing import Any

import pytest

from inference.v1.anthropic.schemas import MessagesIn
from inference.v1.ollama.schemas import ChatIn
from inference.v1.openai.schemas import ChatCompletionIn
from inference.v1.responses.schemas import ResponseIn
from inference.v1.turns import settled

pytestmark = pytest.mark.any_database
S, U, A, T = ("system", "user", "assistant", "tool")


def chat(*turns: tuple[str, str]) -> Any:
    return [{"role": role, "content": text} for role, text in turns]


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ([(S, "a"), (S, "b"), (U, "c")], [(S, "a\n\nb"), (U, "c")]),
        ([(S, "a"), (U, "b"), (S, "c"), (A, "d")], [(S, "a"), (U, "b\n\nc"), (A, "d")]),
        ([(U, "a"), (A, "b"), (S, "c"), (U, "d")], [(U, "a"), (A, "b"), (U, "c\n\nd")]),
        ([(U, "a"), (A, "b"), (T, "c"), (S, "d")], [(U, "a"), (A, "b"), (T, "c"), (U, "d")]),
        ([(U, "a"), (U, "b")], [(U, "a"), (U, "b")]),
        ([(T, "a"), (T, "b")], [(T, "a"), (T, "b")]),
    ],
)
def test_a_late_one_keeps_its_place(sent: Any, taken: Any) -> None:
    assert settled(chat(*sent)) == chat(*taken)


def test_turns_of_one_role_are_joined_where_that_is_wanted() -> None:
    assert settled(chat((U, "a"), (U, "b"), (A, "c")), join=True) == chat((U, "a\n\nb"), (A, "c"))


def test_it_is_one_rule_for_all_apis() -> None:
    turns = chat((U, "a"), (A, "b"), (S, "c"), (U, "d"))
    taken = chat((U, "a"), (A, "b"), (U, "c\n\nd"))
    assert ChatCompletionIn(model="m", messages=turns).chat() == taken
    assert MessagesIn(model="m", messages=turns, max_tokens=1).chat() == taken
    assert ResponseIn(model="m", input=turns).chat() == taken
    assert ChatIn(model="m", messages=turns).request().prompts == [taken]
