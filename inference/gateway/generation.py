"""From a request to its answers: through the engine, measured, traced and logged.

`generate` gives whole answers, `stream` gives them piece by piece; every API calls one of the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from backends.base import Message, Question, Sampling
from inference.gateway import client, metrics
from inference.gateway.answer import Answer, Direct, Events, Stream, collect
from inference.gateway.database import in_thread, reconnecting, remembered
from inference.gateway.record import Record, correlation_id, named
from inference.gateway.request import Caller, GenerationRequest, answered_by, folders
from inference.gateway.together import together
from inference.gateway.vectors import prompted, shortened
from inference.protocol import Chunk, Count, Done, Embed, Read, Started
from registry import traces
from registry.errors import HubError, Invalid
from registry.promotion.resolve import Served, check, find

log = structlog.get_logger(__name__)
_find = remembered(find)
EMBED_AT_ONCE = 32  # texts in one line to the engine, so that no line grows beyond reason


async def aresolve(name: str) -> Served:
    """As `registry.promotion.resolve.resolve`."""
    return await _resolve(name)


@in_thread
def _resolve(names: Sequence[str]) -> list[Served | Exception]:
    """Those that were asked for at once; each name is looked up once."""
    found: dict[str, Served | Exception] = {}
    for name in names:
        if name not in found:
            found[name] = _resolved(name)
    return [found[name] for name in names]


def _resolved(name: str) -> Served | Exception:
    try:
        served = reconnecting(_find, name)
        check(served)
    except Exception as error:
        return error
    return served


async def generate(request: GenerationRequest, caller: Caller) -> list[Answer]:
    """All answers, whole and in order. Raises HubError; being cancelled stops the engine too."""
    served = await _writer(request.model, caller)
    events = _events(served, request, caller)
    return await collect(served, events, request.answers)


async def stream(request: GenerationRequest, caller: Caller) -> Stream:
    """The answers, piece by piece, once the first has started. Raises HubError until then, and
    from its `events` afterwards."""
    served = await _writer(request.model, caller)
    events = _events(served, request, caller, direct := Direct())
    _, started = await anext(events)
    assert isinstance(started, Started), "an answer starts with Started or an exception"
    return Stream(served, started, events, request.answers, direct)


async def _writer(model: str, caller: Caller | None = None) -> Served:
    """What answers under that name. Raises HubError, also for what makes nothing but vectors."""
    with _refusals_counted(caller):
        served = await aresolve(model)
        served.base.refuse_embedding_model()
    return served


@contextmanager
def _refusals_counted(caller: Caller | None) -> Iterator[None]:
    """Around the search for what answers: without it a request has no row, but is counted."""
    try:
        yield
    except HubError as error:
        if caller is not None:
            outcome, code = metrics.outcome_of(error), metrics.code_of(error)
            metrics.count(*metrics.OTHER, metrics.Ended(caller.api.value, outcome, code))
        raise


def _events(
    served: Served, request: GenerationRequest, caller: Caller, direct: Direct | None = None
) -> Events:
    """`direct` is a stream's."""
    answers = [_answer(served, request, caller, index, direct) for index in range(request.answers)]
    return answers[0] if len(answers) == 1 else together(answers, request.n, caller.at_once)


async def _answer(
    served: Served, request: GenerationRequest, caller: Caller, index: int, direct: Direct | None
) -> Events:
    """One Started, Chunks, one Done. However it ends, it leaves one InferenceRequest, one span and
    its counts."""
    record = Record(served, request, caller, index, streamed=direct is not None)
    span = _begin(record, "chat")

    def take(chunk: Chunk) -> bool:
        if direct is None or direct.take is None or not direct.take(chunk):
            return False
        record.note(chunk)
        return True

    try:
        async with aclosing(client.generate(record.for_engine(), take)) as events:
            async for event in events:
                record.note(event)
                if isinstance(event, Done):
                    await record.write()  # a client that has the answer also finds its row
                yield index, _first_call(event) if request.one_call else event
    except Exception as error:
        _fail(record, error)
        raise
    finally:
        if direct is not None:
            direct.take = None  # which has references to what has one to the stream
        _end(span, record)
        await record.write()


def _first_call(event: Started | Read | Chunk | Done) -> Started | Read | Chunk | Done:
    """Without the calls after the first."""
    if isinstance(event, Done):
        return replace(event, tool_calls=event.tool_calls[:1])
    if isinstance(event, Chunk) and event.calls:
        return replace(event, calls=[one for one in event.calls if one["number"] == 0])
    return event


async def generate_unlogged(
    served: Served, request: GenerationRequest, **sender: Any
) -> list[Answer]:
    """As `generate`, straight from the engine: no row, no counts. `sender` is whose request it is,
    as in `GenerationRequest.for_engine`. Raises HubError."""

    async def events() -> Events:
        for index in range(request.answers):
            asked = request.for_engine(served, index, traceparent=traces.current(), **sender)
            engine = client.generate(asked)
            async with aclosing(engine) as came:
                async for event in came:
                    yield index, event

    return await collect(served, events(), request.answers)


@dataclass(frozen=True)
class Embeddings:
    """A vector of unit length for each text."""

    served: Served
    request_id: str
    vectors: Sequence[list[float]]
    prompt_tokens: int


@dataclass(frozen=True)
class Ranking:
    """How well each text answers a query, from 0 to 1, in the texts' order."""

    served: Served
    request_id: str
    scores: Sequence[float]
    prompt_tokens: int


async def rank(model: str, question: Question, texts: Sequence[str], caller: Caller) -> Ranking:
    """How well each of `texts` answers the question; logged like an answer without tokens. Raises what
    `embed` raises."""
    with _refusals_counted(caller):
        served = await aresolve(model)
        if served.base.embeds_only and not served.base.reranks:
            raise Invalid(
                f"{served.label} makes vectors of single texts and ranks none; choose a reranker, or "
                "compare the texts' vectors with the query's."
            )
    asked = {"query": question.query, "instruction": question.instruction}
    found, record = await _read(served, model, texts, caller, "rerank", asked)
    return Ranking(served, record.request_id, [one for [one] in found], record.prompt_tokens)


async def embed(
    model: str,
    texts: Sequence[str],
    caller: Caller,
    dimensions: int | None = None,
    prompt_name: str | None = None,
) -> Embeddings:
    """A vector for each of `texts`, of `dimensions` numbers (None: of the model's width); logged like
    an answer without tokens. `prompt_name` is one of the model's own prompts, which comes before
    every text; by default it is the one that the model says is always used, if any.

    Raises HubError; being cancelled stops the engine too.
    """
    with _refusals_counted(caller):
        served = await aresolve(model)
        if served.base.reranks:
            raise Invalid(
                f"{served.label} is a reranker and makes no vectors; ask it at /v1/rerank."
            )
    texts = await asyncio.to_thread(prompted, texts, prompt_name, served)
    base = served.base_path
    # With dimensions the first text is asked for alone, to learn the width before the others cost.
    first = EMBED_AT_ONCE if dimensions is None else 1
    cut = partial(shortened, dimensions=dimensions, base=base)
    vectors, record = await _read(served, model, texts, caller, "embeddings", {}, first, cut)
    return Embeddings(served, record.request_id, vectors, record.prompt_tokens)


async def _read(
    served: Served,
    model: str,
    texts: Sequence[str],
    caller: Caller,
    operation: str,
    asked: Mapping[str, str],
    first: int = EMBED_AT_ONCE,
    cut: Callable[[Sequence[list[float]]], Sequence[list[float]]] | None = None,
) -> tuple[Sequence[list[float]], Record]:
    """What the engine finds in `texts`, and the request's record, which is written. After the `first`
    ones and at the end `cut` is what becomes of it."""
    record = Record(served, GenerationRequest(model, [""], Sampling(max_tokens=0)), caller)
    span = _begin(record, operation)
    base, adapter = folders(served)
    found: list[list[float]] = []
    size = first
    try:
        while len(found) < len(texts):
            reply = await client.embed(
                Embed(
                    correlation_id=record.correlation_id,
                    traceparent=record.traceparent,
                    base=base,
                    adapter=adapter,
                    texts=list(texts[len(found) : len(found) + size]),
                    **asked,
                    **caller.limits(),
                )
            )
            found += reply["vectors"]
            record.prompt_tokens += reply["prompt_tokens"]
            if cut and size < EMBED_AT_ONCE:
                await asyncio.to_thread(cut, found)
                size = EMBED_AT_ONCE
        made = await asyncio.to_thread(cut, found) if cut else found
        record.complete()
    except Exception as error:
        _fail(record, error)
        raise
    finally:
        _end(span, record)
        await record.write()
    return made, record


async def count_tokens(
    model: str,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]],
    template: Mapping[str, Any],
) -> int:
    """How many tokens a chat has before its answer. Raises HubError."""
    base, adapter = folders(await _writer(model))
    request = Count(
        correlation_id=correlation_id(),
        traceparent=traces.current(),
        base=base,
        adapter=adapter,
        messages=list(messages),
        tools=list(tools),
        template=dict(template),
    )
    return await client.count(request)


# --------------------------------------------------------------------------- records and spans


def _fail(record: Record, error: Exception) -> None:
    record.fail(error)
    if not isinstance(error, HubError):
        log.exception("generation failed", request_id=record.request_id)


def _begin(record: Record, operation: str) -> traces.Traced:
    """The span of one answer, below that of its HTTP request; on a WebSocket it begins a trace."""
    # Names: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
    sampling = record.request.sampling
    model, version = named(record.served)
    span = traces.begin(
        f"{operation} {model}",
        kind="client" if traces.current() else "server",
        span_id=span_id(record.request_id),
        attributes={
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "mlx-model-hub",
            "gen_ai.request.model": record.request.model,
            "gen_ai.request.max_tokens": sampling.max_tokens,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.response.model": answered_by(record.served),
            "gen_ai.response.id": record.request_id,
            "hub.api": record.caller.api.value,
            "hub.correlation_id": record.correlation_id,
            "hub.base_model": record.served.base.name,
            "hub.version": version or None,
        },
    )
    record.traceparent = span.traceparent
    return span


def span_id(request_id: str) -> str:
    """That of the span of a request, so that its row finds it."""
    return request_id[:16]


def _end(span: traces.Traced, record: Record) -> None:
    done = record.done
    span.set(
        {
            "hub.status": record.status.value,
            "hub.outcome": record.outcome,
            "gen_ai.usage.input_tokens": record.prompt_tokens,
            "gen_ai.usage.output_tokens": record.completion_tokens,
            "hub.queue_ms": record.started.queue_ms if record.started else None,
        }
    )
    if done is not None:
        span.set(
            {
                "gen_ai.response.finish_reasons": [done.finish_reason],
                "gen_ai.usage.cache_read.input_tokens": done.cached_tokens,
                "gen_ai.usage.reasoning.output_tokens": done.thought_tokens,
                "hub.first_token_ms": done.first_token_ms,
            }
        )
    if record.code:
        span.fail(record.code, record.error)
    span.end()
