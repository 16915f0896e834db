"""Questions that are not waited for beyond their time."""

from __future__ import annotations

import threading
from time import monotonic

import pytest

from hub.processes.asking import Question

pytestmark = pytest.mark.any_database


def test_all_who_ask_meanwhile_get_one_answer() -> None:
    go, asked = threading.Event(), []

    def ask() -> int:
        go.wait(10)
        asked.append(1)
        return len(asked)

    question = Question(ask, limit_s=10)
    first, second = question.put(), question.put()
    go.set()
    assert (first.get(), second.get()) == (1, 1)
    assert question.put().get() == 2


def test_an_answer_is_kept_for_its_time() -> None:
    asked: list[int] = []
    question = Question(lambda: asked.append(1), limit_s=10, keep_s=60)
    question.put().get()
    question.put().get()
    assert asked == [1]


def test_who_joins_a_question_that_is_overdue_does_not_wait() -> None:
    go = threading.Event()
    question = Question(lambda: go.wait(20), limit_s=0.05)
    with pytest.raises(TimeoutError, match=r"No answer within 0\.05 s"):
        question.put().get()
    began = monotonic()
    with pytest.raises(TimeoutError):
        question.put().get()
    assert monotonic() - began < 5
    go.set()


def test_what_asking_raises_is_raised_to_who_waits() -> None:
    def ask() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        Question(ask, limit_s=10).put().get()
