"""Spans of OpenTelemetry, where an endpoint for them is set. Without one each of these does nothing, and
nothing of OpenTelemetry is imported.

A span is passed on as W3C's `traceparent`: to the engine in its messages, to a child process in the
environment, to the worker in a job's row. Times are nanoseconds since 1970.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

from django.conf import settings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.trace import Span, Tracer

Kind = Literal["internal", "server", "client", "producer", "consumer"]
type Attributes = Mapping[str, str | bool | int | float | Sequence[str] | None]

VARIABLE = "TRACEPARENT"

_tracer: Tracer | None = None
_asked_id: ContextVar[int] = ContextVar("_asked_id", default=0)


def use(tracer: Tracer | None) -> None:
    """Trace with `tracer` from now on; None: not at all."""
    global _tracer
    _tracer = tracer


def ids() -> IdGenerator:
    """Of the provider: random ones, but for spans that were begun with an id."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def generate_span_id(self) -> int:
            return _asked_id.get() or super().generate_span_id()

    return Ids()


class Traced:
    """A span that runs, or nothing where it is not traced."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """For what is done on its behalf elsewhere; empty when nothing is traced or it is not sampled."""
        return "" if self._span is None else _traceparent(self._span)

    def set(self, attributes: Attributes) -> None:
        """Add what is not None."""
        if self._span is not None:
            self._span.set_attributes(_known(attributes))

    def fail(self, kind: str, reason: str = "") -> None:
        """Mark it as failed; `kind` is a code or the name of an exception."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_attribute("error.type", kind)
            self._span.set_status(Status(StatusCode.ERROR, reason or kind))

    def end(self) -> None:
        if self._span is not None:
            self._span.end()

    def part(self, name: str, began: int, ended: int, attributes: Attributes | None = None) -> None:
        """A child that is over already."""
        if self._span is not None:
            from opentelemetry.trace import set_span_in_context

            _past(name, set_span_in_context(self._span), began, ended, attributes)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Within the block it is the parent of what begins, and the trace of what is logged."""
        if self._span is None:
            yield
            return
        from opentelemetry.trace import use_span

        with use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield


OFF = Traced()


def begin(
    name: str,
    *,
    parent: str | None = None,
    kind: Kind = "internal",
    attributes: Attributes | None = None,
    links: Sequence[str] = (),
    span_id: str = "",
) -> Traced:
    """A new span below the current one, or below `parent`; of an empty `parent` nothing is traced, so
    neither is this. `links` are traceparents of what it has to do with elsewhere; `span_id`, 16
    hexadecimal digits, is its own, by which a link finds it later."""
    if _tracer is None or parent == "":
        return OFF
    from opentelemetry.trace import Link, SpanKind, get_current_span

    what, of = SpanKind[kind.upper()], _known(attributes or {})
    others = [Link(get_current_span(_context(one)).get_span_context()) for one in links if one]
    asked = _asked_id.set(int(span_id or "0", 16))
    try:
        return Traced(_tracer.start_span(name, _context(parent), what, of, others))
    finally:
        _asked_id.reset(asked)


@contextmanager
def span(
    name: str,
    *,
    parent: str | None = None,
    kind: Kind = "internal",
    attributes: Attributes | None = None,
    links: Sequence[str] = (),
) -> Iterator[Traced]:
    """`begin`, current within the block; what the block raises makes it failed."""
    traced = begin(name, parent=parent, kind=kind, attributes=attributes, links=links)
    try:
        with traced.current():
            yield traced
    except Exception as error:
        traced.fail(getattr(error, "code", "") or type(error).__qualname__, str(error))
        raise
    finally:
        traced.end()


def past(
    name: str,
    began: int,
    ended: int,
    attributes: Attributes | None = None,
    parent: str | None = None,
) -> None:
    """A span that is over already, below the current one or below `parent` (see `begin`)."""
    if _tracer is not None and parent != "":
        _past(name, _context(parent), began, ended, attributes)


def current() -> str:
    """The traceparent of the current span; empty when there is none or it is not sampled."""
    if _tracer is None:
        return ""
    from opentelemetry.trace import get_current_span

    return _traceparent(get_current_span())


def inherited() -> str | None:
    """The traceparent that this process was started with; None without one."""
    return os.environ.get(VARIABLE) or None


def environment() -> dict[str, str]:
    """For a child process, so that its spans stand below the current one."""
    return {VARIABLE: here} if (here := current()) else {}


def trace_id(traceparent: str) -> str:
    """32 hexadecimal digits, by which a trace is found; empty without one."""
    return traceparent[3:35]


def traceparent(trace: str | None, span_id: str) -> str:
    """That of a span that is known by its ids; empty without a trace."""
    return f"00-{trace}-{span_id}-01" if trace else ""


def url(trace: str | None) -> str:
    """Where a trace is shown; empty without a trace or without HUB_TRACE_URL."""
    return str(settings.TRACE_URL).replace("{trace_id}", trace) if trace else ""


def moment(reading: float) -> int:
    """When `time.perf_counter` gave that `reading`."""
    return time.time_ns() - int((time.perf_counter() - reading) * 1e9)


def _past(
    name: str, context: Context | None, began: int, ended: int, attributes: Attributes | None
) -> None:
    assert _tracer is not None
    over = _tracer.start_span(name, context, start_time=began, attributes=_known(attributes or {}))
    over.end(max(began, ended))


def _known(attributes: Attributes) -> dict[str, str | bool | int | float | Sequence[str]]:
    return {name: value for name, value in attributes.items() if value is not None}


def _traceparent(span: Span) -> str:
    context = span.get_span_context()
    if not (context.is_valid and context.trace_flags.sampled):
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _context(parent: str | None) -> Context | None:
    if parent is None:
        return None
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Into an empty context, so that what cannot be read begins a trace of its own.
    return TraceContextTextMapPropagator().extract({VARIABLE.lower(): parent}, Context())
