"""The doctor: leaks, repeats, lengths and the loss mask, on the page, the API and the command."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from registry.datasets.examination import examine, find_report, warnings
from registry.datasets.snapshots import register_dataset
from registry.models import Dataset
from tests.registry.build import make_base, make_dataset, write_jsonl

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


def pair(prompt: str, completion: str = "yes") -> dict[str, str]:
    return {"prompt": prompt, "completion": completion}


@pytest.fixture
def leaky(tmp_path: Path) -> Dataset:
    write_jsonl(tmp_path / "train.jsonl", [pair("One  is"), pair("two"), pair("two"), pair("six")])
    write_jsonl(tmp_path / "valid.jsonl", [pair("three")])
    write_jsonl(tmp_path / "test.jsonl", [pair("ONE is", "no"), pair("six"), pair("ten " * 50)])
    return register_dataset("leaky", tmp_path)


def test_leaks_are_exact_or_equal_in_their_prompt(leaky: Dataset) -> None:
    report = examine(leaky, make_base(), 64).report
    leak = next(found for found in report["leaks"] if found["splits"] == ["train", "test"])
    assert (leak["exact"], leak["prompts"]) == (1, 2)
    assert [(shown["train"], shown["test"]) for shown in leak["shown"]] == [(1, 1), (4, 2)]


def test_repeats_are_named_by_line(leaky: Dataset) -> None:
    report = examine(leaky, make_base(), 64).report
    assert report["duplicates"]["train"]["examples"] == 1
    assert report["duplicates"]["train"]["shown"][0]["line"] == 3
    assert report["duplicates"]["train"]["shown"][0]["first"] == 2
    assert report["duplicates"]["test"]["examples"] == 0


def test_lengths_are_judged_by_the_limit(leaky: Dataset) -> None:
    found = examine(leaky, make_base(), 16)
    tokens = found.report["tokens"]["test"]
    assert (tokens["truncated"], tokens["dropped"], tokens["longest_line"]) == (1, 1, 3)
    assert sum(bar["count"] for bar in tokens["histogram"]) == 3
    assert any("raise the limit" in text for text in warnings(found))
    assert examine(leaky, make_base("wide"), 64).report["tokens"]["test"]["truncated"] == 0


def test_a_large_split_is_sampled_and_the_report_says_so(tmp_path: Path) -> None:
    dataset = make_dataset(train=100)
    tokens = examine(dataset, make_base(), 64, sample=10).report["tokens"]["train"]
    assert (tokens["total"], tokens["examined"]) == (100, 10)


@pytest.mark.both_databases
def test_a_second_examination_replaces_the_first(leaky: Dataset) -> None:
    base = make_base()
    examine(leaky, base, 64)
    examine(leaky, base, 64)
    assert leaky.reports.count() == 1
    assert find_report(leaky, base, 65) is None


def test_the_page_examines_and_colours_what_is_learned(client: Client, leaky: Dataset) -> None:
    base = make_base()
    url = f"/datasets/{leaky.pk}/doctor/"
    assert client.get(url).status_code == 200
    answer = client.post(url, {"base": base.pk, "max_seq_length": 32}, follow=True)
    page = answer.content.decode()
    assert "2 prompts of test occur in train too, 1 with the same answer:" in page
    assert '<mark class="trained">' in page
    assert "<rect" in page


def test_every_answer_of_a_chat_is_coloured_but_those_of_weight_0(
    client: Client, tmp_path: Path
) -> None:
    def turn(number: int, answer: str, **more: int) -> list[dict[str, Any]]:
        asked = {"role": "user", "content": f"question{number}"}
        return [asked, {"role": "assistant", "content": answer, **more}]

    messages = [*turn(1, "first"), *turn(2, "second", weight=0), *turn(3, ""), *turn(4, "last")]
    for split in ("train", "valid"):
        write_jsonl(tmp_path / f"{split}.jsonl", [{"messages": messages}])
    dataset, base = register_dataset("turns", tmp_path), make_base()
    found = examine(dataset, base, 64)
    pieces = found.report["rendered"][0]["pieces"]
    assert [piece["text"].strip() for piece in pieces if piece["trained"]] == [
        "first </s>",
        "last </s>",
    ]
    assert found.report["tokens"]["train"]["trained"] == 4
    assert "In train, 1 answer is not learned: the answer is empty." in warnings(found)
    page = client.get(f"/datasets/{dataset.pk}/doctor/?base={base.pk}").content.decode()
    assert "1 answer is not learned" in page
    found.report["tokens"]["train"]["typed"] = 3
    assert any("3 messages of train contain special tokens" in text for text in warnings(found))


def test_a_wrong_limit_is_refused(client: Client, leaky: Dataset) -> None:
    answer = client.post(
        f"/datasets/{leaky.pk}/doctor/", {"base": make_base().pk, "max_seq_length": 1}
    )
    assert answer.status_code == 422


@pytest.mark.both_databases
def test_the_api_makes_and_gives_reports(client: Client, leaky: Dataset) -> None:
    url = f"/api/datasets/{leaky.pk}/report"
    assert client.get(url).status_code == 404
    body = {"base_model_id": make_base().pk, "max_seq_length": 32}
    made = client.post(url, body, content_type="application/json")
    assert made.status_code == 201, made.content
    assert client.get(url, {"max_seq_length": 32}).json() == made.json()
    assert made.json()["warnings"]


@pytest.mark.both_databases
def test_the_api_lists_the_newest_revision_and_tells_changes(client: Client) -> None:
    make_dataset()
    second = make_dataset(first=5)
    newest = client.get("/api/datasets").json()["items"]
    assert [(row["name"], row["revision"]) for row in newest] == [("notes", 2)]
    assert client.get("/api/datasets?all_revisions=true").json()["count"] == 2
    changes = client.get(f"/api/datasets/{second.pk}/changes").json()
    assert changes["changes"]["train"]["added"] == 8
    assert "Changes since revision 1" in client.get(f"/datasets/{second.pk}/").content.decode()


def test_the_commands_register_and_examine(tmp_path: Path) -> None:
    make_base()
    path = tmp_path / "a.csv"
    path.write_text("ask,say\n" + "".join(f"q{n},a{n}\n" for n in range(40)))
    out = io.StringIO()
    columns = ["--map", "prompt=ask", "--map", "completion=say"]
    call_command("register_dataset", "asked", str(path), *columns, stdout=out)
    assert "asked, revision 1" in out.getvalue()
    call_command("examine_dataset", "asked", stdout=out)
    assert "No problems found" in out.getvalue()
    with pytest.raises(CommandError, match="no data set 'none'"):
        call_command("examine_dataset", "none")


def test_the_command_names_many_wrong_lines(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "x"}, *([{}] * 250)])
    with pytest.raises(CommandError, match=r"line 201: .*\nAnd 50 more\."):
        call_command("register_dataset", "bad", str(path))
