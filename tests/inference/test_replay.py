"""One version's requests asked again of another, with the fake backend's engine."""

import asyncio
import datetime
import io
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django.utils import timezone

from backends.base import Sampling
from inference import replay
from inference.gateway.generation import generate, generate_unlogged
from inference.gateway.request import Caller, GenerationRequest
from inference.models import InferenceRequest, Replay
from registry.errors import Invalid, Unavailable
from registry.models import ModelVersion, PromotionRule
from registry.promotion.rules import add_rule, judge
from tests.inference.builders import make_base, make_version
from tests.inference.engines import running_engine

pytestmark = pytest.mark.usefixtures("db_in_threads")
HOUR = datetime.timedelta(hours=1)


def make_versions() -> tuple[ModelVersion, ModelVersion, ModelVersion]:
    """The second has the first's very weights, the third other ones."""
    base = make_base()
    return (
        make_version(base),
        make_version(base, version="0.2.0"),
        make_version(base, version="0.3.0", weights=b"other"),
    )


async def ask(name: str, prompt: str, **sampling: Any) -> None:
    chosen = Sampling(**{"max_tokens": 12, **sampling})
    request = GenerationRequest(name, [[{"role": "user", "content": prompt}]], chosen)
    await generate(request, Caller(InferenceRequest.Api.NATIVE))


async def planned(source: ModelVersion, target: ModelVersion) -> Replay:
    return await sync_to_async(replay.plan)(source, target, timezone.now() - HOUR)


async def run(row: Replay) -> Replay:
    return await sync_to_async(replay.run)(row)


async def test_an_answer_without_a_limit_has_the_hubs_own(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that never stops ends a replay no less than it ended the request."""
    settings.LOG_PROMPTS = True
    settings.REQUEST_DEADLINE_S = 47.0
    asked: list[dict[str, Any]] = []
    whole = generate_unlogged

    async def noted(*args: Any, **options: Any) -> Any:
        asked.append(options)
        return await whole(*args, **options)

    monkeypatch.setattr(replay, "generate_unlogged", noted)
    first, same, _ = await sync_to_async(make_versions)()
    async with running_engine():
        await ask("calendar@0.1.0", "Meeting", max_tokens=None)
        await ask("calendar@0.1.0", "Meeting", max_tokens=5)
        await run(await planned(first, same))
    limits = {(one["deadline_s"], one["cut_late"]) for one in asked}
    assert limits == {(47.0, True), (47.0, False)}


async def test_agreement_is_a_metric_that_promotion_rules_can_demand(settings: Any) -> None:
    settings.LOG_PROMPTS = True
    first, same, other = await sync_to_async(make_versions)()
    async with running_engine():
        for number in range(4):
            await ask("calendar@0.1.0", f"Meeting {number}")
        for target, agreement in ((same, 1.0), (other, 0.0)):
            done = await run(await planned(first, target))
            assert (done.status, done.asked, done.agreement) == ("completed", 4, agreement)
            await target.arefresh_from_db()
            assert target.metrics["replay_agreement"] == agreement
        # One request that a person chose says nothing of a version.
        row = await InferenceRequest.objects.select_related("version__model").afirst()
        assert row is not None
        alone = await run(await sync_to_async(replay.plan_one)(row, other))
        assert (alone.total, alone.agreement) == (1, 0.0)
        alone = await run(await sync_to_async(replay.plan_one)(row, first))
        assert alone.agreed == 1
        assert "replay_agreement" not in (await ModelVersion.objects.aget(pk=first.pk)).metrics
    assert await InferenceRequest.objects.acount() == 4  # a replay is nobody's request

    def passed(version: ModelVersion) -> bool:
        [verdict] = judge(version.model, "production", version, first)
        return verdict.passed

    await sync_to_async(add_rule)(
        first.model, "replay_agreement", PromotionRule.Comparison.AT_LEAST, 0.9
    )
    assert await sync_to_async(passed)(same)
    assert not await sync_to_async(passed)(other)


async def test_what_was_sampled_without_a_seed_is_left_out(settings: Any) -> None:
    settings.LOG_PROMPTS = True
    first, same, _ = await sync_to_async(make_versions)()
    async with running_engine():
        await ask("calendar@0.1.0", "one", temperature=0.7)
        with pytest.raises(Invalid, match="without a seed"):
            await planned(first, same)
        await ask("calendar@0.1.0", "two", temperature=0.7, seed=3)
        done = await run(await planned(first, same))
    assert (done.total, done.skipped, done.agreed) == (1, 1, 1)


async def test_without_kept_texts_there_is_nothing_to_replay() -> None:
    first, same, _ = await sync_to_async(make_versions)()
    async with running_engine():
        await ask("calendar@0.1.0", "one")
    with pytest.raises(Invalid, match="HUB_LOG_PROMPTS"):
        await planned(first, same)


async def test_without_an_engine_a_replay_fails_and_says_why(settings: Any) -> None:
    settings.LOG_PROMPTS = True
    first, same, _ = await sync_to_async(make_versions)()
    async with running_engine():
        await ask("calendar@0.1.0", "one")
    row = await planned(first, same)
    with pytest.raises(Unavailable):
        await run(row)
    await row.arefresh_from_db()
    assert row.status == "failed"
    assert "not running" in row.error_message


async def test_the_page_and_the_api_show_both_sides(settings: Any) -> None:
    settings.LOG_PROMPTS = True
    first, _, other = await sync_to_async(make_versions)()
    async with running_engine():
        await ask("calendar@0.1.0", "Lunch with Ana")
        done = await run(await planned(first, other))

    def look() -> tuple[str, dict[str, Any]]:
        client = Client()
        page = client.get(done.get_absolute_url()).content.decode()
        return page, client.get(f"/api/replays/{done.pk}/answers?different=true").json()

    page, answers = await sync_to_async(look)()
    [answer] = answers["items"]
    assert answer["before"] != answer["after"]
    assert "Lunch with Ana" in page
    assert "<del" in page


async def test_the_command_tells_the_figures(settings: Any) -> None:
    settings.LOG_PROMPTS = True
    await sync_to_async(make_versions)()
    out = io.StringIO()

    def command() -> None:
        try:
            call_command("replay", "calendar@0.1.0", "calendar@0.2.0", stdout=out)
        finally:
            connections.close_all()

    async with running_engine():
        await ask("calendar@0.1.0", "one")
        await asyncio.to_thread(command)  # as in a process of its own
    assert "1 of 1 answers are the same (100.0%" in out.getvalue()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nobody@0.1.0", "no model"), ("base:tiny", "base model"), ("calendar@9.9.9", "9.9.9")],
)
def test_the_form_says_what_cannot_be_replayed(name: str, reason: str) -> None:
    make_versions()
    fields = {"source": name, "target": "calendar@0.1.0", "since": "24h", "limit": "10"}
    page = Client().post("/requests/replays/", fields)
    assert page.status_code in (404, 422)
    assert reason in page.content.decode()


def test_times_are_read_as_people_write_them() -> None:
    now = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
    assert replay.start_of("90m", now) == now - datetime.timedelta(minutes=90)
    assert replay.start_of("2026-11-23", now) == datetime.datetime(
        2026, 11, 23, tzinfo=datetime.UTC
    )
    with pytest.raises(Invalid, match="24h"):
        replay.start_of("yesterday", now)


def test_differences_are_marked_on_both_sides() -> None:
    before, after = replay.marked("at noon with Ana", "at one with Ana")
    assert before == [("at ", False), ("noon", True), (" with Ana", False)]
    assert after == [("at ", False), ("one", True), (" with Ana", False)]


def test_texts_leave_the_log_before_their_rows() -> None:
    now = timezone.now()
    for days, name in ((1, "new"), (20, "older"), (100, "oldest")):
        row = InferenceRequest.objects.create(
            request_id=name,
            api="native",
            status="completed",
            requested_model="x",
            prompt=[{"role": "user", "content": "secret"}],
            completion="told",
        )
        moment = now - datetime.timedelta(days=days)
        InferenceRequest.objects.filter(pk=row.pk).update(created_at=moment)
    day = datetime.timedelta(days=1)
    assert InferenceRequest.objects.expire(now - 90 * day, now - 14 * day) == 2
    kept = dict(InferenceRequest.objects.values_list("request_id", "completion"))
    assert kept == {"new": "told", "older": None}
    assert InferenceRequest.objects.expire(now - 90 * day, now - 14 * day) == 0


def test_a_replay_that_went_silent_is_given_up() -> None:
    first, same, _ = make_versions()
    row = Replay.objects.create(
        source=first, target=same, since=timezone.now() - HOUR, until=timezone.now(), total=1
    )
    assert Replay.objects.fail_silent() == 0
    assert "data-poll" in Client().get(row.get_absolute_url()).content.decode()
    row.refresh_from_db()
    assert row.status == "running"
    Replay.objects.update(heartbeat_at=timezone.now() - HOUR)
    assert Replay.objects.fail_silent() == 1
    row.refresh_from_db()
    assert row.status == "failed"
    assert "start a new replay" in Client().get(row.get_absolute_url()).content.decode()
