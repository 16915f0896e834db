"""What a form's folded block says does what the form does, over the API and as a command."""

from __future__ import annotations

import itertools
import json
import shlex
from html import unescape
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client

from registry.models import Alias, Dataset
from tests.pages.seed import Seeded, example
from tests.pages.training.test_form import form_of
from training.models import Sweep, TrainingJob

pytestmark = pytest.mark.any_database

NAMES = ("Over the API", "From the command line")


def shown(body: str) -> list[str]:
    """Both texts of the block."""
    texts = []
    for name in NAMES:
        _, found, rest = body.partition(f'aria-label="{name}">')
        assert found, body
        texts.append(unescape(rest.partition("</pre>")[0]))
    return texts


def send(client: Client, command: str) -> Any:
    """What curl would send."""
    words = shlex.split(command.replace("\\\n", ""))
    assert words[:3] == ["curl", "-X", "POST"]
    path = words[3].removeprefix("http://testserver")
    if "-d" in words:
        body = json.loads(words[words.index("-d") + 1])
        return client.post(path, body, content_type="application/json")
    pairs = dict(itertools.pairwise(words))
    assert pairs["-F"] == "file=@mine.jsonl"
    name = pairs["--form-string"].removeprefix("name=")
    return client.post(path, {"name": name, "file": upload()})


def run(command: str) -> None:
    words = shlex.split(command)
    assert words[:3] == ["uv", "run", "manage.py"]
    call_command(*words[3:])


def upload() -> SimpleUploadedFile:
    lines = "\n".join(json.dumps(example(number)) for number in range(30))
    return SimpleUploadedFile("mine.jsonl", lines.encode())


def test_a_promotion(client: Client, seeded: Seeded) -> None:
    url = f"{seeded.versions[0].get_absolute_url()}promote/?name=staging&reason=It's+better"
    api, command = shown(client.get(url, headers={"HX-Request": "true"}).content.decode())
    assert send(client, api).status_code == 200
    staging = Alias.objects.get(name="staging")
    assert staging.version == seeded.versions[0]
    staging.delete()
    run(command)
    assert Alias.objects.get(name="staging").version == seeded.versions[0]
    moves = seeded.model.alias_moves.filter(name="staging")
    assert [move.reason for move in moves] == ["It's better"] * 2


@pytest.mark.parametrize(
    "changed",
    [
        {"iters": "40", "lora.rank": "16", "packing": "on", "priority": "3"},
        {"lora.rank": "8, 16", "optimizer": "adam", "name": "Both ranks"},
    ],
    ids=["job", "sweep"],
)
def test_a_job(client: Client, seeded: Seeded, changed: dict[str, str]) -> None:
    fields = {**form_of(client), "model": seeded.model.pk, "dataset": seeded.dataset.pk, **changed}
    api, command = shown(client.post("/training/new/plan/", fields).content.decode())
    client.post("/training/new/", fields)
    answer = send(client, api)
    assert answer.status_code == 201, answer.content
    run(command)
    columns = ("name", "grid") if "name" in changed else ("priority",)
    made: Any = Sweep.objects if "name" in changed else TrainingJob.objects
    told = list(made.order_by("-pk").values(*columns, "config", "model", "dataset"))
    assert told[0] == told[1] == told[2]


def test_a_data_set(client: Client, db: None, tmp_path: Any, monkeypatch: Any) -> None:
    page = client.post("/datasets/new/", {"files": upload()}, follow=True).content.decode()
    api, command = shown(page)
    assert send(client, api).status_code == 201
    made = Dataset.objects.get()
    assert (made.name, made.examples) == ("mine", 30)
    (tmp_path / "mine.jsonl").write_bytes(upload().read())
    monkeypatch.chdir(tmp_path)
    run(command)
    assert Dataset.objects.get().checksum == made.checksum
