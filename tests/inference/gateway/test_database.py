"""Names are looked up again when something may have changed, and not for every answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from inference.gateway import database, generation, rows
from inference.gateway.database import in_thread, remembered
from inference.gateway.generation import aresolve
from inference.models import InferenceRequest
from registry.errors import Conflict, NotFound
from registry.models import Model, ModelVersion
from registry.promotion.resolve import Served
from tests.inference.builders import make_base, make_version

pytestmark = pytest.mark.usefixtures("db_in_threads")


async def test_a_look_up_is_repeated_after_a_change_alone() -> None:
    looked: list[str] = []

    @remembered
    def numbered(name: str) -> int:
        looked.append(name)
        return len(looked)

    @in_thread
    def look(names: Sequence[str]) -> list[int]:
        return [numbered(name) for name in names]

    kept = connection.vendor == "sqlite"  # PostgreSQL does not say what changed
    await look("a")
    assert await look("a") == (1 if kept else 2)
    await sync_to_async(make_base)()  # by another connection
    del looked[:]
    await look("a")
    assert looked == ["a"]


async def test_an_answers_own_row_changes_no_name() -> None:
    looked: list[str] = []
    note = remembered(looked.append)

    @in_thread
    def look(names: Sequence[str]) -> list[None]:
        return [note(name) for name in names]

    await look("a")
    row = InferenceRequest(
        request_id="r", requested_model="a", api="native", status="completed", params={}
    )
    await rows.add(row)
    await look("a")
    assert len(looked) == (1 if connection.vendor == "sqlite" else 2)


async def test_a_version_that_was_withdrawn_answers_no_more() -> None:
    version = await sync_to_async(lambda: make_version(make_base()))()
    assert (await aresolve("calendar")).version == version
    assert (await aresolve("calendar")).version == version
    await ModelVersion.objects.aupdate(status=ModelVersion.Status.ARCHIVED)
    with pytest.raises(Conflict):
        await aresolve("calendar")
    await ModelVersion.objects.aupdate(status=ModelVersion.Status.READY)
    assert (await aresolve("calendar")).version == version
    await Model.objects.aupdate(name="other")
    assert (await aresolve("other")).version == version


@contextmanager
def busy_thread() -> Iterator[None]:
    """What is asked for within waits until the end of it."""
    free = threading.Event()
    database._thread.submit(free.wait, 10)
    yield
    free.set()


async def test_what_comes_while_the_thread_is_busy_is_one_call() -> None:
    calls: list[list[int]] = []

    @in_thread
    def halves(numbers: Sequence[int]) -> list[int | Exception]:
        calls.append(list(numbers))
        return [ValueError(f"{n} is odd") if n % 2 else n // 2 for n in numbers]

    with busy_thread():
        asking = [asyncio.create_task(halves(number)) for number in range(4)]
        await asyncio.sleep(0)
        asking[2].cancel()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert calls == [[0, 1, 2, 3]]
    assert answers[0] == 0
    assert [str(error) for error in (answers[1], answers[3])] == ["1 is odd", "3 is odd"]
    assert isinstance(answers[2], asyncio.CancelledError)
    assert await asyncio.wait_for(halves(8), 10) == 4


async def test_who_asks_a_turn_later_than_several_others_is_in_their_call() -> None:
    calls: list[list[int]] = []

    @in_thread
    def same(numbers: Sequence[int]) -> list[int]:
        calls.append(list(numbers))
        return list(numbers)

    asking = [asyncio.create_task(same(number)) for number in range(2)]
    await asyncio.sleep(0)
    assert await same(2) == 2
    assert await asyncio.gather(*asking) == [0, 1]
    assert calls == [[0, 1, 2]]


async def test_work_that_fails_fails_for_all_who_asked_and_for_nobody_else() -> None:
    broken = True

    @in_thread
    def echo(things: Sequence[str]) -> list[str]:
        if broken:
            raise OSError("no")
        return list(things)

    with busy_thread():
        asking = [asyncio.create_task(echo(name)) for name in "ab"]
        await asyncio.sleep(0)
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(answer) for answer in answers] == [OSError, OSError]
    broken = False
    assert await echo("c") == "c"


async def test_a_name_that_many_ask_for_at_once_is_looked_up_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = await sync_to_async(lambda: make_version(make_base()))()
    looked: list[str] = []
    resolved = generation._resolved

    def noted(name: str) -> Served | Exception:
        looked.append(name)
        return resolved(name)

    monkeypatch.setattr(generation, "_resolved", noted)
    with busy_thread():
        names = ["calendar", "nobody", "calendar", "calendar@0.1.0"]
        asking = [asyncio.create_task(aresolve(name)) for name in names]
        await asyncio.sleep(0)
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert sorted(looked) == ["calendar", "calendar@0.1.0", "nobody"]
    assert isinstance(found[1], NotFound)
    kept = [one.version for one in found if isinstance(one, Served)]
    assert kept == [version] * 3
