"""How a file was read is said where a person looks: page, list of tasks, API and command."""

from __future__ import annotations

import gzip
import html
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client

from registry.datasets import snapshots, tasks
from registry.datasets.dialects.table import DIALECTS
from registry.models import Dataset, DatasetTask
from tests.registry.build import add_on_page, write_jsonl
from tests.registry.hub_server import REPO, FakeHub, serving

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
READ_AS = "Alpaca (instruction, output, input)"
UNUSED = "These columns are not used: mood."
VALID = "The valid split was read from val.jsonl."


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"instruction": f"q{n}", "input": "i", "output": "a", "mood": "glad"}
        for n in range(first, first + count)
    ]


def sent(name: str, *given: dict[str, Any]) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, "".join(json.dumps(row) + "\n" for row in given).encode())


@pytest.mark.both_databases
def test_the_page_says_how_a_file_was_read(client: Client) -> None:
    files = [sent("train.jsonl", *rows(3)), sent("val.jsonl", *rows(2, 9))]
    page = add_on_page(client, files, name="said")
    body = page.content.decode()
    assert f"said is registered: 5 examples. {VALID} {UNUSED}" in body
    later = client.get(Dataset.objects.get().get_absolute_url()).content.decode()
    assert all(text in later for text in (READ_AS, UNUSED, VALID))


def test_the_api_says_how_a_file_was_read(client: Client) -> None:
    files = [sent("train.jsonl", *rows(3)), sent("val.jsonl", *rows(2, 9))]
    made = client.post("/api/datasets", {"name": "said", "file": files})
    assert made.status_code == 201
    for answer in (made.json(), client.get(f"/api/datasets/{made.json()['id']}").json()):
        assert answer["read_as"] == [READ_AS]
        assert answer["unused"] == ["mood"]
        assert answer["files"] == {"train": ["train.jsonl"], "valid": ["val.jsonl"]}
        assert answer["notes"] == [VALID, UNUSED]


def test_the_command_says_how_a_file_was_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", rows(3))
    write_jsonl(tmp_path / "val.jsonl", rows(2, 9))
    out = io.StringIO()
    call_command("register_dataset", "said", str(tmp_path), stdout=out, stderr=io.StringIO())
    assert out.getvalue().splitlines()[1:] == [f"Read as: {READ_AS}", VALID, UNUSED]


def test_a_large_upload_keeps_the_names_of_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AT_ONCE", 0)
    monkeypatch.setattr("registry.background.work.launch", lambda task: task)
    files = [sent("train.jsonl", *rows(3)), sent("val.jsonl", *rows(2, 9))]
    task = tasks.start_upload("said", files)
    assert isinstance(task, DatasetTask)
    made = tasks.run(task)
    assert isinstance(made, Dataset)
    assert made.notes == [VALID, UNUSED]


@pytest.mark.slow
def test_a_compressed_upload_counts_as_what_it_unpacks_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("registry.background.work.launch", lambda task: task)
    content = b"".join(b'{"text": "%d"}\n' % n for n in range(9))
    small, large = gzip.compress(content), os.urandom(tasks.AT_ONCE // 2)
    assert isinstance(tasks.start_upload("a", [SimpleUploadedFile("a.jsonl.gz", small)]), Dataset)
    made = tasks.start_upload("b", [SimpleUploadedFile("a.jsonl.gz", large)])
    assert isinstance(made, DatasetTask)


def test_the_page_of_new_data_sets_lists_every_dialect(client: Client) -> None:
    page = client.get("/datasets/new/").content.decode()
    assert all(f"<dt>{dialect.name.replace("'", '&#x27;')}</dt>" in page for dialect in DIALECTS)


def test_a_message_that_is_not_learned_is_marked_on_the_page(
    client: Client, tmp_path: Path
) -> None:
    asked = {"role": "user", "content": "q"}
    said = {"role": "assistant", "content": "a"}
    chat = {"messages": [asked, {**said, "weight": 0}, asked, said]}
    for split in ("train", "valid"):
        write_jsonl(tmp_path / f"{split}.jsonl", [chat])
    dataset = snapshots.register_dataset("weighted", tmp_path)
    page = client.get(dataset.get_absolute_url()).content.decode()
    assert page.count("assistant, not learned</span>") == 1


def lines(text: str, count: int) -> bytes:
    return "".join(json.dumps({"text": f"{text} {n}"}) + "\n" for n in range(count)).encode()


@pytest.mark.parametrize(
    ("files", "splits", "noted"),
    [
        (
            {"train.jsonl": lines("a", 5), "val.jsonl": lines("b", 2)},
            {"train": 5, "valid": 2},
            [VALID],
        ),
        (
            {
                "training.json": json.dumps([{"text": "a"}]).encode(),
                "dev.json": json.dumps([{"text": "b"}]).encode(),
                "dataset_infos.json": b"{}",
            },
            {"train": 1, "valid": 1},
            [
                "The train split was read from training.json.",
                "The valid split was read from dev.json.",
            ],
        ),
    ],
    ids=["lines", "lists"],
)
def test_a_hubs_validation_files_are_the_valid_split_and_its_json_is_read(
    files: dict[str, bytes],
    splits: dict[str, int],
    noted: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(FakeHub(files, kind="dataset")) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        dataset = snapshots.register_hub_dataset("far", f"hub:{REPO}")
    assert (dataset.splits, dataset.notes) == (splits, noted)


def test_the_page_shows_thoughts_and_labels(client: Client) -> None:
    def page(*given: dict[str, Any]) -> str:
        files = [sent("train.jsonl", *given), sent("val.jsonl", *given)]
        made = add_on_page(client, files, name="shown")
        return html.unescape(made.content.decode())

    asked = {"role": "user", "content": "q"}
    thought = {"role": "assistant", "content": "a", "reasoning": "hm"}
    said = '<span class="role">{}</span>{}</div>'
    assert said.format("assistant", "<think>\nhm\n</think>\n\na") in page(
        {"messages": [asked, thought]}
    )
    rows = [{"prompt": [asked], "completion": [thought], "label": label} for label in (True, False)]
    body = page(*rows)
    for word in ("good", "bad"):
        assert said.format(f"assistant, {word} answer", "<think>\nhm\n</think>\n\na") in body
    assert "All answers have the label true" in page(rows[0])
