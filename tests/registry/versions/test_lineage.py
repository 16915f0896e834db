"""Where a version comes from: the code's differences, the picture, the facts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client

from backends.mac import programs
from registry.models import ModelVersion
from registry.promotion.aliases import move_alias
from registry.versions import lineage
from registry.versions.drawing import draw
from registry.versions.graph import graph
from registry.versions.lifecycle import begin_version
from tests.mac import NO_TOOLS, Mac
from tests.registry.build import make_version


@pytest.fixture
def client() -> Client:
    return Client(headers={"host": "localhost"})


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout with one committed file."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    _git(folder, "init", "-q")
    (folder / "code.py").write_text("one\n")
    _git(folder, "add", ".")
    _git(folder, "commit", "-qm", "First")
    return folder


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True)


def test_a_folder_without_a_checkout_asks_git_nothing(mac: Mac, tmp_path: Path) -> None:
    mac.put("git", "0" * 40)
    assert lineage.checkout(tmp_path) == ("", None)
    assert mac.asked == []


def test_a_git_that_only_opens_a_dialog_is_not_asked(
    mac: Mac, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mac.put("git", f"{checkout}\n")
    mac.put("xcode-select", code=2, error=NO_TOOLS)
    monkeypatch.setattr(programs, "_GIT", str(mac._folder / "git"))
    assert lineage.checkout(checkout) == ("", None)
    assert mac.asked == ["xcode-select -p"]


def test_a_macs_processor_has_its_name(mac: Mac) -> None:
    mac.put("sysctl", "Apple M4 Pro\n")
    lineage._processor.cache_clear()
    try:
        assert lineage.hardware()["processor"] == "Apple M4 Pro"
    finally:
        lineage._processor.cache_clear()
    assert mac.asked == ["sysctl -n machdep.cpu.brand_string"]


def test_a_dirty_checkout_keeps_its_changes_and_the_names_of_new_files(checkout: Path) -> None:
    (checkout / "code.py").write_text("two\n")
    (checkout / "new\nfile.py").write_text("secret")
    text = lineage.changes(checkout)
    assert "-one\n+two\n" in text
    assert "# Not tracked: 'new\\nfile.py'\n" in text
    assert "secret" not in text


def test_the_changes_can_be_applied_again(checkout: Path) -> None:
    (checkout / "code.py").write_text("two  \n")
    text = lineage.changes(checkout)
    _git(checkout, "checkout", "-q", "code.py")
    subprocess.run(["git", "-C", str(checkout), "apply"], input=text.encode(), check=True)
    assert (checkout / "code.py").read_text() == "two  \n"


def test_long_changes_are_cut_and_say_so(checkout: Path) -> None:
    (checkout / "code.py").write_text("é\n" * lineage.DIFF_LIMIT)
    text = lineage.changes(checkout)
    assert len(text.encode()) < lineage.DIFF_LIMIT + 200
    assert "# Truncated: 1000000 of" in text
    assert "\ufffd" not in text


@pytest.mark.django_db
def test_the_changes_are_stored_with_the_version(checkout: Path, settings: object) -> None:
    version = make_version()
    settings.BASE_DIR = checkout  # type: ignore[attr-defined]
    (checkout / "code.py").write_text("two\n")
    assert version.dataset
    later = begin_version(version.model, version.dataset, {}, 0)
    assert later.git_dirty
    assert "+two" in ModelVersion.objects.get(pk=later.pk).git_diff


@pytest.mark.django_db
def test_the_picture_leads_from_the_base_to_the_requests() -> None:
    version = make_version()
    move_alias(version.model, "production", version)
    assert version.dataset
    child = begin_version(version.model, version.dataset, {}, 0, parent=version)
    found = graph(version)
    edges = {(edge.source, edge.target) for edge in found.edges}
    assert {
        ("base", "job"),
        ("dataset", "job"),
        ("job", "version"),
        ("version", "alias-production"),
        ("version", "requests"),
        ("version", f"child-{child.pk}"),
    } == edges
    parents = {(edge.source, edge.target) for edge in graph(child).edges}
    assert ("parent", "job") in parents


@pytest.mark.django_db
def test_what_is_not_recorded_is_drawn_as_unknown() -> None:
    version = make_version()
    version.dataset = None
    nodes = {node.id: node for node in graph(version).nodes}
    assert not nodes["dataset"].known
    assert not nodes["job"].known
    assert nodes["base"].known


@pytest.mark.django_db
def test_boxes_of_the_picture_do_not_overlap() -> None:
    version = make_version()
    for name in ("production", "staging", "next"):
        move_alias(version.model, name, version)
    picture = draw(graph(version))
    places = {(box.x, box.y) for box in picture.boxes}
    assert len(places) == len(picture.boxes)
    assert all(box.x + picture.box_width <= picture.width for box in picture.boxes)
    assert all(box.y + picture.box_height <= picture.height for box in picture.boxes)


@pytest.mark.django_db
def test_page_shows_picture_words_and_code_changes(client: Client) -> None:
    version = make_version()
    ModelVersion.objects.filter(pk=version.pk).update(git_dirty=True, git_diff="+<two>\n")
    body = client.get(f"{version.get_absolute_url()}lineage/").content.decode()
    assert "viewBox=" in body
    assert "training job unknown made version helper@0.1.0" in body
    assert "+&lt;two&gt;" in body
    diff = client.get(f"{version.get_absolute_url()}code.diff")
    assert diff.content == b"+<two>\n"
    assert "attachment" in diff["Content-Disposition"]


@pytest.mark.django_db
def test_api_gives_nodes_edges_and_facts(client: Client) -> None:
    version = make_version()
    found = client.get(f"/api/models/{version.model_id}/versions/0.1.0/lineage").json()
    assert {node["id"] for node in found["nodes"]} >= {"base", "dataset", "job", "version"}
    assert found["facts"]["base_checksum"] == version.base_checksum
    assert found["facts"]["params"] == {"iters": 10}
    missing = client.get(f"/api/models/{version.model_id}/versions/9.9.9/lineage")
    assert missing.status_code == 404


@pytest.mark.django_db
def test_command_says_it_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    make_version()
    call_command("lineage", "helper@0.1.0")
    assert "training job unknown made version helper@0.1.0" in capsys.readouterr().out
    call_command("lineage", "helper@0.1.0", "--json")
    assert '"dataset": "notes"' in capsys.readouterr().out
