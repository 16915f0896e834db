"""Large uploads on a real hub: the page stays free, progress is seen, a killed child is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from registry.bases import registration
from registry.bundles import tasks, writer
from registry.datasets.tasks import AT_ONCE
from registry.versions.lifecycle import complete_version
from tests.registry.build import begin, chat, make_model, make_staging
from tests.running import RunningHub, wait_until

pytestmark = pytest.mark.any_database


@pytest.fixture
def client(running_hub: RunningHub) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running_hub.url, timeout=60) as client:
        client.get("/datasets/new/")
        yield client


def post(client: httpx.Client, path: str, files: Any = None, **fields: str) -> str:
    """Send a form as a browser does; where it leads to."""
    data = {"csrfmiddlewaretoken": client.cookies["csrftoken"], **fields}
    answer = client.post(path, data=data, files=files)
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


def look(client: httpx.Client, page: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/api{page.rstrip('/')}").json()
    return found


def write_large(path: Path) -> Path:
    """Chats of more bytes than are read while a person waits."""
    text = "x" * 400
    with path.open("w") as file:
        for number in range(4 * AT_ONCE // 500):
            example = chat(number)
            example["messages"][0]["content"] += text
            file.write(json.dumps(example) + "\n")
    return path


def test_a_large_upload_is_registered_and_examined_by_children(
    running_hub: RunningHub, client: httpx.Client, tmp_path: Path
) -> None:
    large = write_large(tmp_path / "many.jsonl")
    with large.open("rb") as file:
        staged = post(client, "/datasets/new/", {"files": file})
    page = post(client, staged, name="large-upload", register="")
    assert page.startswith("/datasets/tasks/")

    # Killed amid its work: the page says so at once, and its retry begins again.
    web = psutil.Process(running_hub.pid("web"))
    [child] = [c for c in web.children() if "run_dataset_task" in c.cmdline()]
    child.kill()
    wait_until(lambda: look(client, page)["status"] == "failed")
    assert "Retry to start again" in client.get(page).text
    assert post(client, f"{page}retry/") == page

    seen: list[float] = []

    def is_over() -> bool:
        found = look(client, page)
        seen.append(found["share"])
        return bool(found["status"] != "running")

    wait_until(is_over, 120, 0.05)
    assert any(0 < share < 1 for share in seen), seen  # progress was shown on the way
    made = client.get(page)
    assert made.status_code == 302, made.text
    dataset = look(client, made.headers["location"])
    assert sum(dataset["splits"].values()) == 4 * AT_ONCE // 500
    uploads = list((running_hub.storage / "uploads").iterdir())
    assert uploads == []

    base = client.post("/api/bases", json={"source": "starter"}).json()["id"]
    doctor = f"{made.headers['location']}doctor/"
    task = post(client, doctor, base=str(base), max_seq_length="64")
    assert task.startswith("/datasets/tasks/")
    wait_until(lambda: look(client, task)["status"] != "running", 120)
    report = client.get(task, follow_redirects=True)
    assert "As the model sees it" in report.text, look(client, task)


@pytest.mark.django_db
def test_a_large_bundle_is_imported_by_a_child(
    running_hub: RunningHub, client: httpx.Client, tmp_path: Path
) -> None:
    version = begin(make_model("carried", base=registration.register_starter()))
    weights = bytes(tasks.AT_ONCE + 1)
    complete_version(version, make_staging(weights), {"val_loss": 0.5})
    large = tmp_path / "carried.tar"
    with large.open("wb") as out:
        out.writelines(writer.export(version, with_data=True))
    assert client.post("/api/bases", json={"source": "starter"}).status_code == 201
    with large.open("rb") as file:
        page = post(client, "/models/import/", {"file": file}, version_number="1.0.0")
    assert page.startswith("/models/import/")

    def told() -> dict[str, Any]:
        found: dict[str, Any] = client.get(f"/api/bundles/{page.split('/')[-2]}").json()
        return found

    # Killed amid its work: the page says so at once, and nothing is half made.
    web = psutil.Process(running_hub.pid("web"))
    [child] = [c for c in web.children() if "run_bundle_import" in c.cmdline()]
    child.kill()
    wait_until(lambda: told()["status"] == "failed")
    assert "nothing was kept. Retry" in client.get(page).text
    assert client.get("/api/models?q=carried").json()["count"] == 0
    assert list((running_hub.storage / "staging").glob("bundle-*")) == []

    assert post(client, f"{page}retry/") == page
    wait_until(lambda: told()["status"] != "running", 120)
    assert (told()["status"], told()["version"]) == ("completed", "1.0.0"), told()
    made = client.get(page)
    assert made.headers["location"] == f"/models/{told()['model_id']}/1.0.0/"
    sound = client.get(f"/api/models/{told()['model_id']}/versions/1.0.0/verify").json()
    assert (sound["problems"], sound["size_bytes"] > len(weights)) == ([], True)
    assert list((running_hub.storage / "uploads").iterdir()) == []
