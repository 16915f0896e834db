"""Scores a model on the examples of a data set by exact match.

`evaluate` knows nothing about HTTP or the engine: it calls `ask`. `http_ask` makes an `ask` that
sends requests to a running hub like any client.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from backends.base import Message
from backends.scorers import NoAnswer, exact_match, question
from registry.errors import HubError, Invalid

TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Answer:
    """One answer and how long the client waited for it. Times are milliseconds."""

    text: str
    first_token_ms: float
    total_ms: float
    completion_tokens: int


Ask = Callable[[Sequence[Message]], Awaitable[Answer]]


@dataclass(frozen=True)
class Row:
    """One example: the prompt, the expected answer, and the answer."""

    prompt: str
    expected: str
    answer: str
    match: bool
    first_token_ms: float
    tokens_per_second: float | None


@dataclass(frozen=True)
class Report:
    """All examples in their order. `seconds` is the duration of the whole evaluation."""

    rows: tuple[Row, ...]
    completion_tokens: int
    seconds: float

    @property
    def total(self) -> int:
        return len(self.rows)

    @property
    def exact_matches(self) -> int:
        return sum(row.match for row in self.rows)

    @property
    def exact_match(self) -> float:
        """Fraction of exact matches, 0 to 1."""
        return self.exact_matches / self.total

    @property
    def first_token_ms_p50(self) -> float:
        return statistics.median(row.first_token_ms for row in self.rows)

    @property
    def tokens_per_second(self) -> float:
        """All streams together."""
        return self.completion_tokens / self.seconds


class EvaluationFailed(HubError):
    """A request got no answer; the text says why."""


async def evaluate(
    ask: Ask,
    examples: Iterable[Mapping[str, Any]],
    *,
    concurrency: int = 8,
    on_answer: Callable[[], object] | None = None,
) -> Report:
    """Ask every example, `concurrency` at a time, and compare each answer with the expected one.

    Examples come from a data set (chat or completions format). `on_answer` is called after each.
    Raises Invalid for examples without an expected answer, and whatever `ask` raises.
    """
    questions = [_question(example) for example in examples]
    if not questions:
        raise Invalid("There are no examples to evaluate; choose a split that has examples.")
    free = asyncio.Semaphore(concurrency)

    async def one(messages: list[Message], expected: str) -> tuple[Row, int]:
        async with free:
            answer = await ask(messages)
        if on_answer is not None:
            on_answer()
        return _row(messages, expected, answer), answer.completion_tokens

    began = time.perf_counter()
    tasks = [asyncio.create_task(one(*question)) for question in questions]
    try:
        results = await asyncio.gather(*tasks)
    finally:
        for task in tasks:  # the first failure cancels the others
            task.cancel()
    seconds = time.perf_counter() - began
    return Report(tuple(row for row, _ in results), sum(n for _, n in results), seconds)


def http_ask(
    url: str,
    model: str,
    *,
    max_tokens: int = 256,
    token: str = "",
    on_text: Callable[[str], object] | None = None,
) -> Ask:
    """An `ask` that streams `/v1/chat/completions` of the hub at `url`, greedily.

    `on_text` receives each piece of the answer as it arrives.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def ask(messages: Sequence[Message]) -> Answer:
        body = {
            "model": model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        began = time.perf_counter()
        first: float | None = None
        text: list[str] = []
        tokens = 0
        try:
            async with (
                httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, headers=headers) as http,
                http.stream("POST", "/v1/chat/completions", json=body) as response,
            ):
                if response.is_error:
                    await response.aread()
                    raise EvaluationFailed(_error_text(response.json()))
                async for chunk in _chunks(response):
                    tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
                    for choice in chunk["choices"]:
                        if piece := choice["delta"].get("content"):
                            first = first or time.perf_counter()
                            text.append(piece)
                            if on_text is not None:
                                on_text(piece)
        except (httpx.HTTPError, ValueError) as error:
            raise EvaluationFailed(f"The hub at {url} did not respond: {error!r}.") from error
        ended = time.perf_counter()
        first_token_ms = ((first or ended) - began) * 1000
        return Answer("".join(text), first_token_ms, (ended - began) * 1000, tokens)

    return ask


async def _chunks(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The events of one stream. Raises EvaluationFailed for an error event."""
    async for line in response.aiter_lines():
        data = line.removeprefix("data: ")
        if not data or data == "[DONE]":
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            raise EvaluationFailed(_error_text(chunk))
        yield chunk


def _question(example: Mapping[str, Any]) -> tuple[list[Message], str]:
    try:
        asked = question(example)
    except NoAnswer as error:
        raise Invalid(str(error)) from None
    return asked.messages, asked.expected


def _row(messages: Sequence[Message], expected: str, answer: Answer) -> Row:
    decoding = answer.total_ms - answer.first_token_ms
    decoded = answer.completion_tokens - 1
    return Row(
        prompt=messages[-1]["content"],
        expected=expected,
        answer=answer.text,
        match=exact_match(expected, answer.text) == 1,
        first_token_ms=answer.first_token_ms,
        tokens_per_second=decoded / decoding * 1000 if decoded > 0 and decoding > 0 else None,
    )


def _error_text(body: Any) -> str:
    try:
        return str(body["error"]["message"])
    except (KeyError, TypeError):
        return f"The hub responded with {str(body)[:200]}."
