"""The tests' own promise: what they say they run on is what they run on."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.db import connection

from hub.models import SystemSample
from tests.databases import DEFAULT
from tests.running import RunningHub


def vendor() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return str(connection.vendor)
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_a_test_runs_on_the_database_in_its_name(
    request: pytest.FixtureRequest, database: str
) -> None:
    repeated = "postgresql" in request.node.name
    assert database == ("postgresql" if repeated else DEFAULT)
    assert connection.vendor == database
    with ThreadPoolExecutor(1) as other:
        assert other.submit(vendor).result() == database
    assert os.environ.get("DATABASE_URL", "").startswith("postgres") == (database == "postgresql")
    assert "test" in str(settings.DATABASES["default"]["NAME"])
    assert not SystemSample.objects.exists()


def test_a_running_hub_is_on_it_too(running_hub: RunningHub, database: str) -> None:
    url = running_hub.environment["DATABASE_URL"]
    assert url.startswith("postgres") == (database == "postgresql")


@pytest.mark.django_db
@pytest.mark.any_database
def test_what_no_database_decides_runs_once(request: pytest.FixtureRequest, database: str) -> None:
    assert request.node.get_closest_marker("postgresql") is None
    assert database == DEFAULT


def test_without_a_database_a_test_runs_once(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("postgresql") is None
