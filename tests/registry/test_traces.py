"""Spans across functions and processes, and nothing at all where traces are off."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from registry import traces
from registry.background import work
from registry.errors import Conflict
from registry.models import DatasetTask

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(id_generator=traces.ids())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def parents(sent: InMemorySpanExporter) -> dict[str, str]:
    """The span that each span is below, by name."""
    spans = sent.get_finished_spans()
    ids = {span.context.span_id: span.name for span in spans}
    return {s.name: ids.get(s.parent.span_id, "elsewhere") if s.parent else "" for s in spans}


@pytest.mark.any_database
def test_without_a_tracer_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_tracer", None)
    with traces.span("one", parent=PARENT) as span:
        span.set({"a": 1})
        span.part("two", 1, 2)
        span.fail("broken")
        assert (span.traceparent, traces.current(), traces.environment()) == ("", "", {})
    assert traces.url(None) == ""


@pytest.mark.any_database
def test_spans_stand_below_the_one_they_were_begun_in_or_passed(
    sent: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with traces.span("request", parent=PARENT) as request:
        assert traces.trace_id(traces.current()) == PARENT[3:35]
        monkeypatch.setenv(traces.VARIABLE, traces.environment()[traces.VARIABLE])
        request.part("queue", 5, 3)
    with traces.span("child", parent=traces.inherited()):
        traces.past("phase", 1, 2)
    traces.begin("nothing", parent="").end()
    traces.past("nothing", 1, 2, parent="")
    traces.begin("unreadable", parent="nonsense").end()
    expected = {"queue": "request", "request": "elsewhere", "phase": "child", "child": "request"}
    assert parents(sent) == expected | {"unreadable": ""}
    assert all(span.end_time >= span.start_time for span in sent.get_finished_spans())


@pytest.mark.any_database
def test_a_span_links_to_one_that_is_known_by_its_ids(sent: InMemorySpanExporter) -> None:
    traces.begin("chat", parent=PARENT, span_id="0123456789abcdef").end()
    before = traces.traceparent(PARENT[3:35], "0123456789abcdef")
    with traces.span("replay", links=[before, traces.traceparent(None, "0123456789abcdef")]):
        traces.begin("engine").end()
    chat, engine, replay = sent.get_finished_spans()
    assert [link.context for link in replay.links] == [
        chat.context.__class__(
            chat.context.trace_id,
            chat.context.span_id,
            is_remote=True,
            trace_flags=chat.context.trace_flags,
        )
    ]
    assert len({chat.context.span_id, engine.context.span_id, replay.context.span_id}) == 3


@pytest.mark.any_database
def test_what_is_not_sampled_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("test")
    monkeypatch.setattr(traces, "_tracer", tracer)
    with traces.span("request") as span:
        assert (span.traceparent, traces.environment()) == ("", {})


@pytest.mark.any_database
def test_an_error_gives_its_code(sent: InMemorySpanExporter) -> None:
    for error in (Conflict("Busy."), ValueError("wrong")):
        with pytest.raises(type(error)), traces.span("work"):
            raise error
    codes = [span.attributes["error.type"] for span in sent.get_finished_spans()]
    assert codes == ["conflict", "ValueError"]


@pytest.mark.django_db
def test_a_task_belongs_to_the_request_that_started_it(
    sent: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, Any] = {}

    class Child:
        def __init__(self, command: list[str], **options: Any) -> None:
            started.update(options["env"])

        def wait(self) -> int:
            return 0

        pid = 2**22

    monkeypatch.setattr(subprocess, "Popen", Child)
    task = work.add(DatasetTask(name="one", kind="register"))
    with traces.span("POST /api/datasets"):
        work.launch(task)
    monkeypatch.setenv(traces.VARIABLE, started[traces.VARIABLE])
    with work.doing(task):
        pass
    assert parents(sent)["dataset"] == "POST /api/datasets"
