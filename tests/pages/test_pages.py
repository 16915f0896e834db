"""Every page answers, cheaply, whole and as a fragment, with data and without."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.pages.seed import Seeded

PAGES = (
    "/",
    "/models/",
    "/models/new/",
    "/models/import/",
    "/datasets/",
    "/datasets/new/",
    "/start/",
    "/training/",
    "/training/new/",
    "/training/sweeps/",
    "/playground/",
    "/playground/conversations/",
    "/requests/",
    "/requests/feedback/",
    "/system/",
    "/system/models/",
)
HTMX = {"HX-Request": "true"}


def pages_of(seeded: Seeded) -> list[str]:
    """Every page there is, those of one row too."""
    assert seeded.running is not None
    rows: list[Any] = [seeded.model, *seeded.versions, seeded.dataset, seeded.running, seeded.done]
    version, model = seeded.versions[1].get_absolute_url(), seeded.model.get_absolute_url()
    tabs = [
        f"{version}{tab}/" for tab in ("scores", "training", "lineage", "files", "use", "promote")
    ]
    tabs += [f"{model}{tab}/" for tab in ("use", "promotion", "card", "storage")]
    return [*PAGES, *(row.get_absolute_url() for row in rows), *tabs]


def text(response: Any) -> str:
    """What a person reads: no tags, single spaces."""
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


@pytest.mark.django_db
@pytest.mark.parametrize("path", PAGES)
def test_an_empty_hub_has_every_page(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert "<main" in response.content.decode()


def test_every_page_is_cheap(
    client: Client, seeded: Seeded, django_assert_max_num_queries: Any
) -> None:
    for path in pages_of(seeded):
        with django_assert_max_num_queries(15):
            assert client.get(path).status_code == 200, path


def test_more_rows_do_not_mean_more_queries(
    client: Client, seeded: Seeded, django_assert_num_queries: Any
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from tests.pages.seed import make_job, make_model, make_request, make_version

    lists = ("/", "/models/", "/datasets/", "/training/", "/requests/", "/playground/")
    before = {}
    for path in lists:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            client.get(path)
        before[path] = len(queries)
    for number in range(5):
        model = make_model(seeded.base, f"model-{number}")
        make_version(model, "0.1.0", seeded.dataset)
        make_job(model, seeded.dataset)
        make_request(number, version=seeded.versions[0])
    for path in lists:
        with django_assert_num_queries(before[path]):
            client.get(path)


@pytest.mark.parametrize(
    "path", ["/", "/models/", "/datasets/", "/training/", "/requests/", "/system/"]
)
def test_htmx_gets_the_fragment_alone(client: Client, seeded: Seeded, path: str) -> None:
    body = client.get(path, headers=HTMX).content.decode()
    assert "<html" not in body
    assert 'id="rows"' in body or 'id="live"' in body


def test_htmx_gets_the_whole_page_when_it_restores_history(client: Client, seeded: Seeded) -> None:
    headers = {**HTMX, "HX-History-Restore-Request": "true"}
    assert "<html" in client.get("/models/", headers=headers).content.decode()


def test_no_page_has_inline_scripts_or_foreign_addresses(client: Client, seeded: Seeded) -> None:
    for path in pages_of(seeded):
        response = client.get(path)
        body = response.content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)", body), path
        assert not re.search(r"\son[a-z]+=|\sstyle=|hx-on", body), path
        foreign = re.findall(r'(?:src|href|action)="(?:https?:)?//[^"]*"', body)
        assert not foreign, path
        assert "script-src 'self'" in response.headers["Content-Security-Policy"]


def test_an_unknown_address_says_so_in_the_hubs_own_page(client: Client, db: None) -> None:
    response = client.get("/models/999/")
    assert response.status_code == 404
    assert "Page not found" in text(response)


def test_the_page_of_an_error_needs_nothing_but_its_template() -> None:
    from django.template.loader import render_to_string

    assert "could not show this page" in render_to_string("500.html")


def test_the_dashboard_says_what_serves_runs_and_is_wrong(client: Client, seeded: Seeded) -> None:
    shown = text(client.get("/"))
    assert "production → 0.2.0" in shown
    assert "Step 42 of 100" in shown
    assert "Engine down" in shown
    assert "The worker is not running" in shown
    assert "Train on a file" in shown


def test_a_new_hub_shows_its_first_steps(client: Client, db: None) -> None:
    shown = text(client.get("/"))
    assert "Choose a file" in shown
    assert "uv run manage.py demo" in shown


@pytest.mark.parametrize(("page", "place"), [("compare", "models"), ("start", "jobs")])
def test_a_page_beside_the_addresses_of_its_place_marks_it_too(
    client: Client, seeded: Seeded, page: str, place: str
) -> None:
    shown = client.get(reverse(page)).content.decode()
    assert f'href="{reverse(place)}" aria-current="page"' in shown
    assert shown.count('aria-current="page"') == 1


def test_a_long_description_is_folded_and_a_short_one_is_not(
    client: Client, seeded: Seeded
) -> None:
    model, long = seeded.model, "It answers requests for the calendar. " * 8
    for text, folded in ((long, True), ("Calendar.", False)):
        model.description = text
        model.save()
        shown = client.get(model.get_absolute_url()).content.decode()
        assert text.strip() in shown
        assert ('<details class="described' in shown) is folded


def test_the_samples_come_in_columns_of_equal_length(client: Client, seeded: Seeded) -> None:
    columns = client.get("/system/samples.json?minutes=60").json()
    assert len(columns["time"]) == len(columns["cpu"]) == len(columns["memory"]) == 24
    assert columns["total"] == 48 * 10**9


def test_samples_are_few_however_many_there_are(client: Client, db: None) -> None:
    from hub.models import SystemSample
    from hub.web.views import MAX_SAMPLES

    now = timezone.now()
    SystemSample.objects.bulk_create(
        SystemSample(
            created_at=now - timedelta(seconds=n),
            cpu_percent=40 if n == 100 else 10,
            memory_used_bytes=9 if n == 100 else 1,
            memory_total_bytes=20,
            disk_free_bytes=3,
        )
        for n in range(2 * MAX_SAMPLES + 1)
    )
    columns = client.get("/system/samples.json").json()
    assert MAX_SAMPLES / 2 < len(columns["time"]) <= MAX_SAMPLES
    assert columns["thinned"] is True
    assert max(columns["memory"]) == 9  # the most of each stretch, and the mean load
    assert max(columns["cpu"]) == 20
    moment = int(now.timestamp()) - 100
    part = client.get(f"/system/samples.json?from={moment - 20}&to={moment + 20}").json()
    assert 39 <= len(part["time"]) <= 41
    assert max(part["cpu"]) == 40
    assert client.get("/system/samples.json?from=0&to=1").json()["time"] == []


def test_no_line_is_drawn_over_the_time_when_the_hub_did_not_run(client: Client, db: None) -> None:
    from hub.models import SystemSample

    now = timezone.now()
    known = {"memory_used_bytes": 1, "memory_total_bytes": 2, "disk_free_bytes": 3}
    SystemSample.objects.bulk_create(
        SystemSample(cpu_percent=1, created_at=now - timedelta(seconds=ago), **known)
        for ago in (620, 610, 600, 20, 10)
    )
    columns = client.get("/system/samples.json").json()
    assert columns["cpu"] == [1, 1, 1, None, 1, 1]
    assert columns["time"][3] == pytest.approx(columns["time"][2] + 10)
    assert columns["total"] == 2
