"""Yesterday's requests of one version, asked again of another, and how often both say the same."""

from __future__ import annotations

import asyncio
import datetime
import difflib
import re
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from typing import Any

from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from django.conf import settings
from django.db import transaction
from django.db.models import Avg
from django.utils import timezone

from backends.base import Grammar, Sampling
from inference.gateway.generation import generate_unlogged, span_id
from inference.gateway.request import GenerationRequest
from inference.models import InferenceRequest, Replay, ReplayAnswer
from registry import traces
from registry.background import work
from registry.errors import HubError, Invalid, TooManyRequests
from registry.models import ModelVersion
from registry.models.work import WAITING
from registry.promotion.resolve import Served, resolve

METRIC = "replay_agreement"  # of the target version; promotion rules can ask for it
AT_ONCE = 4
MOST = 1000
_TRIES = 30  # of a request that a full queue refuses
_KEPT = "Texts are kept only while HUB_LOG_PROMPTS is true."


def version_named(name: str) -> ModelVersion:
    """`NAME`, `NAME@1.2.0` or `NAME@alias`. Raises NotFound, Conflict, Damaged, and Invalid for a
    base model alone."""
    version = resolve(name).version
    if version is None:
        raise Invalid(f"{name} is a base model; name a version of a model, such as NAME@0.1.0.")
    return version


def start_of(since: str, now: datetime.datetime | None = None) -> datetime.datetime:
    """The moment that `30m`, `24h`, `7d` ago or an ISO date names. Raises Invalid."""
    now = now or timezone.now()
    if match := re.fullmatch(r"(\d{1,5})([mhd])", since.strip()):
        unit = {"m": "minutes", "h": "hours", "d": "days"}[match[2]]
        return now - datetime.timedelta(**{unit: int(match[1])})
    try:
        moment = datetime.datetime.fromisoformat(since.strip())
    except ValueError:
        raise Invalid(
            f"{since!r} is no time: give 30m, 24h, 7d or a date like 2026-11-24."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def plan(
    source: ModelVersion,
    target: ModelVersion,
    since: datetime.datetime,
    until: datetime.datetime | None = None,
    limit: int = 200,
) -> Replay:
    """Choose the newest `limit` requests of `source` in that time whose texts were kept.

    What was sampled without a seed is left out: the same version would answer it differently,
    too. Raises Invalid when none is left.
    """
    until = until or timezone.now()
    found = InferenceRequest.objects.with_text().filter(
        version=source, created_at__gte=since, created_at__lte=until
    )
    rows = list(found.order_by("-created_at")[: min(limit, MOST)])
    chosen = [row for row in rows if _repeatable(row.params)]
    if not rows:
        raise Invalid(f"{source} has no request with its text in that time. {_KEPT}")
    if not chosen:
        raise Invalid(
            f"All {len(rows)} requests of {source} in that time were sampled without a seed; no "
            "second answer could be compared."
        )
    with transaction.atomic():
        replay = Replay.objects.create(
            source=source,
            target=target,
            since=since,
            until=until,
            stage=WAITING,
            total=len(chosen),
            skipped=len(rows) - len(chosen),
        )
        ReplayAnswer.objects.bulk_create(
            ReplayAnswer(replay=replay, request=row, prompt=row.prompt, before=_whole(row))
            for row in reversed(chosen)
        )
    return replay


def plan_one(row: InferenceRequest, target: ModelVersion) -> Replay:
    """Ask `target` this one request. Raises Invalid for what has no text, or no version that answered."""
    if row.version is None:
        raise Invalid(
            "A base model, or a version that is deleted, answered; there is nothing to compare."
        )
    if row.prompt is None or row.completion is None:
        raise Invalid(f"The text of this request is not here. {_KEPT}")
    with transaction.atomic():
        replay = Replay.objects.create(
            source=row.version,
            target=target,
            since=row.created_at,
            until=row.created_at,
            stage=WAITING,
            total=1,
        )
        ReplayAnswer.objects.create(
            replay=replay, request=row, prompt=row.prompt, before=_whole(row)
        )
    return replay


def run(replay: Replay) -> Replay:
    """Ask the target every chosen request, and record how often it agrees: on the replay and, as
    the metric `replay_agreement`, on the target.

    Raises HubError when the engine cannot answer at all, after the replay says it, too.
    """
    with work.doing(replay) as progress:
        progress.stage("Asking")
        served = resolve(str(replay.target))
        answers = list(replay.answers.select_related("request").order_by("pk"))

        def note(answer: ReplayAnswer) -> None:
            answer.save(update_fields=["after", "same", "similarity", "error"])
            replay.asked += 1
            replay.agreed += answer.same
            progress.part(replay.asked / replay.total)

        async_to_sync(_ask_all)(served, answers, database_sync_to_async(note))
        _complete(replay)
    return replay


async def _ask_all(
    served: Served, answers: list[ReplayAnswer], note: Callable[[ReplayAnswer], Awaitable[None]]
) -> None:
    """Raises the first failure."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(answer: ReplayAnswer) -> None:
        async with free:
            await _ask(served, answer)
            await note(answer)

    try:
        async with asyncio.TaskGroup() as group:
            for answer in answers:
                group.create_task(one(answer))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def _repeatable(params: dict[str, Any]) -> bool:
    return not params.get("temperature") or params.get("seed") is not None


def _whole(row: InferenceRequest) -> str:
    """An answer as one text, calls included."""
    return _joined(row.completion or "", row.tool_calls or [])


def _joined(text: str, calls: Sequence[Any]) -> str:
    written = [f"{call['name']}({call['arguments']})" for call in calls]
    return "\n".join([text, *written] if text else written)


async def _ask(served: Served, answer: ReplayAnswer) -> None:
    """Fill in what the target says. A request that it cannot answer keeps the reason; an engine
    that is away raises."""
    for _ in range(_TRIES):
        try:
            answer.after = await _answer(served, answer)
        except TooManyRequests as error:
            await asyncio.sleep(error.retry_after)
            continue
        except HubError as error:
            if error.status == 503:
                raise
            answer.error = str(error)
        else:
            answer.same = " ".join(answer.before.split()) == " ".join(answer.after.split())
            answer.similarity = 1.0 if answer.same else _similarity(answer.before, answer.after)
        return
    answer.error = "The engine's queue was full for too long."


async def _answer(served: Served, answer: ReplayAnswer) -> str:
    """Straight from the engine: a replay is no client's request and stays out of the log."""
    row = answer.request
    request = GenerationRequest(
        model=served.label,
        prompts=[answer.prompt],
        sampling=sampling_from(row.params if row else {}),
        tools=(row.tools or []) if row else [],
        template=(row.params.get("template") or {}) if row else {},
    )
    before: traces.Attributes = {
        "hub.replayed.request_id": row.request_id if row else None,
        "hub.replayed.trace_id": row.trace_id if row else None,
    }
    links = [traces.traceparent(row.trace_id, span_id(row.request_id))] if row else []
    with traces.span(f"replay {served.label}", attributes=before, links=links):
        [now] = await generate_unlogged(
            served,
            request,
            request_id=uuid.uuid4().hex,
            key="replay",
            key_running=AT_ONCE,
            deadline_s=settings.REQUEST_DEADLINE_S,
            cut_late=request.may_be_cut,
        )
    return _joined(now.text, now.done.tool_calls)


def sampling_from(params: dict[str, Any]) -> Sampling:
    """What a row of the log says of how its tokens were chosen."""
    known = {f.name for f in fields(Sampling)}
    values = {name: value for name, value in params.items() if name in known}
    values["stop"] = tuple(values.get("stop", ()))
    values["logit_bias"] = tuple((int(t), float(b)) for t, b in values.get("logit_bias", ()))
    if values.get("grammar"):
        values["grammar"] = Grammar(**values["grammar"])
    values |= {"logprobs": False, "top_logprobs": 0}  # they change no token
    return Sampling(**values)


def _similarity(before: str, after: str) -> float:
    """How much of both texts' words is the same and in the same order, 0 to 1."""
    words = difflib.SequenceMatcher(None, before.split(), after.split(), autojunk=False)
    return round(words.ratio(), 4)


def _complete(replay: Replay) -> None:
    agreement = replay.agreed / replay.total
    with transaction.atomic():
        mean = replay.answers.aggregate(mean=Avg("similarity"))["mean"]
        replay.complete(agreement=agreement, similarity=mean)
        if replay.of_one:
            return  # one answer says nothing of a version
        # The newest replay counts: traffic and the version it is compared with change.
        target = ModelVersion.objects.select_for_update().get(pk=replay.target_id)
        target.metrics |= {METRIC: round(agreement, 6)}
        target.save(update_fields=["metrics"])


def marked(before: str, after: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Both texts as runs of (text, whether only this one has it)."""
    one, other = _words(before), _words(after)
    sides: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        for side, run in zip(sides, (one[a:b], other[c:d]), strict=True):
            if run:
                side.append(("".join(run), kind != "equal"))
    return sides


def _words(text: str) -> list[str]:
    return re.findall(r"\s+|\w+|[^\w\s]", text)
