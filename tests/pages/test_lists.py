"""The list of all pages that list things: order, columns, spans of time, pages by key, a summary,
and what is done with the rows that are selected."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from inference.models import ApiToken, InferenceRequest, Replay
from registry.datasets.snapshots import register_dataset
from registry.models import Dataset, Model, ModelVersion
from registry.storage import paths
from tests.pages.seed import (
    Seeded,
    make_base,
    make_dataset,
    make_model,
    make_request,
    make_sweep,
    make_version,
    new_request,
    write_examples,
)
from tests.pages.test_pages import text
from training.models import TrainingJob

HTMX = {"HX-Request": "true"}


def walked(client: Client, url: str) -> tuple[list[int], str]:
    """The ids of all pages behind that address, and the address of the last."""
    seen: list[int] = []
    last = url
    while url:
        page = client.get(url)
        seen += [row.pk for row in page.context["rows"]]
        last, url = url, page.context["list"].older
    return seen, last


@pytest.mark.parametrize(
    ("sort", "column"),
    [
        ("when", "created_at"),
        ("total_ms", "total_ms"),
        ("first_token_ms", "first_token_ms"),
    ],
)
def test_pages_by_key_show_every_row_once_in_both_directions(
    client: Client, db: None, sort: str, column: str
) -> None:
    moment = timezone.now()
    made = InferenceRequest.objects.bulk_create(
        new_request(n, total_ms=None if n == 9 else n // 7 * 10.0, first_token_ms=n % 5 * 3.0)
        for n in range(60)
    )
    for n, row in enumerate(made):  # many of one moment
        InferenceRequest.objects.filter(pk=row.pk).update(
            created_at=moment - datetime.timedelta(minutes=n // 11)
        )
    known = InferenceRequest.objects.exclude(**{column: None})
    falling = list(known.order_by(f"-{column}", "-pk").values_list("pk", flat=True))
    seen, last = walked(client, f"/requests/?sort={sort}")
    assert seen == falling
    seen, _ = walked(client, f"/requests/?sort=-{sort}")
    assert seen == falling[::-1]
    page = client.get(last)
    back = [row.pk for row in page.context["rows"]]
    while url := page.context["list"].newer:
        page = client.get(url)
        back = [row.pk for row in page.context["rows"]] + back
    assert back == falling
    near = client.get(f"/requests/?sort={sort}&after={falling[3]}").context
    assert [row.pk for row in near["rows"]] == falling[:25], "the first page is a whole one"
    assert near["list"].newer == ""
    said = "Only those with a known" in text(client.get(f"/requests/?sort={sort}"))
    assert said == (sort != "when")


def test_a_page_whose_row_is_gone_begins_anew_and_nonsense_is_no_error(
    client: Client, seeded: Seeded
) -> None:
    first = [row.pk for row in client.get("/requests/").context["rows"]]
    for asked in ("before=99999", "before=x", "after=²", "sort=prompt", "sort=-", "columns=zz"):
        rows = client.get(f"/requests/?{asked}").context["rows"]
        assert [row.pk for row in rows] == first, asked


def test_a_page_reads_no_row_but_its_own_and_counts_nothing(
    client: Client, seeded: Seeded, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(9) as queries:
        client.get("/requests/?before=40")
    sql = " ".join(query["sql"].lower() for query in queries)
    assert "offset" not in sql
    assert "count(" not in sql
    assert '"prompt"' not in sql


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("span=1h", {1}),
        ("span=24h", {1, 2}),
        ("span=7d&since=2001-01-01", {1, 2, 3}),
        ("span=any&since=2990-01-01", {1, 2, 3, 4}),
        ("span=nonsense", {1, 2, 3, 4}),
        ("since=DAY3", {1, 2, 3}),
        ("until=DAY3", {3, 4}),
        ("span=custom&since=DAY3&until=DAY3", {3}),
        ("since=2026-02-30", {1, 2, 3, 4}),
        ("until=9999-12-31", {1, 2, 3, 4}),
    ],
)
def test_requests_of_a_span_of_time(client: Client, db: None, asked: str, found: set[int]) -> None:
    ages = {1: 0.01, 2: 0.5, 3: 3, 4: 40}
    for number, days in ages.items():
        moment = timezone.now() - datetime.timedelta(days=days)
        row = make_request(number, requested_model=str(number))
        InferenceRequest.objects.filter(pk=row.pk).update(created_at=moment)
    third = timezone.now() - datetime.timedelta(days=3)
    page = client.get(f"/requests/?{asked.replace('DAY3', f'{third:%Y-%m-%d}')}")
    assert {int(row.requested_model) for row in page.context["rows"]} == found


def test_columns_are_chosen_in_the_address_and_the_title_stays(
    client: Client, seeded: Seeded
) -> None:
    body = client.get("/requests/?columns=queue_ms&columns=api").content.decode()
    assert [
        head for head in ("When", "API", "Queued", "Total") if f'data-label="{head}"' in body
    ] == [
        "API",
        "Queued",
    ]
    assert 'scope="row"' in body
    body = client.get("/requests/").content.decode()
    assert 'data-label="Queued"' not in body
    assert 'data-label="Total"' in body
    shown = client.get("/requests/?columns=api&columns=total_ms").context["list"]
    assert shown.heads[2].url == "/requests/?columns=api&columns=total_ms&sort=total_ms"


def test_a_head_sorts_and_a_second_click_turns_the_order(client: Client, seeded: Seeded) -> None:
    shown = client.get("/requests/?status=completed&before=3").context["list"]
    heads = {head.column.name: head for head in shown.heads}
    assert heads["total_ms"].url == "/requests/?status=completed&sort=total_ms"
    assert heads["when"].direction == "descending"
    assert heads["api"].url == ""
    turned = client.get("/requests/?sort=total_ms").context["list"]
    heads = {head.column.name: head for head in turned.heads}
    assert heads["total_ms"].url == "/requests/?sort=-total_ms"
    assert heads["total_ms"].direction == "descending"


def test_a_rows_summary_is_a_part_for_htmx_and_a_page_without(
    client: Client, seeded: Seeded
) -> None:
    row = InferenceRequest.objects.get(status="failed")
    address = f"/requests/?status=failed&open={row.pk}"
    part = client.get(address, headers={**HTMX, "HX-Target": "drawer"}).content.decode()
    assert part.strip().startswith('<section id="drawer"')
    assert "Request ID" in part
    whole = client.get(address).content.decode()
    assert "<html" in whole
    assert "Request ID" in whole
    rows = client.get("/requests/?status=failed", headers={**HTMX, "HX-Target": "rows"})
    assert "Request ID" not in rows.content.decode()
    assert "open=" in rows.content.decode()
    assert client.get("/requests/?open=x").status_code == 200


def select(client: Client, action: str, *jobs: TrainingJob, **fields: str) -> Any:
    return client.post(
        f"/training/selected/{action}/", {"pick": [job.pk for job in jobs], **fields}
    )


def test_selected_jobs_are_cancelled_after_one_question_and_each_refusal_is_told(
    client: Client, seeded: Seeded
) -> None:
    waiting = list(TrainingJob.objects.waiting())
    chosen = [*waiting, seeded.done]
    asked = select(client, "cancel", *chosen, back="/training/?status=queued")
    assert f"Cancel {len(waiting)} jobs?" in text(asked)
    assert f"Job {seeded.done.pk} Not possible. It is already completed." in text(asked)
    assert TrainingJob.objects.waiting().count() == len(waiting)
    done = select(client, "cancel", *chosen, back="/training/?status=queued", confirmed="yes")
    assert done.headers["Location"] == "/training/?status=queued"
    assert not TrainingJob.objects.waiting().exists()
    said = text(client.get("/training/"))
    assert f"{len(waiting)} jobs cancelled." in said
    assert f"1 job not cancelled. Job {seeded.done.pk} is already completed" in said


def test_an_action_on_nothing_on_others_or_of_another_name_does_nothing(
    client: Client, seeded: Seeded
) -> None:
    assert select(client, "cancel", confirmed="yes").headers["Location"] == "/training/"
    assert "Select at least one job" in text(client.get("/training/"))
    gone = client.post("/training/selected/cancel/", {"pick": ["x", "99999", "9" * 40]})
    assert gone.status_code == 302
    assert select(client, "explode", seeded.done).status_code == 404
    left = select(client, "retry", seeded.done, confirmed="y", back="//evil.example/")
    assert left.headers["Location"] == "/training/"
    none = select(client, "retry", seeded.done)
    assert "1 job: not possible" in text(none)
    assert 'class="btn primary"' not in none.content.decode()


def test_htmx_gets_the_question_alone_and_is_led_on_without_it(
    client: Client, seeded: Seeded
) -> None:
    headers = {**HTMX, "HX-Current-URL": "http://testserver/training/?status=queued"}
    job = TrainingJob.objects.waiting()[0]
    part = client.post("/training/selected/cancel/", {"pick": job.pk}, headers=headers)
    assert "<html" not in part.content.decode()
    assert 'name="back" value="/training/?status=queued"' in part.content.decode()
    empty = client.post("/training/selected/cancel/", headers=headers)
    assert (empty.status_code, empty.headers["HX-Redirect"]) == (204, "/training/?status=queued")


def test_the_menu_of_a_row_has_what_can_be_done_with_it(client: Client, seeded: Seeded) -> None:
    body = client.get("/training/?status=failed").content.decode()
    assert 'formaction="/training/selected/retry/"' in body.partition('id="rows"')[2]
    row = client.get("/training/?status=completed").content.decode().partition("<tbody>")[2]
    assert "/selected/retry/" not in row.partition("</tbody>")[0]


def test_versions_are_sorted_by_their_figures_where_they_are_few(
    client: Client, seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_version(seeded.model, "0.4.0", seeded.dataset, metrics={"val_loss": 0.5})
    make_version(seeded.model, "0.5.0", seeded.dataset, metrics={"val_loss": 0.001})
    url = seeded.model.get_absolute_url()

    def numbers(asked: str) -> list[str]:
        page = client.get(f"{url}?{asked}", headers={**HTMX, "HX-Target": "rows"})
        return [version.version for version in page.context["rows"]]

    assert numbers("")[:2] == ["0.5.0", "0.4.0"]
    best = numbers("sort=val_loss")
    assert (best[0], best[-1]) == ("0.5.0", "0.4.0")
    assert numbers("sort=-val_loss") == best[::-1]
    first = ModelVersion.objects.get(version="0.5.0")
    assert numbers(f"sort=val_loss&before={first.pk}") == best[1:]
    assert numbers("sort=created")[0] == "0.5.0"
    assert numbers("status=failed") == ["0.2.1"]
    monkeypatch.setattr("registry.web.views.model_lists.SORTED_BY_FIGURES", 1)
    assert numbers("sort=val_loss") == numbers("")


def test_selected_versions_are_compared_and_archived(client: Client, seeded: Seeded) -> None:
    url = seeded.model.get_absolute_url()
    picked = {"pick": ["0.1.0", "0.2.0"]}
    led = client.post(f"{url}selected/compare/", picked)
    assert led.headers["Location"] == f"{url}?compare=0.1.0&compare=0.2.0#compare"
    client.post(f"{url}selected/archive/", {**picked, "confirmed": "yes"})
    assert ModelVersion.objects.get(version="0.1.0").status == "archived"
    said = text(client.get(url))
    assert "1 version archived." in said
    assert "calendar@0.2.0 has the alias production" in said
    client.post(f"{url}selected/restore/", {**picked, "confirmed": "yes"})
    assert ModelVersion.objects.get(version="0.1.0").status == "ready"
    other = make_model(seeded.base, "other")
    client.post(f"{other.get_absolute_url()}selected/archive/", {**picked, "confirmed": "yes"})
    assert ModelVersion.objects.get(version="0.1.0").status == "ready", "of another model"


def test_selected_models_are_archived_and_restored(client: Client, seeded: Seeded) -> None:
    empty = make_model(seeded.base, "empty")
    seeded.model.jobs.filter(status__in=["queued", "running"]).update(
        status="cancelled", lease=None
    )
    pick = {"pick": [empty.pk, seeded.model.pk], "confirmed": "yes"}
    client.post("/models/selected/archive/", pick)
    seeded.model.refresh_from_db()
    assert seeded.model.archived_at
    said = text(client.get("/models/"))
    assert "1 model archived." in said
    assert "empty has no versions to archive." in said
    client.post("/models/selected/restore/", pick)
    seeded.model.refresh_from_db()
    assert seeded.model.archived_at is None


def test_data_sets_are_deleted_with_their_files_unless_they_are_used(
    client: Client, seeded: Seeded, tmp_path: Path
) -> None:
    unused = make_dataset(tmp_path, "unused")
    again = register_dataset("unused", write_examples(tmp_path / "again", train=30))
    assert again.previous == unused
    pick = {"pick": [again.pk, seeded.dataset.pk], "confirmed": "yes"}
    client.post("/datasets/selected/delete/", pick)
    assert list(Dataset.objects.filter(name="unused")) == []
    assert not (paths.root() / again.path).exists()
    assert (paths.root() / seeded.dataset.path).exists()
    said = text(client.get("/datasets/"))
    assert "1 data set deleted." in said
    assert "calendar-requests is used by calendar@" in said
    assert "Data set deleted" in text(client.get("/system/audit/"))
    assert client.delete(f"/api/datasets/{seeded.dataset.pk}").status_code == 409
    other = register_dataset("other", write_examples(tmp_path / "other", train=33))
    assert client.delete(f"/api/datasets/{other.pk}").status_code == 204
    assert client.get(f"/api/datasets/{other.pk}").status_code == 404


def test_selected_keys_are_revoked_and_the_live_ones_come_first(client: Client, db: None) -> None:
    rows = {name: ApiToken.issue(name)[0] for name in ("a", "b", "c")}
    asked = client.post("/system/keys/selected/revoke/", {"pick": [rows["a"].pk, rows["c"].pk]})
    assert "Revoke 2 keys?" in text(asked)
    assert not ApiToken.objects.exclude(revoked_at=None).exists()
    pick = {"pick": [rows["a"].pk], "confirmed": "yes"}
    client.post("/system/keys/selected/revoke/", pick)
    names = [key.name for key in client.get("/system/keys/").context["rows"]]
    assert names == ["b", "c", "a"]
    live = client.get("/system/keys/?status=live").context["rows"]
    assert [key.name for key in live] == ["b", "c"]
    rows["c"].count(5, 5)
    most = client.get("/system/keys/?sort=requests").context["rows"]
    assert most[0] == rows["c"]
    limits = client.get(f"/system/keys/?open={rows['b'].pk}").content.decode()
    assert f'action="/system/keys/{rows["b"].pk}/limits/"' in limits
    made = client.post("/system/keys/", {"name": "new", "scope": "inference"})
    assert "new" in [key.name for key in made.context["rows"]]


def test_selected_sweeps_are_cancelled(client: Client, seeded: Seeded) -> None:
    sweep = make_sweep(seeded.model, seeded.dataset)
    assert "5 of 6" in text(client.get("/training/sweeps/"))
    client.post("/training/sweeps/selected/cancel/", {"pick": sweep.pk, "confirmed": "yes"})
    said = text(client.get("/training/sweeps/?q=rate"))
    assert "6 of 6" in said
    assert "1 sweep cancelled." in said
    again = client.post("/training/sweeps/selected/cancel/", {"pick": sweep.pk})
    assert "All its jobs have finished." in text(again)


def test_replays_of_a_span_of_time(client: Client, seeded: Seeded) -> None:
    now = timezone.now()
    one, two = seeded.versions[:2]
    made = Replay.objects.create(source=one, target=two, since=now, until=now, status="completed")
    assert list(client.get("/requests/replays/?span=1h").context["rows"]) == [made]
    assert "No replay matches" in text(client.get("/requests/replays/?until=2001-01-01"))


def test_base_models_are_sorted_and_their_imports_are_a_part_of_their_own(
    client: Client, seeded: Seeded
) -> None:
    make_base("tiny", size_bytes=5, source="hub")
    largest = [base.name for base in client.get("/bases/?sort=size").context["rows"]]
    assert largest[-1] == "tiny"
    assert [base.name for base in client.get("/bases/?source=hub").context["rows"]] == ["tiny"]
    work = client.get("/bases/", headers={**HTMX, "HX-Target": "work"}).content.decode()
    assert work.strip().startswith('<div\n  id="work"')
    assert "tiny" not in work


def test_a_long_name_is_cut_on_screen_and_whole_in_its_title(
    client: Client, seeded: Seeded
) -> None:
    name = ("a-name-as-long-as-names-may-be-" * 4)[:100]
    Model.objects.filter(pk=seeded.model.pk).update(name=name)
    for path in ("/", "/models/", "/training/"):
        page = client.get(path).content.decode()
        assert f'<span class="name" title="{name}">{name}</span>' in page, path
    assert f'<span class="name" title="{name}@0.2.0">' in client.get("/requests/").content.decode()
    assert 'title="SmolLM2' not in client.get("/bases/").content.decode(), "a short one is plain"
