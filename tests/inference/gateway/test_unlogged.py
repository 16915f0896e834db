"""A database that takes no rows: answers are logged later, and the lost ones are named."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from django.db import DatabaseError, OperationalError
from django.test import Client
from structlog.testing import capture_logs

from backends.base import Sampling
from inference.gateway import database, metrics, unlogged
from inference.gateway.record import Record
from inference.gateway.request import Caller, GenerationRequest
from inference.models import ApiToken, InferenceRequest
from inference.models.requests import InferenceRequestQuerySet
from registry.promotion.resolve import resolve
from tests.registry.build import make_base

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The disk is full until the patch is undone."""

    def refuse(self: InferenceRequestQuerySet, *_: object) -> None:
        raise OperationalError("database or disk is full")

    monkeypatch.setattr(unlogged, "_waiting", type(unlogged._waiting)())
    monkeypatch.setattr(unlogged, "_lost", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InferenceRequestQuerySet, "add_all", refuse)
        yield patch
    database.close()


def answered(text: str = "Once") -> Record:
    key = ApiToken.objects.first() or ApiToken.issue("laptop")[0]
    caller = Caller(InferenceRequest.Api.NATIVE, key)
    record = Record(
        resolve("base:tiny"), GenerationRequest("base:tiny", [text], Sampling()), caller
    )
    record.completion_tokens = 3
    return record


def test_what_was_refused_is_logged_with_the_next_answer(
    full: pytest.MonkeyPatch, client: Client
) -> None:
    make_base()
    first, second = answered(), answered()
    with capture_logs() as logs:
        asyncio.run(first.write())
    [line] = [entry for entry in logs if entry["event"] == "request log not written"]
    assert (line["request_id"], line["model"]) == (first.request_id, "base:tiny")
    assert (line["completion_tokens"], line["reason"]) == (3, "database or disk is full")
    assert unlogged.waiting() == 1
    assert "1 will be logged with the next one" in client.get("/requests/").content.decode()
    full.undo()
    asyncio.run(second.write())
    rows = {row.request_id: row for row in InferenceRequest.objects.all()}
    assert rows.keys() == {first.request_id, second.request_id}
    assert rows[first.request_id].created_at < rows[second.request_id].created_at
    assert unlogged.waiting() == 0
    assert ApiToken.objects.get().requests == 2
    assert "did not take every answer" not in client.get("/requests/").content.decode()


def test_too_many_are_lost_by_name(
    full: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_base()
    monkeypatch.setattr(unlogged, "MOST", 2)
    before = metrics.LOST._value.get()
    records = [answered() for _ in range(3)]
    with capture_logs() as logs:
        for record in records:
            unlogged.keep(record.row(), DatabaseError("full"))
    [line] = [entry for entry in logs if entry["event"] == "request log lost an answer"]
    assert line["request_id"] == records[0].request_id
    assert (unlogged.waiting(), unlogged.lost()) == (2, 1)
    assert metrics.LOST._value.get() - before == 1


def end_together(*records: Record) -> None:
    """Write them all while the thread that adds rows is busy."""
    busy = threading.Event()

    async def write() -> None:
        database._thread.submit(busy.wait, 10)
        writing = [asyncio.create_task(record.write()) for record in records]
        for _ in range(3):  # `write`, what it shields, `add`
            await asyncio.sleep(0)
        busy.set()
        await asyncio.gather(*writing)

    asyncio.run(write())
    database.close()


def test_what_ends_together_is_logged_in_one_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    make_base()
    added: list[int] = []
    add_all = InferenceRequestQuerySet.add_all

    def counted(self: InferenceRequestQuerySet, rows: list[InferenceRequest], *_: None) -> None:
        added.append(len(rows))
        add_all(self, rows)

    monkeypatch.setattr(InferenceRequestQuerySet, "add_all", counted)
    records = [answered() for _ in range(5)]
    end_together(*records)
    assert added == [5]
    kept = InferenceRequest.objects.values_list("request_id", flat=True)
    assert set(kept) == {record.request_id for record in records}
    assert ApiToken.objects.get().requests == 5


def test_a_row_that_cannot_be_logged_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unlogged, "_waiting", type(unlogged._waiting)())
    make_base()
    first, wrong, last = answered(), answered(), answered()
    wrong.request_id = first.request_id  # which is unique
    end_together(first, wrong, last)
    kept = InferenceRequest.objects.values_list("request_id", flat=True)
    assert sorted(kept) == sorted([first.request_id, last.request_id])
    assert unlogged.waiting() == 1
    assert ApiToken.objects.get().requests == 2
