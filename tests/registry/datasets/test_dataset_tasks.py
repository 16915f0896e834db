"""Large data sets: a row tells how far its work is, what became of it, and what may be retried."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone

from registry.background import work
from registry.background.progress import Progress
from registry.datasets import snapshots, tasks, uploads
from registry.datasets.reading.examples import BadExamples
from registry.errors import Conflict, Invalid, Unavailable
from registry.maintenance import gc
from registry.models import BaseModel, Dataset, DatasetReport, DatasetTask
from registry.models.work import SILENCE
from registry.storage import paths
from tests.registry.build import chat, make_base, make_dataset
from tests.registry.hub_server import COMMIT, REPO, FakeHub, serving

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
Status = DatasetTask.Status


def make_task(content: bytes = b"", columns: dict[str, str] | None = None) -> DatasetTask:
    """A registration whose file was uploaded, and that nobody works on yet."""
    content = content or "".join(json.dumps(chat(n)) + "\n" for n in range(40)).encode()
    saved = uploads.save([SimpleUploadedFile("many.jsonl", content)])
    options = {"upload": saved.folder.name, "file": saved.source.name, "description": "d"}
    return DatasetTask.objects.create(
        kind="register",
        name="many",
        source="Upload: many.jsonl",
        options={**options, "columns": columns or {}},
    )


def uploaded() -> list[Path]:
    return list((paths.root() / "uploads").iterdir())


@pytest.mark.both_databases
def test_a_task_registers_what_was_uploaded_and_clears_up(client: Client) -> None:
    task = make_task()
    dataset = tasks.run(task)
    assert isinstance(dataset, Dataset)
    assert (dataset.name, dataset.source, dataset.examples) == ("many", "Upload: many.jsonl", 40)
    task.refresh_from_db()
    assert (task.status, task.share, task.dataset) == (Status.COMPLETED, 1.0, dataset)
    assert uploaded() == []
    page = client.get(task.get_absolute_url())
    assert page["Location"] == dataset.get_absolute_url()
    polled = client.get(task.get_absolute_url(), headers={"HX-Request": "true"})
    assert polled["HX-Redirect"] == dataset.get_absolute_url()
    told = client.get(f"/api/datasets/tasks/{task.pk}").json()
    assert (told["status"], told["dataset_id"]) == ("completed", dataset.pk)


def test_wrong_examples_are_named_on_the_page_and_are_not_retried(client: Client) -> None:
    task = make_task(b"{}\n" * 9)
    with pytest.raises(BadExamples):
        tasks.run(task)
    task.refresh_from_db()
    assert task.status == Status.FAILED
    page = client.get(task.get_absolute_url()).content.decode()
    assert "line 9: has none of" in page
    assert ">Retry<" not in page
    assert uploaded() == []
    with pytest.raises(Conflict, match="cannot be retried"):
        work.retry(task)
    assert "line 1" in client.get("/datasets/").content.decode()


@pytest.mark.both_databases
def test_a_task_whose_process_is_silent_has_failed_and_keeps_what_a_retry_needs(
    client: Client,
) -> None:
    task = make_task()
    assert gc.leftovers(timedelta(0)) == []  # what a running task works on is no leftover
    long_ago = timezone.now() - SILENCE - timedelta(seconds=1)
    DatasetTask.objects.filter(pk=task.pk).update(heartbeat_at=long_ago)
    page = client.get(task.get_absolute_url()).content.decode()
    assert "nothing was kept. Retry" in page
    assert ">Retry<" in page
    assert [one.reason for one in gc.leftovers(timedelta(0))] == ["an upload that is over"]
    with pytest.raises(Conflict, match="marked as failed in the meantime"):
        tasks.run(task)  # a child that wakes up late does not go on
    assert not Dataset.objects.exists()


@pytest.mark.both_databases
def test_two_tasks_never_register_one_name_at_once() -> None:
    make_task()
    file = SimpleUploadedFile("a.jsonl", b"x" * (tasks.AT_ONCE + 1))
    with pytest.raises(Conflict, match="already running"):
        tasks.start_upload("MANY", [file])
    assert len(uploaded()) == 1


def test_a_running_task_shows_its_progress(client: Client) -> None:
    task = make_task()
    DatasetTask.objects.update(stage="Reading the examples", examples=415_000, share=0.41)
    page = client.get(task.get_absolute_url()).content.decode()
    assert 'hx-trigger="every 1s"' in page
    assert "41 %" in page
    assert "415,000 examples read" in page
    polled = client.get("/datasets/", headers={"HX-Request": "true", "HX-Target": "tasks"})
    assert "Reading the examples, 41 %" in polled.content.decode()
    assert "<main" not in polled.content.decode()


def test_progress_is_told_while_a_file_is_read(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": f"line {n}"}) + "\n" for n in range(12_000))
    told: list[Any] = []
    (tmp_path / "a.jsonl").write_text(lines)

    class Listening(Progress):
        def stage(self, text: str) -> None:
            told.append(text)

        def part(self, share: float, **counts: int) -> None:
            told.append((counts["examples"], round(share, 1)))

    snapshots.register_dataset(
        "told",
        tmp_path / "a.jsonl",
        progress=Listening(),
    )
    assert told == [
        "Reading the examples",
        (5_000, 0.4),
        (10_000, 0.8),
        "Computing checksums",
    ]


@pytest.mark.both_databases
def test_an_examination_is_a_task_as_well(client: Client) -> None:
    dataset, base = make_dataset(), make_base()
    options = {"base": base.pk, "max_seq_length": 64}
    task = DatasetTask.objects.create(
        kind="examine", name=dataset.name, source="tiny", dataset=dataset, options=options
    )
    call_command("run_dataset_task", str(task.pk), stdout=io.StringIO())
    report = DatasetReport.objects.get()
    location = client.get(task.get_absolute_url())["Location"]
    assert location == f"/datasets/{dataset.pk}/doctor/?report={report.pk}"
    BaseModel.objects.all().delete()
    DatasetTask.objects.update(status=Status.RUNNING)
    with pytest.raises(CommandError, match="no longer exists"):
        call_command("run_dataset_task", str(task.pk))
    assert client.get(task.get_absolute_url()).status_code == 200


# ----------------------------------------------------------------------- columns


@pytest.mark.slow
def test_columns_are_chosen_over_the_api(client: Client) -> None:
    rows = {
        "ask": [f"q{n}" for n in range(40)],
        "say": [f"a{n}" for n in range(40)],
        "id": range(40),
    }
    content = io.BytesIO()
    pq.write_table(pa.table({k: list(v) for k, v in rows.items()}), content)
    file = SimpleUploadedFile("a.parquet", content.getvalue())
    columns = json.dumps({"prompt": "ask", "completion": "say"})
    made = client.post("/api/datasets", {"name": "asked", "file": file, "columns": columns})
    assert made.status_code == 201, made.content
    dataset = Dataset.objects.get(name="asked")
    assert (dataset.format, dataset.examples) == ("completions", 40)
    [first] = snapshots.read_examples(dataset, "valid", limit=1)
    assert set(first) == {"prompt", "completion"}
    file.seek(0)
    no = json.dumps({"prompt": "ask", "completion": "no"})
    refused = client.post("/api/datasets", {"name": "x", "file": file, "columns": no})
    assert 'has no "no"; it has ask, say, id' in refused.json()["error"]["message"]
    file.seek(0)
    wrong = client.post("/api/datasets", {"name": "x", "file": file, "columns": '{"role": "a"}'})
    assert "'role' cannot be mapped" in wrong.json()["error"]["message"]


def test_a_row_in_no_format_names_the_columns_that_can_be_mapped(client: Client) -> None:
    file = SimpleUploadedFile("a.csv", b"ask,say\n1,2\n")
    answer = client.post("/api/datasets", {"name": "x", "file": file})
    assert "map its columns yourself: ask, say." in answer.json()["error"]["message"]


# ------------------------------------------------------------------------ the hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with one data set: training and test examples in a folder, beside code."""

    def parquet(first: int, count: int) -> bytes:
        content = io.BytesIO()
        texts = [f"line {n}" for n in range(first, first + count)]
        pq.write_table(pa.table({"text": texts}), content)
        return content.getvalue()

    files = {
        "data/train-00000-of-00002.parquet": parquet(0, 60),
        "data/train-00001-of-00002.parquet": parquet(60, 40),
        "data/test-00000-of-00001.parquet": parquet(100, 10),
        "README.md": b"# Lines",
        "lines.py": b"raise SystemExit",
    }
    with serving(FakeHub(files, kind="dataset")) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


def hub_task() -> DatasetTask:
    return DatasetTask.objects.create(
        kind="register",
        name="lines",
        source=f"hub:{REPO}",
        options={"description": "", "columns": {}},
    )


@pytest.mark.slow
def test_a_hub_id_becomes_a_data_set_pinned_to_its_commit(hub: FakeHub) -> None:
    dataset = snapshots.register_hub_dataset("lines", f"hub:{REPO}")
    assert dataset.source == f"hub:{REPO}@{COMMIT}"
    assert dataset.splits["test"] == 10
    assert dataset.splits["train"] + dataset.splits["valid"] == 100
    assert [name for name, _ in hub.asked if not name.startswith("data/")] == []  # and no code
    assert list((paths.root() / "staging").iterdir()) == []


@pytest.mark.slow
def test_a_task_goes_on_with_a_download_that_broke_off(hub: FakeHub) -> None:
    hub.cut_after, hub.cuts = 100, 5
    task = hub_task()
    with pytest.raises(Unavailable, match="what has arrived is kept"):
        tasks.run(task)
    assert work.can_retry(task)
    hub.asked.clear()
    DatasetTask.objects.update(status=Status.RUNNING)
    dataset = tasks.run(DatasetTask.objects.get())
    assert isinstance(dataset, Dataset)
    assert dataset.examples == 110
    assert hub.asked[0][1] == "bytes=500-"
    assert list((paths.root() / "staging").iterdir()) == []


def test_other_bytes_than_the_hub_promised_are_refused(hub: FakeHub) -> None:
    hub.digest = "0" * 64
    with pytest.raises(Invalid, match="does not match the checksum from the hub"):
        snapshots.register_hub_dataset("lines", f"hub:{REPO}")
    assert list((paths.root() / "staging").iterdir()) == []


@pytest.mark.parametrize("name", ["../out.jsonl", "/out.jsonl", "a\\b.jsonl"])
def test_a_hub_that_names_a_file_elsewhere_is_refused(hub: FakeHub, name: str) -> None:
    hub.files[name] = b"{}"
    with pytest.raises(Invalid, match="which is refused"):
        snapshots.register_hub_dataset("lines", f"hub:{REPO}")
    assert hub.asked == []
