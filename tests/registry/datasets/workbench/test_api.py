"""Rows over the API and on the command line."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from registry.datasets.workbench.findings import Findings
from registry.models import Dataset, DatasetTask
from tests.registry.datasets.workbench.build import LIMIT, TRAIN

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture
def url(found: Findings) -> str:
    return f"/api/datasets/{found.dataset.pk}"


def post(client: Client, url: str, body: dict[str, Any]) -> Any:
    return client.post(url, body, content_type="application/json")


def test_rows_are_checked_counted_and_paged(
    client: Client, url: str, found: Findings, started: list[DatasetTask]
) -> None:
    body = {"base_model_id": found.report.base_model_id, "max_seq_length": 32}
    task = post(client, f"{url}/findings", body)
    assert (task.status_code, task.json()["kind"]) == (202, "rows")
    counts = client.get(f"{url}/findings").json()
    assert counts["issues"]["train"]["near"] == 1
    assert counts["max_seq_length"] == LIMIT
    page = client.get(f"{url}/rows", {"issue": "near"}).json()
    (row,) = page["items"]
    assert (row["split"], row["line"], row["issues"]) == ("train", 4, ["near"])
    assert row["like"][0]["line"] == 3
    assert (page["count"], page["next"]) == (1, None)
    first = client.get(f"{url}/rows?split=train&limit=4").json()
    assert (len(first["items"]), first["next"]) == (4, 4)
    assert client.get(f"{url}/rows?q=WIZARDS&longest=200").json()["next"] is None
    assert client.get(f"{url}/rows", {"issue": "none"}).status_code == 422


def test_one_row_has_its_tokens(client: Client, url: str) -> None:
    row = client.get(f"{url}/rows/train/7").json()
    assert row["checked"]["row"] == TRAIN[6]
    assert row["personal"] == ["ana.lopez@example.com"]
    trained = [piece["text"] for piece in row["rendered"][0] if piece["trained"]]
    assert trained == ["I ", "did ", "</s> "]
    assert row["origins"] == []
    assert client.get(f"{url}/rows/train/99").status_code == 404


def test_a_fix_makes_the_next_revision_and_says_what_it_changed(client: Client, url: str) -> None:
    body = {"action": "redact", "wanted": {"issue": "personal"}, "message": "Private"}
    made = post(client, f"{url}/fixes", body)
    assert (made.status_code, made.json()["revision"]) == (201, 2)
    changed = client.get(f"/api/datasets/{made.json()['id']}/fixes?how=redacted&limit=1").json()
    assert changed["counts"] == {"dropped": 0, "edited": 0, "moved": 0, "redacted": 3}
    assert changed["message"] == "Private"
    (one,) = changed["items"]
    assert (one["before"]["line"], one["after"]["line"]) == (7, 7)
    assert one["after"]["row"]["messages"][0]["content"] == "write to [mail address]"
    assert client.get(f"{url}/fixes").json()["items"] == []
    assert post(client, f"{url}/fixes", body).status_code == 409  # not the newest any more
    assert post(client, f"{url}/fixes", {"action": "drop"}).status_code == 409
    unchecked = f"/api/datasets/{made.json()['id']}"
    assert client.get(f"{unchecked}/rows").status_code == 409


def test_a_row_is_edited_with_json(client: Client, url: str) -> None:
    body = {"action": "edit", "rows": ["train:1"], "row": {"prompt": "a", "completion": "b"}}
    assert post(client, f"{url}/fixes", body).status_code == 201
    assert Dataset.objects.get(revision=2).fixes["edited"] == 1


def test_a_row_that_no_file_can_hold_is_refused(client: Client, url: str) -> None:
    for text in ("NaN", '"\\ud800"'):
        sent = f'{{"action": "edit", "rows": ["train:1"], "row": {{"text": {text}}}}}'
        answer = client.post(f"{url}/fixes", sent, content_type="application/json")
        assert answer.status_code == 422, answer.content


def test_the_command_lists_rows_and_fixes_them(found: Findings) -> None:
    out = io.StringIO()
    call_command("dataset_rows", "troubled", "--issue", "near", stdout=out)
    assert "Near-duplicate: 1" in out.getvalue()
    assert "train:4" in out.getvalue()
    assert "% of train:3" in out.getvalue()
    with pytest.raises(CommandError, match="Name the rows"):
        call_command("dataset_rows", "troubled", "--drop")
    call_command("dataset_rows", "troubled", "--issue", "card", "--drop", "-m", "No", stdout=out)
    assert "troubled (revision 2): 1 dropped" in out.getvalue()
    assert Dataset.objects.get(revision=2).fixes["message"] == "No"
    call_command("dataset_rows", "troubled", "--row", "train:3", "--move-to", "test", stdout=out)
    assert "troubled (revision 3): 1 moved" in out.getvalue()
