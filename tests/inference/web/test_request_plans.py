"""What the list of requests asks the database is answered by an index, whatever it is filtered by: a log
of a million requests is neither sorted nor read for a page of it."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from inference.models import ApiToken

pytestmark = pytest.mark.django_db

BY_TIME = ("", "status=failed", "status=cancelled", "api=ollama", "q=nothing&status=cancelled")
SPANS = ("span=24h", "span=30d&api=ollama")


def plan(client: Client, address: str) -> str:
    """How the database finds the ids of that page."""
    with CaptureQueriesContext(connection) as asked:
        assert client.get(address).status_code == 200
    [ids] = [one["sql"] for one in asked if one["sql"].endswith("LIMIT 26")]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {ids}")
        else:  # of a table without rows, it would read those
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("SET LOCAL enable_sort = off")
            cursor.execute("SET LOCAL enable_bitmapscan = off")
            cursor.execute(f"EXPLAIN {ids}")
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def sorts(found: str) -> bool:
    """Whether all rows are sorted; those of one moment may be."""
    found = found.replace("Incremental Sort", "")
    return "TEMP B-TREE FOR ORDER BY" in found or "Sort  (" in found


@pytest.mark.parametrize("sort", ["when", "-when", "total_ms", "-first_token_ms"])
def test_pages_of_a_filtered_log_come_from_an_index(client: Client, sort: str) -> None:
    for query in (*BY_TIME, *SPANS):
        found = plan(client, f"/requests/?sort={sort}&{query}")
        assert not sorts(found), (query, found)
        # What is filtered by stands in the index, too.
        assert "COVERING INDEX" in found or "Index Only Scan" in found, (query, found)


def test_requests_of_a_key_or_a_version_come_in_their_order(client: Client) -> None:
    key = ApiToken.objects.create(name="laptop", prefix="hub_", sha256="0" * 64)
    for query in (f"key={key.pk}", "version=7"):
        found = plan(client, f"/requests/?{query}")
        assert not sorts(found), (query, found)
