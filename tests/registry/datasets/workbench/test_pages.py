"""The pages of rows: the check, the list with its filters and fixes, one row, and what changed."""

from __future__ import annotations

import json
import re
from html import unescape

import pytest
from django.test import Client

from registry.datasets import snapshots, tasks
from registry.datasets.workbench.findings import Findings
from registry.models import Dataset, DatasetTask
from tests.registry.build import make_base, make_dataset
from tests.registry.datasets.workbench.build import chat

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture
def url(found: Findings) -> str:
    return f"/datasets/{found.dataset.pk}/"


def marked(element: str, page: str) -> list[str]:
    return re.findall(rf"<{element} [^>]*>([^<]*)</{element}>", page)


def test_rows_that_are_not_checked_offer_the_check(
    client: Client, started: list[DatasetTask]
) -> None:
    dataset, base = make_dataset(), make_base()
    url = f"/datasets/{dataset.pk}/rows/"
    assert "Check 12 rows" in client.get(url).content.decode()
    row = client.get(f"{url}train/1/")
    said = snapshots.read_examples(dataset, "train", 0, 1)[0]["messages"][-1]["content"]
    assert said in unescape(row.content.decode())
    assert "not checked yet" in row.content.decode()
    assert 'value="edit"' not in row.content.decode()
    assert client.get(f"{url}train/99/").status_code == 404
    assert client.post(f"{url}train/1/", {"row": "train:1", "action": "drop"}).status_code == 409
    refused = client.post(f"{url}check/", {"base": base.pk, "max_seq_length": 1})
    assert refused.status_code == 422
    sent = client.post(f"{url}check/", {"base": base.pk, "max_seq_length": 64})
    (task,) = started
    assert sent["Location"] == task.get_absolute_url()
    assert client.get(url)["Location"] == task.get_absolute_url()
    tasks.run(task)
    assert client.get(task.get_absolute_url())["Location"] == url
    assert "12 rows" in client.get(url).content.decode()


def test_the_list_shows_rows_with_their_issues(client: Client, url: str) -> None:
    page = client.get(f"{url}rows/?split=train&issue=near").content.decode()
    assert "1 row" in page
    assert f'href="{url}rows/train/4/"' in page
    assert f'href="{url}rows/train/3/"' in page  # what it is like
    assert 'Near-duplicate <span class="num">1</span>' in page
    part = client.get(f"{url}rows/?q=wizards", headers={"HX-Request": "true"}).content.decode()
    assert "<main" not in part
    assert 'value="train:3"' in part
    assert 'value="train:5"' not in part
    none = client.get(f"{url}rows/?issue=wrong").content.decode()
    assert "No row matches." in none
    assert '<option value="wrong" selected>' in none
    assert "There is no issue" in client.get(f"{url}rows/?issue=none").content.decode()
    assert client.get(f"{url}rows/?shortest=x&split=dev&page=99").status_code == 200


def test_ticked_rows_are_dropped_and_the_next_revision_says_so(
    client: Client, url: str, found: Findings, started: list[DatasetTask]
) -> None:
    sent = {"action": "drop", "scope": "rows", "row": ["train:2", "train:5"], "message": "Tidy"}
    answer = client.post(f"{url}rows/", sent)
    made = Dataset.objects.get(revision=2)
    assert answer["Location"] == started[0].get_absolute_url()
    assert "rows 2 dropped" in client.get(answer["Location"]).content.decode()
    page = client.get(made.get_absolute_url()).content.decode()
    assert "Tidy" in page
    assert "2 dropped, 0 edited" in page
    changes = client.get(f"/datasets/{made.pk}/changes/").content.decode()
    assert "train 5" in changes
    assert "word word" in changes
    old = client.get(f"{url}rows/").content.decode()
    assert "This is an older revision" in old
    assert 'name="action"' not in old
    assert "No rows were changed by hand" in client.get(f"{url}changes/").content.decode()


def test_all_rows_that_match_are_redacted(client: Client, url: str) -> None:
    client.post(f"{url}rows/?issue=mail", {"action": "redact", "scope": "all"})
    made = Dataset.objects.get(revision=2)
    assert made.fixes["redacted"] == 1
    page = client.get(f"/datasets/{made.pk}/changes/?how=redacted").content.decode()
    assert marked("del", page) == ["ana.lopez@example.com"]
    assert marked("ins", page) == ["[mail address]"]


def test_what_cannot_be_done_is_said_and_changes_nothing(client: Client, url: str) -> None:
    def refused(path: str, **sent: str) -> str:
        return client.post(f"{url}rows/{path}", sent, follow=True).content.decode()

    assert "No row is ticked" in refused("", action="drop", scope="rows")
    assert "Choose what to do" in refused("", action="burn", scope="all")
    assert "in train already" in refused("", action="move", row="train:1", to="train")
    wrong = client.post(
        f"{url}rows/train/1/", {"action": "edit", "row": "train:1", "text": '{"mood": 7}'}
    )
    assert wrong.status_code == 422
    assert "The row has none of" in wrong.content.decode()
    assert "mood&quot;: 7" in wrong.content.decode()  # what was typed stays
    assert Dataset.objects.count() == 1


def test_one_row_shows_its_tokens_issues_and_where_it_comes_from(
    client: Client, url: str, started: list[DatasetTask]
) -> None:
    page = client.get(f"{url}rows/train/7/").content.decode()
    assert 'hx-get="?tokens=1"' in page
    assert "<code>ana.lopez@example.com</code>" in page
    part = client.get(f"{url}rows/train/7/?tokens=1", headers={"HX-Request": "true"})
    assert marked("mark", part.content.decode()) == ["I ", "did ", "&lt;/s&gt; "]
    assert "write " in marked("span", part.content.decode())
    assert client.get(f"{url}rows/train/99/").status_code == 404
    text = json.dumps(chat("write to them", "I did"))
    client.post(f"{url}rows/train/7/", {"action": "edit", "row": "train:7", "text": text})
    made = Dataset.objects.get(revision=2)
    tasks.run(started[0])
    page = client.get(f"/datasets/{made.pk}/rows/train/7/").content.decode()
    assert "edited," in page
    assert f'href="{url}rows/train/7/"' in page


def test_a_missing_snapshot_is_said(client: Client, url: str, found: Findings) -> None:
    from registry.datasets.snapshots import dataset_path

    (dataset_path(found.dataset) / "train.jsonl").unlink()
    assert "is missing from storage" in client.get(f"{url}rows/").content.decode()
    row = client.get(f"{url}rows/train/1/", follow=True)
    assert "is missing from storage" in row.content.decode()
