"""Names are looked up again when something may have changed, and not for every answer."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from inference.gateway.database import in_thread, remembered
from inference.gateway.generation import aresolve
from inference.models import InferenceRequest
from registry.errors import Conflict
from registry.models import Model, ModelVersion
from tests.inference.builders import make_base, make_version

pytestmark = pytest.mark.usefixtures("db_in_threads")


async def test_a_look_up_is_repeated_after_a_change_alone() -> None:
    looked: list[str] = []

    def numbered(name: str) -> int:
        looked.append(name)
        return len(looked)

    look = in_thread(remembered(numbered))
    kept = connection.vendor == "sqlite"  # PostgreSQL does not say what changed
    await look("a")
    assert await look("a") == (1 if kept else 2)
    await sync_to_async(make_base)()  # by another connection
    del looked[:]
    await look("a")
    assert looked == ["a"]


async def test_an_answers_own_row_changes_no_name() -> None:
    looked: list[str] = []
    look = in_thread(remembered(lambda name: looked.append(name)))
    await look("a")
    row = InferenceRequest(
        request_id="r", requested_model="a", api="native", status="completed", params={}
    )
    await in_thread(row.add)()
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
