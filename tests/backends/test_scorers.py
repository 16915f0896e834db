"""What answers are worth: the scorers, which know neither models nor databases."""

from __future__ import annotations

from typing import Any, cast

import pytest

from backends.base import Thoughts
from backends.lm_eval import parse_results
from backends.scorers import SCORERS, NoAnswer, exact_match, question

pytestmark = pytest.mark.any_database


@pytest.mark.parametrize(
    ("expected", "given", "equal"),
    [
        ('{"a": 1, "b": [2]}', ' {"b":[2],"a":1}\n', True),
        ('{"a": 1}', '{"a": 2}', False),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": 1}', '{"a": 1.0}', True),
        ('{"a": 1}', '{"a": 1} and more', False),
        ("Paris", " Paris\n", True),
        ("Paris", "paris", False),
    ],
)
def test_answers_match_as_json_or_as_text(expected: str, given: str, equal: bool) -> None:
    assert exact_match(expected, given) == equal


@pytest.mark.parametrize(
    ("scorer", "expected", "given", "worth"),
    [
        ("json", '{"a": 1, "b": {"c": 2}}', '{"b": {"c": 2}, "a": 1.0}', 1),
        ("json", '{"a": 1, "b": 2}', '{"a": 1, "b": 3}', 0.5),
        ("json", '{"a": 1}', '{"a": 1, "b": 2, "c": 3}', 0.5),
        ("json", '{"a": 1}', '```json\n{"a": 1}\n```', 1),
        ("json", '{"a": 1}', "a is 1", 0),
        ("json", "[]", "[]", 1),
        ("json", "[1, 2]", "[2, 1]", 0),
        ("contains", "Paris", "It is paris, of course.", 1),
        ("contains", "New  York", "new york", 1),
        ("contains", "Paris", "London", 0),
        ("f1", "the red house", "House, red!", 0.8),
        ("f1", "red", "blue", 0),
        ("f1", "...", "...", 1),
        ("f1", "red", "", 0),
    ],
)
def test_every_scorer_gives_what_an_answer_is_worth(
    scorer: str, expected: str, given: str, worth: float
) -> None:
    assert SCORERS[scorer](expected, given) == pytest.approx(worth)


def test_fields_cannot_be_scored_where_the_right_answer_is_no_json() -> None:
    with pytest.raises(NoAnswer, match="not JSON"):
        SCORERS["json"]("Paris", "Paris")


def test_the_question_is_what_comes_before_the_answer() -> None:
    system = {"role": "system", "content": "Be brief.", "weight": 0}
    asked = question({"messages": [system, *turns("Hi", "Hello")]})
    assert asked.messages == [{"role": "system", "content": "Be brief."}, *turns("Hi", "")[:1]]
    assert (asked.prompt, asked.expected, asked.tools) == ("Hi", "Hello", None)
    assert question({"prompt": "Hi", "completion": "Hello"}).expected == "Hello"
    preferred = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"}
    assert question(preferred).expected == "Hello"
    weighed = [{**turns("Hi", "")[0], "weight": 1}]
    assert question({**preferred, "prompt": weighed}).messages == turns("Hi", "")[:1]


def test_a_question_has_the_thoughts_that_were_learned() -> None:
    before = {"role": "assistant", "content": "a", "reasoning_content": "hm"}
    user = {"role": "user", "content": "q"}
    example = {"messages": [user, before, user, {"role": "assistant", "content": "b"}]}
    for mode, said in (
        ("kept", "<think>\nhm\n</think>\n\na"),
        ("dropped", "a"),
        ("as_written", "a"),
    ):
        asked = question(example, cast(Thoughts, mode)).messages[1]
        assert asked == {"role": "assistant", "content": said}


def test_tools_come_with_the_question() -> None:
    tools = [{"type": "function", "function": {"name": "clock"}}]
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
    said = {"role": "tool", "content": "9:30", "tool_call_id": "1"}
    asked = question(
        {"messages": [*turns("Time?", "")[:1], call, said, *turns("", "9:30")[1:]], "tools": tools}
    )
    assert asked.tools == tools
    assert asked.messages[1:] == [call, said]


@pytest.mark.parametrize(
    "example",
    [
        {"text": "once upon a time"},
        {"messages": [{"role": "user", "content": "Hi"}]},
        {
            "messages": [
                {"role": "user", "content": "Time?"},
                {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Go away.", "weight": 0},
            ]
        },
    ],
)
def test_what_has_no_right_text_is_not_scored(example: dict[str, Any]) -> None:
    with pytest.raises(NoAnswer):
        question(example)


def turns(asked: str, said: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]


def test_figures_are_read_out_of_what_lm_eval_answers() -> None:
    """The answer of lm-eval 0.4 to `simple_evaluate`, shortened."""
    recorded = {
        "results": {
            "arc_easy": {
                "alias": "arc_easy",
                "sample_len": 50,
                "acc,none": 0.5425,
                "acc_stderr,none": "N/A",
                "acc_norm,none": 0.4987,
                "acc_norm_stderr,none": 0.0103,
            },
            "gsm8k": {
                "alias": "gsm8k",
                "exact_match,strict-match": 0.01,
                "exact_match_stderr,strict-match": 0.003,
                "exact_match,flexible-extract": 0.02,
            },
            "mmlu": {"alias": "mmlu", "acc,none": float("nan")},
        },
        "versions": {"arc_easy": 1.0, "gsm8k": 3.0},
        "n-samples": {"arc_easy": {"original": 2376, "effective": 50}},
    }
    assert parse_results(recorded) == {
        "arc_easy": {"acc": 0.5425, "acc_norm": 0.4987},
        "gsm8k": {"exact_match_strict_match": 0.01, "exact_match_flexible_extract": 0.02},
    }
