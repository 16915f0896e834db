"""What a generation leaves behind, however it ends: its row, its counts, its span."""

from collections.abc import Callable
from contextlib import aclosing, nullcontext, suppress
from dataclasses import replace
from typing import Any

import pytest
import structlog
from asgiref.sync import sync_to_async
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from backends.base import Sampling
from backends.fake import FakeBackend
from inference.gateway import metrics
from inference.gateway.generation import aresolve, generate, stream
from inference.gateway.request import Caller, GenerationRequest
from inference.models import InferenceRequest
from inference.protocol import Chunk
from registry import traces
from registry.errors import HubError, Unavailable
from registry.promotion.resolve import Served
from tests.inference.builders import make_base, make_version
from tests.inference.engines import HELLO, running_engine

pytestmark = pytest.mark.usefixtures("db_in_threads")
CALLER = Caller(InferenceRequest.Api.NATIVE)


@pytest.fixture
async def served(db_in_threads: None) -> Served:
    await sync_to_async(lambda: make_version(make_base()))()
    return await aresolve("calendar")


def request(**sampling: Any) -> GenerationRequest:
    return GenerationRequest("calendar", [HELLO], Sampling(**sampling))


async def answer(**sampling: Any) -> str:
    [whole] = await generate(request(**sampling), CALLER)
    return whole.text


async def test_a_completed_answer_is_logged(served: Served) -> None:
    async with running_engine():
        with structlog.contextvars.bound_contextvars(correlation_id="c-7"):
            await answer(max_tokens=5)
    row = await InferenceRequest.objects.select_related("version", "base_model").aget()
    assert row.status == "completed"
    assert row.correlation_id == "c-7"
    assert row.version == served.version
    assert row.base_model == served.base
    assert (row.completion_tokens, row.finish_reason) == (5, "length")
    assert row.params["max_tokens"] == 5
    assert row.first_token_ms is not None
    assert row.total_ms >= row.first_token_ms
    assert row.load_ms is not None  # of its queue's time its model was loaded
    assert 0 < row.load_ms <= row.queue_ms
    assert row.error_code is None


async def test_texts_are_kept_only_when_switched_on(served: Served, settings: Any) -> None:
    async with running_engine():
        await answer()
        settings.LOG_PROMPTS = True
        text = await answer()
    kept, bare = [row async for row in InferenceRequest.objects.all()]
    assert (bare.prompt, bare.completion) == (None, None)
    assert (kept.prompt, kept.completion) == (HELLO, text)


async def test_leaving_in_the_middle_is_logged_as_cancelled(served: Served) -> None:
    async with running_engine(FakeBackend(tokens_per_second=50, reply_words=500)):
        started = await stream(request(), CALLER)
        async with aclosing(started.events) as events:
            async for _, event in events:
                if isinstance(event, Chunk):
                    break
    row = await InferenceRequest.objects.aget()
    assert (row.status, row.streamed) == ("cancelled", True)
    assert row.prompt_tokens > 0
    assert row.completion_tokens == 1


async def test_a_failure_is_logged_with_its_reason(served: Served) -> None:
    with pytest.raises(Unavailable):
        await answer()
    row = await InferenceRequest.objects.aget()
    assert row.status == "failed"
    assert "engine is not running" in row.error
    assert row.error_code == "unavailable"


async def test_a_stream_starts_with_its_version_and_the_length_of_its_prompt(
    served: Served,
) -> None:
    async with running_engine():
        begun = await stream(request(), CALLER)
        await begun.events.aclose()
    assert begun.served.version == served.version
    assert begun.started.prompt_tokens > 0


async def test_each_of_several_answers_has_its_prompt_its_seed_and_its_row(
    served: Served, settings: Any
) -> None:
    settings.LOG_PROMPTS = True
    several = replace(request(seed=7, max_tokens=3), prompts=["one", "two"], n=2)
    async with running_engine():
        answers = await generate(several, CALLER)
    rows = {row.request_id: row async for row in InferenceRequest.objects.all()}
    kept = [(rows[a.request_id].prompt, rows[a.request_id].params["seed"]) for a in answers]
    assert kept == [("one", 7), ("one", 8), ("two", 7), ("two", 8)]


async def test_an_answer_keeps_its_first_call_alone_when_that_is_wanted(served: Served) -> None:
    call = '{"name": "weather", "arguments": {}}'
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    wanted = replace(request(), tools=tools)
    async with running_engine(FakeBackend(reply=f"<tool_call>{call}</tool_call>" * 2)):
        [every] = await generate(wanted, CALLER)
        [first] = await generate(replace(wanted, one_call=True), CALLER)
    assert len(every.done.tool_calls) == 2
    assert first.done.tool_calls == every.done.tool_calls[:1]


def counted(family: Any, **labels: str) -> float:
    """The sum of a counter, or of what a histogram counted, under those labels."""
    samples = [sample for metric in family.collect() for sample in metric.samples]
    total: float = sum(
        s.value
        for s in samples
        if s.name.endswith(("_total", "_count")) and labels.items() <= s.labels.items()
    )
    return total


async def test_requests_and_tokens_are_counted(served: Served) -> None:
    of = {"model": "calendar", "version": "0.1.0"}

    def counts() -> tuple[float, float]:
        return (
            counted(metrics.REQUESTS, outcome="completed", code="", api="native", **of),
            counted(metrics.TOKENS, kind="completion", **of),
        )

    before = counts()
    async with running_engine():
        await answer(max_tokens=5)
    assert counts() == (before[0] + 1, before[1] + 5)


async def leave() -> None:
    begun = await stream(request(), CALLER)
    async with aclosing(begun.events) as events:
        chunks = 0
        async for _, event in events:
            chunks += isinstance(event, Chunk)
            if chunks == 3:
                break


async def test_every_end_is_counted_with_its_time_and_its_code(served: Served) -> None:
    """Cancelled, late, refused and failed requests, and those that name nothing."""
    lasted, first, per_token = metrics.DURATION, metrics.FIRST_TOKEN, metrics.PER_TOKEN
    slow = FakeBackend(tokens_per_second=50, reply_words=500)
    late = replace(request(), deadline_s=0.2)
    wrong = replace(request(), classify=True)  # of a version without labels
    unknown = replace(request(), model="nobody")
    ends: list[tuple[str, str, Callable[[], Any], FakeBackend | None, tuple[int, int]]] = [
        ("cancelled", "", leave, slow, (1, 1)),
        ("late", "deadline_exceeded", lambda: generate(late, CALLER), slow, (1, 1)),
        ("refused", "invalid", lambda: generate(wrong, CALLER), FakeBackend(), (0, 0)),
        ("failed", "unavailable", answer, None, (0, 0)),
        ("refused", "not_found", lambda: generate(unknown, CALLER), FakeBackend(), (0, 0)),
    ]
    for outcome, code, ask, backend, came in ends:
        model = "other" if code == "not_found" else "calendar"
        before = [
            counted(metrics.REQUESTS, model=model, outcome=outcome, code=code),
            counted(lasted, model=model, outcome=outcome),
            counted(first, model="calendar"),
            counted(per_token, model="calendar"),
        ]
        async with running_engine(backend) if backend else nullcontext():
            with suppress(HubError):
                await ask()
        after = [
            counted(metrics.REQUESTS, model=model, outcome=outcome, code=code),
            counted(lasted, model=model, outcome=outcome),
            counted(first, model="calendar"),
            counted(per_token, model="calendar"),
        ]
        grown = [now - then for now, then in zip(after, before, strict=True)]
        assert grown == [1, model == "calendar", *came], (outcome, code)


@pytest.mark.any_database
def test_only_so_many_versions_have_series_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_used", {})
    monkeypatch.setattr(metrics, "MOST_VERSIONS", 2)
    one, two, three = (("many", f"0.{n}.0") for n in range(3))
    for version in (one, two, three):
        metrics.count(*version, metrics.Ended("native", "completed"))
    assert counted(metrics.REQUESTS, model="many") == 2
    assert metrics.labels_of(*three) == metrics.OTHER
    monkeypatch.setattr(metrics, "UNUSED_S", -1.0)
    metrics.count(*three, metrics.Ended("native", "completed"))
    assert counted(metrics.REQUESTS, model="many", version="0.0.0") == 0
    assert counted(metrics.REQUESTS, model="many", version="0.2.0") == 1


async def test_a_span_covers_the_whole_generation(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces, "_tracer", provider.get_tracer("test"))
    async with running_engine(FakeBackend(tokens_per_second=100)):
        await answer(max_tokens=5)
    with pytest.raises(Unavailable):
        await answer()
    *parts, engine, completed, failed = exporter.get_finished_spans()
    provider.shutdown()
    assert completed.name == "chat calendar"
    assert completed.attributes is not None
    assert completed.attributes["gen_ai.response.model"] == "calendar@0.1.0"
    assert completed.attributes["gen_ai.usage.output_tokens"] == 5
    assert completed.end_time is not None
    assert completed.start_time is not None
    assert completed.end_time - completed.start_time > 0.03e9  # nanoseconds; five tokens
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "unavailable"
    row = await InferenceRequest.objects.filter(status="completed").aget()
    assert row.trace_id == f"{completed.context.trace_id:032x}"
    assert engine.parent.span_id == completed.context.span_id
    assert {part.parent.span_id for part in parts} == {engine.context.span_id}
    assert [part.name for part in parts] == ["verify", "queue", "load", "prefill", "decode"]
    times = [(part.start_time, part.end_time) for part in parts]
    assert all(began <= ended for began, ended in times)
    assert times[-1][1] - times[-1][0] > 0.03e9
    assert parts[-1].attributes["gen_ai.usage.output_tokens"] == 5
