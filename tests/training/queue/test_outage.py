"""Writes while the database is unavailable."""

from __future__ import annotations

import time

import pytest
from django.db import IntegrityError, OperationalError

from tests.training.build import claim, make_job
from training.models import TrainingJob
from training.queue.outage import ride_out

pytestmark = pytest.mark.django_db


def test_a_write_is_repeated_until_the_database_is_back() -> None:
    make_job()
    job = claim()
    failures = iter([OperationalError("server closed the connection"), OperationalError("refused")])

    def write() -> int:
        for failure in failures:
            raise failure
        job.beat(job.lease, 30, iteration=4)
        return 4

    assert ride_out(write) == 4
    assert TrainingJob.objects.get().iteration == 4


def test_a_database_that_stays_away_is_reported_after_the_limit() -> None:
    def write() -> None:
        raise OperationalError("refused")

    began = time.monotonic()
    with pytest.raises(OperationalError, match="refused"):
        ride_out(write, limit_s=0.5)
    assert 0.2 < time.monotonic() - began < 5


def test_other_database_errors_are_raised_at_once() -> None:
    calls = []

    def write() -> None:
        calls.append(1)
        raise IntegrityError("duplicate")

    with pytest.raises(IntegrityError):
        ride_out(write)
    assert calls == [1]
