"""What agents need of a version, asked over every API, kept with it and demanded by promotion rules."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.test import Client

from inference.clients import checks, suite
from inference.clients.faces import FACES
from inference.clients.sessions import sessions
from inference.clients.table import report
from inference.models import ApiToken, ClientCheck, InferenceRequest
from registry.background import children, work
from registry.background.progress import SILENT, Progress
from registry.errors import Conflict, Invalid, NotFound, Unavailable
from registry.models import BaseModel, ModelVersion, PromotionRule
from registry.promotion.aliases import move_alias
from registry.promotion.rules import add_rule
from tests.inference.builders import make_base, make_version
from tests.inference.clients.asking import AgentBackend, checked, in_process, in_thread
from tests.inference.engines import running_engine
from tests.inference.processes import Hub

pytestmark = [pytest.mark.usefixtures("db_in_threads"), pytest.mark.any_database]


def make_one(number: str = "0.1.0") -> ModelVersion:
    return make_version(make_base(), version=number)


@pytest.fixture
def one_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chat completions alone, which is quick."""
    monkeypatch.setattr(suite, "FACES", FACES[:1])


def states(row: ClientCheck, name: str) -> set[str]:
    return {one.state for one in checks.read(row.outcomes) if one.name == name}


@pytest.mark.both_databases
@pytest.mark.slow
async def test_what_a_fine_tune_broke_is_named_and_stops_its_promotion() -> None:
    version = await sync_to_async(make_one)()
    forgets = ("tool_call", "json_schema", "system_later")
    done = await checked("calendar@0.1.0", AgentBackend(*forgets))
    made = await sync_to_async(report)(done)

    assert not made.broken, made.broken
    lost = Counter(one.name for one in made.lost)
    assert lost["tool_call"] == lost["json_schema"] == lost["system_later"] == 4
    assert set(lost) == set(forgets)
    assert states(done, "tool_result") == states(done, "streaming") == {"passed"}
    assert [states(done, one.name) for one in sessions()] == 3 * [{"passed"}]

    await version.arefresh_from_db()
    assert version.metrics["client_tool_call"] == 0.0
    assert version.metrics["client_tool_result"] == 1.0
    assert version.metrics["clients_lost"] == 12
    assert version.metrics["clients_broken"] == 0
    assert version.metrics["clients_passed"] == round(made.passed / made.judged, 6)

    def promote() -> None:
        add_rule(version.model, "clients_lost", PromotionRule.Comparison.AT_MOST, 0)
        move_alias(version.model, "production", version)

    with pytest.raises(Conflict, match=r"clients_lost of 0\.1\.0 is 12"):
        await sync_to_async(promote)()


@pytest.mark.usefixtures("one_api")
async def test_the_base_is_asked_once_and_production_is_beside_it() -> None:
    def make() -> ModelVersion:
        base = make_base()
        make_version(base, version="0.2.0", weights=b"two")
        return make_version(base)

    version = await sync_to_async(make)()
    first = await checked("calendar@0.1.0")
    assert first.asked == first.total == 2 * len(suite.planned())
    await sync_to_async(move_alias)(version.model, "production", version)

    second = await checked("calendar@0.2.0", AgentBackend("tools_parallel"))
    assert second.asked == second.total == len(suite.planned())
    made = await sync_to_async(report)(second)
    assert {one.name for one in made.lost} == {"tools_parallel"}
    assert made.lost_to_production == made.lost
    assert (await sync_to_async(report)(first)).lost_to_production == []


async def test_a_model_that_says_anything_breaks_no_promise_of_the_hub() -> None:
    """The fake's words are random: all that fails is the model's doing."""
    from backends.fake import FakeBackend

    await sync_to_async(make_one)()
    done = await checked("base:tiny", FakeBackend())
    made = await sync_to_async(report)(done)
    assert made.broken == []
    assert done.version is None
    assert done.total == len(suite.planned())
    assert states(done, "tool_result") == {"failed"}
    assert states(done, "tool_forced") == states(done, "stop") == {"passed"}


@pytest.mark.usefixtures("one_api")
async def test_thoughts_are_judged_where_the_template_has_them() -> None:
    def make() -> ModelVersion:
        from registry.bases import registration
        from registry.storage import paths

        source = paths.base_dir(make_base().name)
        folder = paths.root().parent / "thinker"
        folder.mkdir()
        for path in source.iterdir():
            if "manifest" not in path.name:
                (folder / path.name).write_bytes(path.read_bytes())
        (folder / "chat_template.jinja").write_text("{% if enable_thinking %}<think>{% endif %}")
        base = registration.register_base("thinker", BaseModel.Source.FOLDER, str(folder))
        return make_version(base)

    await sync_to_async(make)()
    done = await checked("calendar@0.1.0")
    assert states(done, "thinking") == {"passed"}, done.outcomes


@pytest.mark.usefixtures("one_api")
async def test_the_command_shows_a_row_for_each_behaviour(settings: Any) -> None:
    await sync_to_async(make_one)()
    shown, as_json, of_base = io.StringIO(), io.StringIO(), io.StringIO()

    def commands() -> None:
        call_command("check_clients", "calendar", stdout=shown)
        call_command("check_clients", "calendar@0.1.0", "--json", stdout=as_json)
        call_command("check_clients", "tiny", stdout=of_base)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "the_hub", in_process)
        patch.setattr(checks.run, "__defaults__", (SILENT, in_process))
        async with running_engine(AgentBackend("tool_call")):
            await in_thread(commands)
    assert "Calls a tool when asked" in shown.getvalue()
    assert (
        "no: Calls a tool when asked, with valid arguments (Chat completions)" in shown.getvalue()
    )
    told = json.loads(as_json.getvalue().splitlines()[-1])
    assert "tool_call/chat" in told["lost"]
    assert told["broken"] == []
    assert re.search(r"base:tiny: (\d+) of \1 passed", of_base.getvalue())
    base = await BaseModel.objects.aget()

    def listed() -> list[str]:
        answer = Client().get(f"/api/client-checks?base_id={base.pk}").json()
        return [one["name"] for one in answer["items"]]

    assert await sync_to_async(listed)() == ["base:tiny"]


def test_what_agents_cannot_talk_to_is_refused() -> None:
    base = make_base()
    base.pooling = "score"
    base.save()
    with pytest.raises(Invalid, match="tiny is a reranker"):
        checks.plan("tiny")
    with pytest.raises(NotFound, match="no model 'nobody'"):
        checks.plan("nobody")


@pytest.mark.usefixtures("one_api")
@pytest.mark.both_databases
async def test_a_hub_that_needs_keys_gets_one_for_as_long_as_the_check(settings: Any) -> None:
    settings.IS_LOOPBACK = False
    await sync_to_async(make_one)()
    done = await checked("base:tiny")
    assert done.status == "completed"
    assert await InferenceRequest.objects.aexists()
    assert not await ApiToken.objects.aexists()


@pytest.mark.usefixtures("one_api")
async def test_a_check_is_alive_while_an_answer_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[int] = []

    class Watched(Progress):
        def beat(self) -> None:
            beats.append(1)

    monkeypatch.setattr(checks, "_BEAT_S", 0.001)
    monkeypatch.setattr(work, "_Reporting", lambda row, watch: Watched())
    await sync_to_async(make_one)()
    await checked("base:tiny")
    assert beats


async def test_without_a_hub_a_check_fails_and_says_what_to_do(settings: Any) -> None:
    settings.HUB_URL = "http://127.0.0.1:9"
    await sync_to_async(make_one)()

    def run() -> None:
        checks.run(checks.plan("calendar@0.1.0"))

    with pytest.raises(Unavailable, match="start it with"):
        await in_thread(run)
    row = await ClientCheck.objects.aget()
    assert row.status == "failed"
    assert "manage.py up" in row.error_message


def test_a_version_that_answers_with_labels_is_refused() -> None:
    version = make_one()
    version.model.task_type = "classification"
    version.model.save()
    version.labels = ["good", "bad"]
    version.save()
    with pytest.raises(Invalid, match="classifies"):
        checks.plan("calendar@0.1.0")
    page = Client().post(f"{version.get_absolute_url()}clients/", follow=True)
    assert "classifies" in page.content.decode()


@pytest.mark.django_db
def test_a_base_model_is_checked_from_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    base, client = make_one().base_model, Client()
    monkeypatch.setattr(children, "start", lambda *args, **more: None)
    page = f"/bases/{base.pk}/clients/"
    assert page in client.get(f"/bases/{base.pk}/").content.decode()
    assert "Not checked yet" in client.get(page).content.decode()
    client.post(page)
    check = ClientCheck.objects.get()
    assert (check.version, check.base_model) == (None, base)
    assert check.get_absolute_url() == page
    assert "data-poll" in client.get(page).content.decode()
    check.complete(outcomes=[], base_outcomes=[])
    done = client.get(page).content.decode()
    assert ("Errors of the hub" in done, "Lost in training" in done) == (True, False)


@pytest.mark.usefixtures("one_api")
@pytest.mark.both_databases
async def test_page_and_api_show_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    version = await sync_to_async(make_one)()
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(children, "start", lambda *args, **more: started.append(args))

    def before() -> tuple[str, str]:
        client, page = Client(), f"/models/{version.model_id}/0.1.0/clients/"
        empty = client.get(page).content.decode()
        client.post(page)
        return empty, client.get(page).content.decode()

    empty, running = await sync_to_async(before)()
    assert "Not checked yet" in empty
    assert "data-poll" in running
    waiting = await ClientCheck.objects.aget()
    assert started == [("run_client_check", str(waiting.pk))]

    done = await checked("calendar@0.1.0", AgentBackend("tool_call"))

    def look() -> tuple[str, str, dict[str, Any], dict[str, Any]]:
        client = Client()
        page = client.get(done.get_absolute_url()).content.decode()
        of_version = client.get(f"{version.get_absolute_url()}scores/").content.decode()
        told = client.get(f"/api/client-checks/{done.pk}").json()
        asked = client.post(
            "/api/client-checks", {"model": "calendar"}, content_type="application/json"
        )
        assert asked.status_code == 202, asked.content
        return page, of_version, told, asked.json()

    page, of_version, told, asked = await sync_to_async(look)()
    assert "Lost in training" in page
    assert "It called no tool" in page
    assert "of what agents need works" in of_version
    assert "client tool call" not in of_version
    assert [(one["name"], one["face"]) for one in told["lost"]] == [("tool_call", "chat")]
    assert (asked["name"], asked["status"]) == ("calendar@0.1.0", "running")


def test_a_running_hub_is_asked_at_its_own_address(hub: Hub) -> None:
    hub.env["HUB_PORT"] = str(hub.port)
    ran = hub.run("manage.py", "check-clients", "base:tiny", "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["name"], told["broken"]) == ("base:tiny", [])
    assert len(told["outcomes"]) == len(suite.planned())
