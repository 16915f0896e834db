"""The report has a schema with a number, is JSON, and says nothing of whose machine it is."""

from __future__ import annotations

import getpass
import json
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from hub.config import ROOT, Config, config
from hub.selftest import report
from hub.selftest.report import Row, judged, not_tried, right
from hub.selftest.tried import readers

pytestmark = pytest.mark.any_database

HOME = str(Path.home())


def build(*outcomes: report.Outcome) -> dict[str, Any]:
    rows = [
        Row(f"item{n}", "readers", "Is it right?", 1.25, 0.5, one) for n, one in enumerate(outcomes)
    ]
    return report.build(rows, readers.facts(), {"Disk": "ok"}, quick=True, seconds=9.87)


def test_the_schema_is_what_readers_were_promised() -> None:
    found = build(
        right("Yes.", speed=1.5), judged(False, "No.", "Report it."), not_tried("No Mac.")
    )
    assert found["schema"] == report.SCHEMA == 1
    assert set(found) == {
        *("schema", "made", "quick", "seconds", "summary", "machine", "doctor", "items"),
    }
    assert found["summary"] == {"right": 1, "not_right": 1, "not_tried": 1}
    assert found["items"][0] == {
        "name": "item0",
        "group": "readers",
        "asked": "Is it right?",
        "seconds": 1.25,
        "processor_s": 0.5,
        "state": "right",
        "said": "Yes.",
        "figures": {"speed": 1.5},
        "todo": "",
    }
    assert found["items"][1]["todo"] == "Report it."
    known = {"system", "architecture", "memory_bytes", "python", "sqlite", "libraries", "cores"}
    assert known <= set(found["machine"])


def test_what_is_no_number_is_still_json() -> None:
    found = build(right("Yes.", odd=[float("nan"), float("inf"), 1 / 3], path=Path("x")))
    figures = json.loads(report.text(found))["items"][0]["figures"]
    assert figures == {"odd": [None, None, 0.333333], "path": "x"}


def test_paths_and_names_are_taken_out_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Annas-MacBook.local")
    monkeypatch.setattr(getpass, "getuser", lambda: "anna.k")
    monkeypatch.setenv("USER", "anna.k")
    texts = [
        f"no file {HOME}/storage/base/model.safetensors: gone",
        "/Users/anna.k/storage (a folder)",
        "~/storage/mine and file:///Users/anna.k/x.json",
        "anna.k@Annas-MacBook.local and annas-macbook",
        "InternalBattery-0 (id=12345678) 0A1B2C3D-0000-4444-8888-0123456789AB",
    ]
    cleaned = report.text(build(right(texts[0], texts=texts, nested={texts[1]: [texts[2]]})))
    for private in ("anna.k", "MacBook", "macbook", "12345678", "0A1B2C3D", "storage", "x.json"):
        assert (
            private.lower()
            not in json.dumps(json.loads(cleaned)["items"][0]["figures"]["texts"]).lower()
        )
    assert HOME + "/" not in cleaned


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("no /Volumes/Acme Corp/mlx-hub/storage/x", "no (path)"),
        ("Volume /Volumes/Acme Corp/x\nis gone", "Volume (path)\nis gone"),
        ("/Users/anna/My Client/x.py", "(path)"),
        ("-I/Users/anna/Anna's Client/x.py", "-I(path)"),
        ("~/My Client", "(path)"),
        ("sqlite:////home/anna/My Client/hub.sqlite3", "sqlite:///(path)"),
        ('File "/srv/My Client/x.py", line 3', 'File "(path)", line 3'),
        ("no '/srv/Anna's Client/x.py' here, 'yes'", "no '(path)' here, 'yes'"),
        ("log:/opt/acme/secret/x", "log:(path)"),
        ("sqlite:////opt/acme/x", "sqlite:///(path)"),
    ],
)
def test_a_path_is_taken_out_whole(text: str, left: str) -> None:
    assert report.without_names(text, (), report.private_roots()) == left


@pytest.mark.parametrize("root", ["home", "root", "temporary", "prefix"])
def test_a_path_under_a_known_folder_is_taken_out_whole(root: str) -> None:
    known = {
        "home": HOME,
        "root": str(ROOT),
        "temporary": tempfile.gettempdir(),
        "prefix": sys.prefix,
    }
    said = f"no {known[root]}/My Client/x"
    assert report.without_names(said, (), report.private_roots()) == "no (path)"
    storage = f"no {config.storage}"
    assert report.without_names(storage, (), report.private_roots()) == "no (path)"


def test_paths_that_this_process_knows_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "config", Config(storage=Path("/data/Acme Corp/storage")))
    cleaned = build(right("/data/Acme Corp/storage/base is gone", folder="/data/Acme Corp/storage"))
    assert cleaned["items"][0]["said"] == "(path)"
    assert cleaned["items"][0]["figures"] == {"folder": "(path)"}


@pytest.mark.parametrize(
    "text",
    [
        "270 GB/s, 44 tokens/s",
        "I/O of 3/4",
        "http://127.0.0.1:8000",
        "1 / 2 of n/a",
        "https://docs.example/a/b#c",
        "or '/health', '/v1'",
    ],
)
def test_what_is_no_path_stays(text: str) -> None:
    assert report.without_names(text, (), report.private_roots()) == text


def test_the_machine_is_described_without_saying_whose_it_is() -> None:
    said = json.dumps(build()["machine"])
    for private in (HOME + "/", socket.gethostname(), str(Path.cwd())):
        assert private not in said
