"""What counts as personal data, and what only looks like it."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from registry.datasets.workbench import personal, texts

pytestmark = pytest.mark.any_database


def found(text: str) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in personal.find(text)]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("Mail ana.lopez+x@mail.example.co.uk, now", ("mail", "ana.lopez+x@mail.example.co.uk")),
        ("<o'b@x.org>", ("mail", "b@x.org")),
        ("Call +49 30 901820 today", ("phone", "+49 30 901820")),
        ("or (212) 736-5000.", ("phone", "(212) 736-5000")),
        ("in London: 020 7183 8750", ("phone", "020 7183 8750")),
        ("card 4111 1111 1111 1111", ("card", "4111 1111 1111 1111")),
        ("card 378282246310005", ("card", "378282246310005")),
    ],
)
def test_personal_data_is_found_where_it_stands(text: str, what: tuple[str, str]) -> None:
    assert found(text) == [what]


@pytest.mark.parametrize(
    "text",
    [
        "a@b, user@localhost, @name and 5@6.7",
        "4111 1111 1111 1112",  # the check digit is wrong
        "order 2127365000",  # digits alone may be anything
        "2024-10-10 12:30:22, 10.0.0.1, 3.14159265358979",
        "f(x) = 12345678 / 9876543",
    ],
)
def test_what_only_looks_like_it_is_not(text: str) -> None:
    assert found(text) == []


def test_numbers_of_other_countries_need_a_plus_or_the_setting(settings: Settings) -> None:
    text = "Ruf an: 030 901820"
    assert found(text) == []
    settings.PHONE_REGIONS = ["DE"]
    assert found(text) == [("phone", "030 901820")]
    settings.PHONE_REGIONS = []
    assert found("call (212) 736-5000 or +1 212 736 5000") == [("phone", "+1 212 736 5000")]


def test_all_of_a_row_is_redacted_but_its_names() -> None:
    row = {
        "messages": [
            {"role": "user", "content": "I am a@example.org", "name": "a@example.org"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"function": {"name": "mail", "arguments": {"to": ["b@example.org"], "n": 1}}}
                ],
            },
        ]
    }
    done = texts.changed(row, personal.redact)["messages"]
    assert done[0]["content"] == "I am [mail address]"
    assert done[0]["name"] == "a@example.org"
    call = done[1]["tool_calls"][0]["function"]
    assert call["arguments"] == {"to": ["[mail address]"], "n": 1}


def test_texts_are_compared_by_words_lines_or_as_a_whole() -> None:
    assert texts.compared("one two three", "one 2 three") == [
        ("equal", "one "),
        ("removed", "two"),
        ("added", "2"),
        ("equal", " three"),
    ]
    many = "".join(f"{n}\n" for n in range(1500))
    assert texts.compared(many, many + "x") == [("equal", many), ("added", "x")]
    lines = "a\n" * 3000
    assert texts.compared(lines, f"{lines}b\n") == [("removed", lines), ("added", f"{lines}b\n")]


@pytest.mark.parametrize(
    ("row", "empty"),
    [
        ({"prompt": "a", "completion": " "}, True),
        ({"prompt": "a", "completion": "b"}, False),
        ({"prompt": "a", "chosen": "b", "rejected": ""}, True),
        ({"text": "a"}, False),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, False),
        ({"prompt": [], "chosen": [{"role": "assistant", "content": ""}], "rejected": "b"}, True),
    ],
)
def test_an_empty_answer_is_one_without_text_and_calls(row: dict[str, object], empty: bool) -> None:
    assert texts.has_empty_answer(row) is empty
