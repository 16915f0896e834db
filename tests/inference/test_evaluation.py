"""Exact match over examples, with plain functions as what answers."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from backends.base import Message
from hub.demo.evaluation import Answer, EvaluationFailed, evaluate, http_ask
from registry.errors import Invalid
from tests.inference.processes import Hub, free_port


def example(question: str, right: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": right},
        ]
    }


def answer(text: str) -> Answer:
    return Answer(text, first_token_ms=10, total_ms=110, completion_tokens=11)


async def test_a_report_counts_and_keeps_the_order() -> None:
    async def echo(messages: Sequence[Message]) -> Answer:
        question = messages[-1]["content"]
        await asyncio.sleep(0.02 if question == "one" else 0)
        return answer(question)

    seen: list[None] = []
    examples = [example("one", "one"), example("two", "2"), example("three", "three")]
    report = await evaluate(echo, examples, on_answer=lambda: seen.append(None))
    assert [row.prompt for row in report.rows] == ["one", "two", "three"]
    assert [row.match for row in report.rows] == [True, False, True]
    assert (report.exact_matches, report.total, len(seen)) == (2, 3, 3)
    assert report.exact_match == pytest.approx(2 / 3)
    assert report.first_token_ms_p50 == 10
    assert report.rows[0].tokens_per_second == pytest.approx(100)
    assert report.tokens_per_second > 0


async def test_the_answer_is_not_part_of_the_question() -> None:
    asked: list[Sequence[Message]] = []

    async def listen(messages: Sequence[Message]) -> Answer:
        asked.append(messages)
        return answer("")

    await evaluate(listen, [{"prompt": "Q", "completion": "A"}, example("Q", "A")])
    assert asked == [[{"role": "user", "content": "Q"}]] * 2


async def test_no_more_than_asked_run_at_once() -> None:
    running = most = 0

    async def count(messages: Sequence[Message]) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        return answer("")

    await evaluate(count, [example("q", "a")] * 20, concurrency=4)
    assert most == 4


@pytest.mark.parametrize("examples", [[], [{"text": "once upon a time"}]])
async def test_what_has_no_right_answer_is_refused(examples: list[dict[str, Any]]) -> None:
    async def never(messages: Sequence[Message]) -> Answer:
        raise AssertionError("nothing is to be asked")

    with pytest.raises(Invalid):
        await evaluate(never, examples)


async def test_asking_a_hub_over_http(processes: Hub) -> None:
    ask = http_ask(processes.url, "calendar")
    got = await ask([Message(role="user", content="Lunch")])
    assert got.text
    assert got.completion_tokens > 0
    assert 0 < got.first_token_ms <= got.total_ms
    report = await evaluate(ask, [example("Lunch", got.text), example("Dinner", got.text)])
    assert report.exact_matches == 1


async def test_the_hubs_refusal_is_told(processes: Hub) -> None:
    with pytest.raises(EvaluationFailed, match="There is no model 'nobody'"):
        await http_ask(processes.url, "nobody")([Message(role="user", content="Lunch")])


async def test_an_absent_hub_is_told() -> None:
    with pytest.raises(EvaluationFailed, match="did not respond"):
        await http_ask(f"http://127.0.0.1:{free_port()}", "x")([Message(role="user", content="")])
