"""System turns anywhere in a conversation, in the order that every chat template takes."""

import pytest

from backends.base import Message
from inference.v1.turns import arranged, merged

pytestmark = pytest.mark.any_database


def chat(*turns: str) -> list[Message]:
    """Turns such as "user: hello"."""
    return [Message(role=role, content=text) for role, text in (t.split(": ") for t in turns)]


def told(turns: list[Message]) -> list[str]:
    return [f"{turn['role']}: {turn['content']}".replace("\n\n", "|") for turn in turns]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (("user: a", "assistant: b"), ["user: a", "assistant: b"]),
        (("system: s", "system: t", "user: a"), ["system: s|t", "user: a"]),
        (("user: a", "system: s"), ["user: a|s"]),
        (("user: a", "system: s", "system: t", "assistant: b"), ["user: a|s|t", "assistant: b"]),
        (("user: a", "assistant: b", "system: s"), ["user: a", "assistant: b", "user: s"]),
        (
            ("user: a", "assistant: b", "system: s", "system: t", "user: c"),
            ["user: a", "assistant: b", "user: s|t|c"],
        ),
        (
            ("user: a", "tool: r", "system: s", "assistant: b"),
            ["user: a", "tool: r", "user: s", "assistant: b"],
        ),
        (("system: s",), ["system: s"]),
    ],
)
def test_system_turns_go_where_templates_take_them(
    sent: tuple[str, ...], expected: list[str]
) -> None:
    assert told(arranged(chat(*sent))) == expected


def test_a_conversation_that_grows_keeps_its_beginning() -> None:
    whole = chat("system: p", "user: a", "system: s", "assistant: b", "user: c", "system: t")
    asked = arranged(whole[:3])
    assert told(arranged([*whole, *chat("assistant: d")]))[: len(asked)] == told(asked)


def test_turns_of_one_role_are_one_with_all_that_they_have() -> None:
    first = Message(role="assistant", content="b", reasoning_content="x")
    second = Message(role="assistant", content="", reasoning_content="y", tool_calls=[{"id": "1"}])
    whole = merged([*chat("user: a", "user: b"), first, second, *chat("tool: r", "tool: q")])
    assert told(whole) == ["user: a|b", "assistant: b", "tool: r", "tool: q"]
    assert whole[1]["reasoning_content"] == "x\n\ny"
    assert whole[1]["tool_calls"] == [{"id": "1"}]
