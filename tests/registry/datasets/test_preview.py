"""A source is seen as a data set before it is one: on the page, over the API and by the command."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import time
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

from registry.background import work
from registry.datasets import preview as previews
from registry.datasets import snapshots, tasks, uploads
from registry.datasets.dialects.table import DIALECTS, Dialect
from registry.datasets.formats import COLUMNS
from registry.datasets.preview import preview
from registry.datasets.reading import file as reading
from registry.datasets.reading.examples import BadExamples
from registry.errors import Conflict, Invalid, NotFound
from registry.maintenance import gc
from registry.models import Dataset, DatasetTask
from registry.storage import paths
from tests.registry.build import add_on_page, chat, recorder, write_jsonl
from tests.registry.hub_server import COMMIT, REPO, FakeHub, serving

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


def alpaca(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"instruction": f"q{n}", "input": "i", "output": f"a{n}", **more} for n in range(count)]


def sent(rows: list[dict[str, Any]], name: str = "my rows.jsonl") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, "".join(json.dumps(row) + "\n" for row in rows).encode())


def waiting() -> list[str]:
    return sorted(path.name for path in (paths.root() / "uploads").iterdir())


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[DatasetTask]:
    """The tasks for which a child would have been started."""
    rows: list[DatasetTask] = []
    monkeypatch.setattr("registry.background.work.launch", recorder(rows))
    return rows


# ------------------------------------------------------------------- what is seen


def test_a_preview_says_what_registration_would_make(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", alpaca(60, mood="glad"))
    seen = preview(path)
    assert seen.format == "completions"
    assert seen.why == ["Alpaca, since rows have instruction and output; input beside them."]
    assert seen.uses == {
        "instruction": "prompt",
        "input": "context",
        "output": "completion",
        "mood": "",
    }
    assert len(seen.samples) == 3
    first = seen.samples[0]
    assert (first.place, first.given["mood"]) == ("line 1", "glad")
    assert first.becomes == {"prompt": "q0\n\ni", "completion": "a0"}
    assert not Dataset.objects.exists()
    assert list((paths.root() / "staging").iterdir()) == []
    made = snapshots.register_dataset("rows", path)
    assert (seen.splits, seen.exact) == (made.splits, True)
    assert (seen.read_as, seen.unused, seen.notes) == (made.read_as, made.unused, made.notes)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name)
def test_every_dialect_says_what_its_columns_become(dialect: Dialect, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_jsonl(tmp_path / f"{split}.jsonl", [{**dialect.example, "mood": "glad"}])
    seen = preview(tmp_path)
    assert seen.why[0].startswith(f"{dialect.name}, since rows have")
    assert seen.uses["mood"] == ""
    assert all(seen.uses[name] in COLUMNS for name in dialect.example)


SAYS_MORE = {
    "OpenAI preferences",  # its prompt is an object with messages
    "xLAM function calling",  # its answers are calls
    "Glaive function calling",  # its system prompt holds functions
}
"""Dialects of which a column alone does not say all."""
PLAIN = [dialect for dialect in DIALECTS if dialect.name not in SAYS_MORE]


def test_the_columns_of_a_labelled_answer_have_their_uses(tmp_path: Path) -> None:
    row = {"Question": "q", "Context": "c", "Answer": "a", "Label": "no", "id": 1}
    path = write_jsonl(tmp_path / "a.jsonl", [row | {"Question": f"q{n}"} for n in range(9)])
    assert preview(path).uses == {
        "Question": "prompt",
        "Context": "context",
        "Answer": "completion",
        "Label": "label",
        "id": "",
    }


@pytest.mark.parametrize("dialect", PLAIN, ids=lambda one: one.name)
def test_the_columns_that_a_dialect_uses_make_the_same_when_chosen_by_hand(
    dialect: Dialect, tmp_path: Path
) -> None:
    for split in ("train", "valid"):
        write_jsonl(tmp_path / f"{split}.jsonl", [dialect.example])
    found = preview(tmp_path)
    chosen = preview(tmp_path, columns={use: name for name, use in found.uses.items()})
    assert chosen.problems == []
    assert chosen.samples[0].becomes == found.samples[0].becomes


@pytest.mark.parametrize(
    ("header", "text", "label"),
    [
        ("Review,Category,id", "Review", "Category"),
        ("sentence,label_text,label,id", "sentence", "label_text"),
    ],
)
def test_a_text_and_its_label_are_found_under_any_of_their_names_and_chosen_by_hand(
    tmp_path: Path, header: str, text: str, label: str
) -> None:
    names = header.split(",")
    lines = [
        ",".join(
            {text: f"w {n}", label: f"{'ab'[n % 2]}x", "id": str(n)}.get(k, "7") for k in names
        )
        for n in range(30)
    ]
    source = tmp_path / "rows.csv"
    source.write_text("\n".join([header, *lines]) + "\n")
    seen = preview(source)
    uses = {**dict.fromkeys(names, ""), text: "text", label: "label"}
    assert seen.uses == uses
    assert seen.why[0].startswith(f"Text and label, since rows have {text} and {label}")
    chosen = preview(source, columns={"text": text, "label": label})
    assert chosen.uses == uses
    assert [s.becomes for s in chosen.samples] == [s.becomes for s in seen.samples]
    assert seen.samples[0].becomes == {"prompt": "w 0", "completion": "ax"}


@pytest.mark.slow
def test_a_large_file_is_read_in_part_and_its_examples_are_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "WHOLE", 0)
    monkeypatch.setattr(previews, "ROWS", 200)
    rows = [chat(10_000 + n) for n in range(2000)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows[:500]), tmp_path / "valid.parquet")
    seen = preview(tmp_path)
    assert not seen.exact
    assert 1800 <= seen.splits["train"] <= 2200
    assert seen.splits["valid"] == 500
    assert [sample.split for sample in seen.samples] == ["train"] * 3 + ["valid"] * 3
    one = preview(write_jsonl(tmp_path / "one.jsonl", rows))
    assert 1800 <= sum(one.splits.values()) <= 2200
    assert one.splits["train"] > 5 * one.splits["valid"] > 0


def test_a_small_file_of_endless_rows_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "MOST_ROWS", 50)
    path = write_jsonl(tmp_path / "a.jsonl", [chat(100 + n) for n in range(200)])
    seen = preview(path)
    assert not seen.exact
    assert sum(seen.splits.values()) == pytest.approx(200, rel=0.1)
    monkeypatch.setattr(previews, "MOST_ROWS", 1000)
    monkeypatch.setattr(reading, "_MOST_BYTES", 3000)
    seen = preview(path)
    assert not seen.exact
    assert sum(seen.splits.values()) == pytest.approx(200, rel=0.1)


@pytest.mark.slow
def test_of_a_compressed_file_more_rows_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "WHOLE", 0)
    monkeypatch.setattr(previews, "ROWS", 20)
    lines = "".join(json.dumps(chat(n)) + "\n" for n in range(150)).encode()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    seen = preview(tmp_path / "a.jsonl.gz")
    assert (seen.exact, sum(seen.splits.values())) == (True, 150)


def test_of_many_large_files_a_few_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "WHOLE", 0)
    for number in range(6):
        write_jsonl(tmp_path / f"train-{number}.jsonl", [chat(10 * number + n) for n in range(10)])
    write_jsonl(tmp_path / "valid.jsonl", [chat(99)])
    (tmp_path / "train-5.jsonl").write_text("not json, nor ever read" + " " * 600)
    seen = preview(tmp_path)
    assert seen.problems == []
    assert 50 <= seen.splits["train"] <= 60
    assert seen.splits["valid"] == 1


def test_mistakes_are_seen_beside_what_is_right(tmp_path: Path) -> None:
    rows: list[Any] = [*alpaca(30), {"instruction": "q"}, {"other": 1}]
    seen = preview(write_jsonl(tmp_path / "a.jsonl", [rows[-1], *rows[:-1]]))
    assert (seen.format, seen.wrong) == ("completions", 2)
    assert [problem.partition(": ")[0] for problem in seen.problems] == [
        "a.jsonl line 1",
        "a.jsonl line 32",
    ]
    assert seen.samples[0].becomes is None
    assert seen.samples[0].problem.startswith("has none of")
    assert seen.samples[1].becomes is not None
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{ no json\n")
    seen = preview(broken)
    assert (seen.format, seen.splits, seen.samples[0].given) == ("", {}, {"": "{ no json"})


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    seen = preview(tmp_path / "a.parquet")
    assert seen.problems[0].startswith("a.parquet is not a readable Parquet file")
    with pytest.raises(NotFound, match="nothing at"):
        preview(tmp_path / "none.jsonl")
    with pytest.raises(Invalid, match="'promt' cannot be mapped"):
        preview(tmp_path / "a.parquet", columns={"promt": "a"})


def test_other_dialects_that_fit_are_offered_with_their_columns(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    rows = [
        {"conversations": turns, "text": f"t{n}", "query": "x", "response": "y"} for n in range(9)
    ]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    seen = preview(path)
    assert seen.read_as == ["ShareGPT (conversations)"]
    ways = {way.name: way.columns for way in seen.others}
    assert ways == {
        "Query and response": {"prompt": "query", "completion": "response"},
        "Plain text": {"text": "text"},
    }
    other = preview(path, columns=ways["Plain text"])
    assert (other.format, other.samples[0].becomes) == ("text", {"text": "t0"})
    assert other.why == ["Plain text, by the columns that you chose."]
    assert "ShareGPT" in {way.name for way in other.others}


def test_long_texts_are_cut(tmp_path: Path) -> None:
    row = {"prompt": "x" * 100_000, "completion": "\0" + "y" * 100_000, "n" * 300: 1}
    seen = preview(write_jsonl(tmp_path / "a.jsonl", [{**row, "id": n} for n in range(5)]))
    assert len(json.dumps(seen.samples[0].given)) < 2000
    assert len(json.dumps(seen.samples[0].becomes)) < 3000
    assert list(seen.uses) == ["prompt", "completion", "id"]


# ------------------------------------------------------------------------ the page


@pytest.mark.both_databases
def test_a_chosen_file_is_seen_before_anything_is_registered(client: Client) -> None:
    page = client.post("/datasets/new/", {"files": sent(alpaca(40, mood="glad"))}, follow=True)
    body = page.content.decode()
    assert "Read as Alpaca, since rows have instruction and output; input beside them." in body
    assert "These columns are not used: mood." in body
    assert "q0\n\ni</div>" in body
    assert 'value="my-rows"' in body
    assert not Dataset.objects.exists()


def test_a_refused_name_loses_no_file(client: Client) -> None:
    staged = client.post("/datasets/new/", {"files": sent(alpaca(40))})["Location"]
    refused = client.post(staged, {"name": "not a name", "description": "d", "register": ""})
    assert refused.status_code == 422
    assert "is not a valid name" in refused.content.decode()
    done = client.post(staged, {"name": "rows", "description": "d", "register": ""}, follow=True)
    dataset = Dataset.objects.get()
    assert done.request["PATH_INFO"] == dataset.get_absolute_url()
    assert (dataset.description, dataset.source) == ("d", "Upload: my rows.jsonl")
    assert waiting() == []
    gone = client.get(staged, follow=True)
    assert "Choose the file again" in gone.content.decode()


def columns(**uses: str) -> dict[str, list[str]]:
    """The fields of the page by which columns are chosen, of which none was used."""
    return {"column": list(uses), "as": list(uses.values()), "was": [""] * len(uses)}


def test_columns_are_chosen_on_the_page(client: Client) -> None:
    rows = [{"ask": f"q{n}", "say": f"a{n}", "sys": "s", "id": n} for n in range(40)]
    staged = client.post("/datasets/new/", {"files": sent(rows)})["Location"]
    seen = client.get(staged).content.decode()
    assert "No row can be read yet. Choose below what the columns are." in seen
    assert "map its columns yourself: ask, say, sys, id. Other rows have the same error." in seen
    assert re.search(r'name="register"\s+disabled>', seen)
    chosen = columns(ask="prompt", say="completion", sys="", id="")
    looked = client.post(staged, {**chosen, "name": "typed", "description": "kept"})
    assert looked.context["preview"].uses == {
        "ask": "prompt",
        "say": "completion",
        "sys": "",
        "id": "",
    }
    assert re.search(r">\s*kept</textarea>", looked.content.decode())
    assert 'value="typed"' in looked.content.decode()
    chosen = columns(ask="prompt", say="completion", sys="system", id="")
    client.post(staged, {**chosen, "by_hand": "yes", "name": "typed", "register": ""})
    dataset = Dataset.objects.get()
    assert (dataset.format, dataset.unused) == ("chat", ["id"])
    [example] = snapshots.read_examples(dataset, "train", limit=1)
    assert example["messages"][0] == {"role": "system", "content": "s"}


def test_columns_that_stay_as_they_were_found_are_not_chosen_by_hand(client: Client) -> None:
    staged = client.post("/datasets/new/", {"files": sent(alpaca(40))})["Location"]
    uses = ["prompt", "context", "completion"]
    same = {"column": ["instruction", "input", "output"], "as": uses, "was": uses}
    assert client.post(staged, same).context["preview"].read_as[0].startswith("Alpaca")
    other = {**same, "as": ["prompt", "", "completion"]}
    seen = client.post(staged, other)
    assert seen.context["preview"].read_as == ["Prompt and completion (prompt, completion)"]
    assert seen.context["preview"].unused == ["input"]
    again = client.post(staged, {**other, "by_hand": "yes", "detect": "yes"})
    assert again.context["preview"].read_as[0].startswith("Alpaca")
    twice = client.post(staged, {**same, "as": ["prompt", "prompt", "completion"]})
    assert twice.status_code == 422
    assert "instruction and input are both chosen as prompt" in twice.content.decode()
    none = client.post(staged, {**same, "as": ["", "", ""]})
    assert "No column is used" in none.content.decode()


def test_another_dialect_is_one_button_away(client: Client) -> None:
    rows = [{**row, "text": f"t{n}"} for n, row in enumerate(alpaca(40))]
    staged = client.post("/datasets/new/", {"files": sent(rows)})["Location"]
    page = client.get(staged)
    [(name, way)] = page.context["ways"]
    assert name == "Plain text"
    assert client.post(staged, {"way": way}).context["preview"].format == "text"
    for wrong in ("[", "[]", '{"text": 1}', '{"nothing": "text"}'):
        refused = client.post(staged, {"way": wrong})
        assert refused.status_code == 422


def test_an_upload_can_be_discarded(client: Client) -> None:
    staged = client.post("/datasets/new/", {"files": sent(alpaca(40))})["Location"]
    assert len(waiting()) == 1
    page = client.post(staged, {"name": "x", "discard": ""}, follow=True)
    assert "nothing was registered" in page.content.decode()
    assert waiting() == []


@pytest.mark.parametrize("key", ["0" * 32, "..", "x", "0" * 31 + "g"])
def test_a_key_of_no_upload_leads_back(client: Client, key: str) -> None:
    assert client.get(f"/datasets/new/{key}/").status_code in (302, 404)
    with pytest.raises(NotFound, match="Choose the file again"):
        uploads.staged(key)


@pytest.mark.both_databases
def test_what_is_staged_is_bounded_in_number_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "STAGED", 3)
    keys = []
    for number in range(4):
        keys.append(uploads.stage([sent(alpaca(9))]).key)
        os.utime(paths.upload_dir(keys[-1]) / ".staged.json", (time.time() - 99 + number,) * 2)
        if number == 2:
            uploads.staged(keys[0])  # looked at, so another one is the oldest
    assert waiting() == sorted([keys[0], keys[2], keys[3]])
    assert {one.reason for one in gc.leftovers(timedelta(0))} == {
        "an upload that was not registered"
    }
    long_ago = time.time() - uploads.AGE.total_seconds() - 1
    os.utime(paths.upload_dir(keys[2]) / ".staged.json", (long_ago, long_ago))
    last = uploads.stage([sent(alpaca(9))])
    assert keys[2] not in waiting()
    assert last.key in waiting()


def test_a_large_upload_stays_staged_until_its_examples_are_right(
    client: Client, launched: list[DatasetTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "AT_ONCE", 0)
    staged = client.post("/datasets/new/", {"files": sent([*alpaca(40), {"x": 1}])})["Location"]
    key = staged.split("/")[-2]
    client.post(staged, {"name": "rows", "register": ""})
    [task] = launched
    assert not uploads.is_staged(key)  # no other request registers it meanwhile
    with pytest.raises(BadExamples):
        tasks.run(task)
    page = client.get(task.get_absolute_url()).content.decode()
    assert f'href="{staged}">Change how it is read' in page
    assert not work.can_retry(task)
    assert uploads.is_staged(key)
    client.post(staged, {"name": "rows", **columns(output="text"), "register": ""})
    with pytest.raises(BadExamples):
        tasks.run(launched[1])
    assert uploads.is_staged(key)


@pytest.mark.both_databases
def test_a_large_upload_is_not_lost_to_another_task_of_its_name(
    launched: list[DatasetTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "AT_ONCE", 0)
    first, second = (uploads.stage([sent(alpaca(40))]) for _ in range(2))
    tasks.start_staged("rows", first)
    with pytest.raises(Conflict, match="already running"):
        tasks.start_staged("rows", second)
    assert uploads.is_staged(second.key)
    made = tasks.run(launched[0])
    assert isinstance(made, Dataset)
    assert waiting() == [second.key]


# ------------------------------------------------------------------------- the hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    def lines(first: int, count: int) -> bytes:
        return "".join(json.dumps(chat(n)) + "\n" for n in range(first, first + count)).encode()

    files = {"data/train.jsonl": lines(0, 60), "data/test.jsonl": lines(60, 9)}
    with serving(FakeHub(files, kind="dataset")) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


def test_a_hub_id_is_downloaded_and_seen_before_it_is_registered(
    client: Client, hub: FakeHub, launched: list[DatasetTask]
) -> None:
    page = client.post("/datasets/new/", {"hub": f"hub:{REPO}"})
    [task] = launched
    assert page["Location"] == task.get_absolute_url()
    assert "Download of tiny" in client.get(task.get_absolute_url()).content.decode()
    tasks.run(task)
    staged = client.get(task.get_absolute_url())["Location"]
    page = client.get(staged)
    seen = page.context["preview"]
    assert (set(seen.splits), seen.splits["test"]) == ({"train", "valid", "test"}, 9)
    assert 'value="tiny"' in page.content.decode()
    client.post(staged, {"name": "tiny", "register": ""})
    dataset = Dataset.objects.get()
    assert (dataset.source, dataset.splits) == (f"hub:{REPO}@{COMMIT}", seen.splits)
    assert (waiting(), list((paths.root() / "staging").iterdir())) == ([], [])


def test_the_command_shows_a_hub_id_and_keeps_nothing(hub: FakeHub) -> None:
    assert "Chat messages" in dry_run(f"hub:{REPO}")
    assert list((paths.root() / "staging").iterdir()) == []


# ----------------------------------------------------------------- API and command


@pytest.mark.both_databases
def test_the_api_previews_and_registers_what_was_sent_once(client: Client) -> None:
    rows = [{"ask": f"q{n}", "say": f"a{n}"} for n in range(40)]
    first = client.post("/api/datasets/previews", {"file": sent(rows)}).json()
    assert (first["format"], first["uses"]) == ("", {"ask": "", "say": ""})
    assert "map its columns" in first["problems"][0]

    def post(path: str, **body: Any) -> Any:
        return client.post(f"/api/datasets{path}", body, content_type="application/json")

    mapped = {"upload": first["upload"], "columns": {"prompt": "ask", "completion": "say"}}
    seen = post("/previews", **mapped).json()
    assert (seen["problems"], sum(seen["splits"].values())) == ([], 40)
    assert seen["samples"][0]["becomes"] == {"prompt": "q0", "completion": "a0"}
    assert post("", **mapped, name="not a name").status_code == 422
    made = post("", **mapped, name="asked")
    assert made.status_code == 201
    assert made.json()["splits"] == seen["splits"]
    assert post("", **mapped, name="asked").status_code == 404
    inline = post("/previews", examples=rows)
    assert inline.json()["samples"][0]["file"] == "examples.jsonl"
    gone = client.delete(f"/api/datasets/previews/{inline.json()['upload']}")
    assert (gone.status_code, waiting()) == (204, [])
    assert "one of examples, upload and hub" in post("/previews").json()["error"]["message"]


def test_a_hub_id_is_previewed_over_the_api(
    client: Client, hub: FakeHub, launched: list[DatasetTask]
) -> None:
    asked = client.post(
        "/api/datasets/previews", {"hub": f"hub:{REPO}"}, content_type="application/json"
    )
    assert (asked.status_code, asked.json()["staged"]) == (202, "")
    tasks.run(launched[0])
    task = client.get(f"/api/datasets/tasks/{asked.json()['id']}").json()
    assert (task["status"], uploads.is_staged(task["staged"])) == ("completed", True)


def dry_run(source: str, *more: str) -> str:
    out = io.StringIO()
    options = {"stdout": out, "stderr": io.StringIO()}
    call_command("register_dataset", "rows", source, "--dry-run", *more, **options)
    return out.getvalue()


def test_the_command_shows_what_it_would_register(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{**row, "text": "t"} for row in alpaca(40)])
    said = dry_run(str(path))
    assert "Read as Alpaca, since rows have instruction and output" in said
    assert "  text: not used" in said
    assert "It could also be read as Plain text: --map text=text" in said
    assert '"completion": "a0"' in said
    assert not Dataset.objects.exists()
    with pytest.raises(CommandError, match='has no "nothing"'):
        dry_run(str(path), "--columns", "text=nothing")
    assert "Plain text: " in dry_run(str(path), "--columns", "text=output")


def test_what_was_added_on_the_page_says_how_it_was_read(client: Client) -> None:
    page = add_on_page(
        client, [sent(alpaca(9), "train.jsonl"), sent(alpaca(3), "val.jsonl")], name="x"
    )
    assert "The valid split was read from val.jsonl." in page.content.decode()
