"""Models on a hub and of other programs: what is found, what is said of it, how it is imported."""

from __future__ import annotations

import json
import shutil
import sys
import time
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from registry.background import work
from registry.bases import downloads, local, searching
from registry.conversion import imports
from registry.errors import NotFound
from registry.models import BaseImport, BaseModel
from registry.models.work import Work
from tests.hub.catalogue.conftest import PACKED, listed, put_folder
from tests.pages.test_pages import HTMX, text
from tests.registry.build import make_version, recorder
from tests.registry.hub_server import FakeHub

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    rows: list[Work] = []
    monkeypatch.setattr(work, "launch", recorder(rows))
    return rows


# ---------------------------------------------------------------- a model hub


def test_a_search_shows_what_each_model_can_do_here(hub: FakeHub, client: Client) -> None:
    answer = client.get("/bases/new/hub/?q=qwen3", headers=HTMX)
    page = text(answer)
    assert answer["HX-Replace-Url"] == "/bases/new/?q=qwen3"
    assert "<html" not in answer.content.decode()
    assert page.index("mlx-community/Qwen3-0.6B-4bit") < page.index("Qwen/Qwen3-0.6B")
    assert "trains with QLoRA up to" in page
    assert "Licence apache-2.0" in page
    assert "335 MB 4-bit (group 64) 596.3 M parameters" in page
    assert "1.19 GB bfloat16 596.0 M parameters 40,960 tokens of context" in page
    assert "Too large to serve here: it needs 145 GB of 24 GB. Look for a 4-bit version." in page
    assert "pickled/qwen3 has only pickles, which can run code" in page
    assert "Gated: accept its terms on the hub and set HF_TOKEN" in page
    assert page.count(" Download ") == 3  # those that can be used
    asked = len(hub.searched)
    client.get("/bases/new/hub/?q=qwen3", headers=HTMX)
    assert len(hub.searched) == asked  # the hub is not asked twice


@pytest.mark.both_databases
def test_a_model_is_downloaded_from_its_card_and_shown_as_what_it_is(
    hub: FakeHub, client: Client, launched: list[Work]
) -> None:
    client.post("/bases/new/", {"repo": "Qwen/Qwen3-0.6B"})
    row = BaseImport.objects.get()
    assert launched == [row]
    answer = client.get("/api/bases/offers/hub?q=0.6b").json()
    first, second = answer["offers"]
    assert first["title"] == "mlx-community/Qwen3-0.6B-4bit"
    assert (first["trains_up_to"] > 0, first["serves"], first["base_id"]) == (True, True, None)
    assert second["import_id"] == row.pk
    BaseModel.objects.create(
        name="q", source="hub", origin=first["title"], size_bytes=1, manifest_sha256="0" * 64
    )
    card = text(client.get("/bases/new/hub/?q=0.6b"))
    assert "<title>" in client.get("/bases/new/hub/?q=0.6b").content.decode()  # without htmx
    assert "Open" in card
    assert "Running" in card


def test_what_has_no_room_on_the_disk_is_not_downloaded(
    hub: FakeHub, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=downloads.SPARE + 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    page = text(client.get("/bases/new/hub/?q=qwen3-0.6b", headers=HTMX))
    assert "no room for it: free another 192 MB first." in page
    assert page.count(" Download ") == 1  # of the smaller one


def test_a_page_never_waits_for_the_hub(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "search", lambda words: pytest.fail("the hub was asked"))
    page = client.get("/bases/new/?q=qwen3").content.decode()
    assert 'hx-get="/bases/new/hub/?q=qwen3"' in page
    assert '<div id="work" class="stack" hx-get="/bases/"' in page, "how far downloads are"
    assert 'hx-trigger="load"' in page


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ((429, {"Retry-After": "120"}), "limits requests: try again in 120 s"),
        ((401, {}), "refuses this: set HF_TOKEN"),
        ((500, {}), "answered 500; try again later"),
    ],
)
def test_a_hub_that_refuses_says_why(
    hub: FakeHub, client: Client, refused: tuple[int, dict[str, str]], said: str
) -> None:
    hub.refusals = [refused] * 9  # whoever asks
    answer = client.get("/bases/new/hub/?q=qwen3", headers=HTMX)
    assert answer.status_code == 200
    assert said in text(answer)
    hub.refusals = []
    again = text(client.get("/bases/new/hub/?q=qwen3", headers=HTMX))
    if refused[0] == 429:  # it is not asked again before
        assert "limits requests" in again
        assert hub.searched == []
    else:
        assert "mlx-community" in again


def test_offline_and_slow_hubs_are_said_in_time(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "at http://127.0.0.1:9 cannot be reached" in searching.search("qwen3").note
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr(searching, "_list", lambda *_: time.sleep(5))
    started = time.monotonic()
    assert "did not answer within 0 s" in searching.search("qwen3", deadline_s=0.2).note
    assert time.monotonic() - started < 4
    assert "limits" not in searching.search("").note


def test_what_is_no_answer_harms_nothing(hub: FakeHub) -> None:
    hub.others = [
        listed("a/qwen3-list", PACKED, **{"config.json": ["no", "object"]}),
        listed("a/qwen3-wide", PACKED, **{"config.json": {"model_type": 7}}),
        listed("a/qwen3-odd", {**PACKED, "num_hidden_layers": "many", "hidden_size": []}),
    ]
    found = searching.search("qwen3")
    assert [offer.why for offer in found.offers[1:]] == [  # what cannot be used comes last
        "Its config.json is not one that can be read.",
        "config.json has no model_type.",
    ]
    from hub.catalogue.cards import cards

    assert "are no numbers" in cards(found.offers)[0].sentence
    assert searching.search("nothing has this").note.endswith("in its name.")


# ---------------------------------------------------------------- this machine


def test_what_other_programs_keep_is_found(home: Path, client: Client) -> None:
    cache = home / ".cache" / "huggingface" / "hub" / "models--owner--small"
    put_folder(cache / "snapshots" / "abc")
    (cache / "snapshots" / "abc" / "README.md").write_text("---\nlicense: mit\n---\n")
    partly = put_folder(home / ".lmstudio/models/lm/partly")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (partly / "model.safetensors.index.json").write_text(json.dumps(index))
    studio = home / ".cache/lm-studio/models/lm/one"
    studio.mkdir(parents=True)
    (studio / "one-q4.gguf").write_bytes(b"GGUF one")
    (studio / "mmproj-one.gguf").write_bytes(b"GGUF eyes")
    (studio / "big-00001-of-00002.gguf").write_bytes(b"GGUF")
    (studio / "big-00002-of-00002.gguf").write_bytes(b"GGUF")
    ollama = home / ".ollama/models"
    manifest = ollama / "manifests/registry.ollama.ai/library/llama3.2/1b"
    manifest.parent.mkdir(parents=True)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + "d" * 64}
    manifest.write_text(json.dumps({"layers": [layer, "odd"]}))
    (ollama / "blobs").mkdir()
    (ollama / "blobs" / f"sha256-{'d' * 64}").write_bytes(b"GGUF three")
    llama = home / (".cache/llama.cpp" if sys.platform != "darwin" else "Library/Caches/llama.cpp")
    llama.mkdir(parents=True)
    (llama / "bad.gguf").write_bytes(b"nothing")

    page = text(client.get("/bases/new/here/", headers=HTMX))
    for place in ("Hugging Face cache", "LM Studio", "Ollama", "llama.cpp"):
        assert place in page
    assert "owner/small" in page
    assert "Licence mit" in page
    assert "Only partly downloaded: 1 of 2 files of weights are missing." in page
    assert "lm/one/one-q4.gguf Serves here" in page
    assert "split into several GGUF files" in page
    assert "mmproj" not in page
    assert "bad.gguf is not a GGUF file." in page
    assert "llama3.2:1b Serves here" in page

    api = client.get("/api/bases/offers/here").json()["offers"]
    llama32 = next(one for one in api if one["title"] == "llama3.2:1b")
    made = client.post("/api/bases/imports", {"found": llama32["key"]}, "application/json")
    assert made.json()["name"] == "llama3.2-1b"
    base = imports.run(BaseImport.objects.get())
    assert (base.name, base.source) == ("llama3.2-1b", "gguf")
    small = next(one for one in api if one["title"] == "owner/small")
    client.post("/bases/new/here/", {"key": small["key"]})
    assert BaseImport.objects.first().origin == str(cache)
    with pytest.raises(NotFound, match="not on this machine any more"):
        local.find("0" * 16)


def test_a_header_that_takes_long_is_shown_later(home: Path, client: Client) -> None:
    folder = home / ".lmstudio/models/lm/one"
    folder.mkdir(parents=True)
    (folder / "one.gguf").write_bytes(b"GGUF one")
    [reading] = local.scan(deadline_s=-1.0)
    if reading.reading:  # else its thread was faster
        assert reading.why == "Its header is being read."
    [read] = local.scan()
    assert read.prospect
    assert not read.reading


def test_the_command_shows_the_same(hub: FakeHub, home: Path, capsys: Any) -> None:
    put_folder(home / ".lmstudio/models/lm/one")
    out = StringIO()
    call_command("bases", "search", "0.6b", stdout=out)
    call_command("bases", "here", stdout=out)
    said = out.getvalue()
    assert (
        "mlx-community/Qwen3-0.6B-4bit\n  335 MB, 4-bit (group 64), 40,960 tokens, apache-2.0\n"
        in said
    )
    assert f"lm/one ({home}/.lmstudio/models/lm/one)" in said
    row = imports.start("owner/tiny")
    for verb in ("pause", "resume"):
        call_command("bases", verb, str(row.pk), stdout=out)
    call_command("bases", "imports", stdout=out)
    assert "Import of tiny is paused." in out.getvalue()
    assert f"{row.pk}: tiny from owner/tiny, running" in out.getvalue()


def test_a_base_models_page_says_what_it_can_do(client: Client) -> None:
    version = make_version()
    base = version.base_model
    page = text(client.get(f"/bases/{base.pk}/"))
    assert "Serves here · trains with LoRA up to 2,048 tokens" in page
    assert f"Versions trained on it {version}" in page
    assert (
        f'value="{base.pk}" selected' in client.get(f"/models/new/?base={base.pk}").content.decode()
    )
