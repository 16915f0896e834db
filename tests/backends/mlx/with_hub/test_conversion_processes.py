"""Base models and exports made by a hub's children with MLX, killed midway and tried again."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from backends.mlx.gguf.reader import GGUFFile
from tests.backends.mlx.files.test_conversion import make_adapter
from tests.registry.hub_server import COMMIT, REPO, FakeHub, serving
from tests.running import RunningHub, run_hub, wait_until

STALL = 1_000_000
OFTEN_S = 0.5
"""Between two looks at work that takes seconds: each costs the hub and this process a request."""
MAKE_VERSION = """
import shutil
from registry.storage import paths
from registry.models import BaseModel, Model
from registry.versions.lifecycle import begin_version, complete_version
from tests.registry.build import make_dataset
model = Model.objects.create(name="helper", base_model=BaseModel.objects.get(name="tiny"))
version = begin_version(model, make_dataset(), {"iters": 1}, seed=0)
staging = paths.staging_dir("test")
shutil.copytree(%r, staging, dirs_exist_ok=True)
complete_version(version, staging, {"val_loss": 0.5})
"""


@pytest.fixture
def model_hub(tiny_base: Path) -> Iterator[FakeHub]:
    """A model hub that falls silent in the midst of the weights."""
    files = {path.name: path.read_bytes() for path in tiny_base.iterdir()}
    with serving(FakeHub(files, stall_after=STALL)) as served:
        try:
            yield served
        finally:
            served.gone_on.set()


@pytest.fixture
def hub(model_hub: FakeHub, tmp_path: Path) -> Iterator[RunningHub]:
    seldom: dict[str, Any] = {"HUB_SAMPLE_EVERY_S": "2"}
    with run_hub(tmp_path, HUB_BACKEND="mlx", HF_ENDPOINT=model_hub.url, **seldom) as running:
        yield running


def ask(hub: RunningHub, path: str, **body: Any) -> Any:
    answer = httpx.post(f"{hub.url}/api{path}", json=body, timeout=30)
    assert answer.status_code == 202, answer.text
    return answer.json()


def press(hub: RunningHub, path: str, **fields: str) -> str:
    """Send a page's form as a browser does; the page it leads to."""
    with httpx.Client(base_url=hub.url, timeout=30, follow_redirects=True) as client:
        client.get(path)
        fields["csrfmiddlewaretoken"] = client.cookies["csrftoken"]
        return client.post(path, data=fields).raise_for_status().text


def look(hub: RunningHub, path: str) -> Any:
    return httpx.get(f"{hub.url}/api{path}", timeout=30).json()


def ended(hub: RunningHub, row: dict[str, Any]) -> dict[str, Any]:
    """The import once it runs no longer."""
    path = f"/bases/imports/{row['id']}"
    wait_until(lambda: look(hub, path)["status"] != "running", 60, OFTEN_S)
    found: dict[str, Any] = look(hub, path)
    return found


def kill_child(hub: RunningHub, command: str) -> None:
    """SIGKILL the web's child of that command alone; its own children must end by themselves."""
    web = psutil.Process(hub.pid("web"))
    [child] = [c for c in web.children() if command in c.cmdline()]
    below = child.children(recursive=True)
    child.kill()
    _gone, alive = psutil.wait_procs(below, timeout=10)
    assert not alive


def test_killed_children_leave_a_reason_and_nothing_half_made(
    hub: RunningHub, model_hub: FakeHub, tiny_base: Path, tmp_path: Path
) -> None:
    # A download: killed amid the weights, its retry asks for the rest alone.
    row = ask(hub, "/bases/imports", source=REPO)
    part = "download-*/model.safetensors.part"
    staging = hub.storage / "staging"
    wait_until(lambda: any(p.stat().st_size == STALL for p in staging.glob(part)))
    kill_child(hub, "import_base")
    failed = ended(hub, row)
    assert failed["status"] == "failed"
    assert "continue from what has arrived" in failed["error_message"]
    assert look(hub, "/bases")["count"] == 0
    model_hub.stall_after = 0
    model_hub.asked.clear()
    found = ended(hub, ask(hub, f"/bases/imports/{row['id']}/retry"))
    assert (found["status"], found["revision"]) == ("completed", COMMIT)
    assert ("model.safetensors", f"bytes={STALL}-") in model_hub.asked
    base = found["base_id"]

    # A conversion: killed amid the computing, nothing of it is left, and its retry begins again.
    row = ask(hub, f"/bases/{base}/quantize", bits=8)
    wait_until(lambda: list(staging.glob("import-*")), 30, 0.02)
    kill_child(hub, "import_base")
    failed = ended(hub, row)
    assert failed["status"] == "failed"
    assert "nothing was kept" in failed["error_message"]
    assert list(staging.iterdir()) == []
    assert look(hub, "/bases")["count"] == 1
    retried = ask(hub, f"/bases/imports/{row['id']}/retry")

    # Meanwhile a version is fused, and exported in both forms that need the weights.
    adapter = make_adapter(tiny_base, tmp_path / "adapter", size=0.05)
    made = hub.manage("shell", "-c", MAKE_VERSION % str(adapter))
    assert made.returncode == 0, made.stderr
    version = "/models/1/versions/0.1.0"
    fused = ask(hub, f"{version}/fuse", name="whole")
    for form in ("fused", "gguf"):
        page = press(hub, "/models/1/0.1.0/exports/", form=form)
        assert 'hx-trigger="every 2s"' in page  # it is made while the page asks on

    small = look(hub, f"/bases/{ended(hub, retried)['base_id']}")
    assert small["quantization"] == "8-bit (group 64, float32)"
    assert small["certificate"]["top1"] >= 0.9
    whole = look(hub, f"/bases/{ended(hub, fused)['base_id']}")
    assert (whole["name"], whole["derived_from"]) == ("whole", base)
    assert whole["certificate"]["kl"] < 1e-4
    wait_until(lambda: running(hub, version) == [], 60, OFTEN_S)
    files = {form: download(hub, version, form) for form in ("fused", "gguf")}
    assert {"model.safetensors", "config.json", "fidelity.json"} <= set(files["fused"])
    path = tmp_path / "helper.gguf"
    path.write_bytes(files["gguf"]["helper-0.1.0.gguf"])
    with GGUFFile(path) as gguf:
        assert gguf.metadata["general.architecture"] == "llama"
        assert "blk.1.attn_q.weight" in gguf.tensors
    assert list(staging.iterdir()) == []


def running(hub: RunningHub, version: str) -> list[str]:
    return [e["form"] for e in look(hub, f"{version}/exports") if e["status"] == "running"]


def download(hub: RunningHub, version: str, form: str) -> dict[str, bytes]:
    """The files of an export by their plain names."""
    answer = httpx.get(f"{hub.url}/api{version}/exports/{form}/file", timeout=30)
    assert answer.status_code == 200, look(hub, f"{version}/exports")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return {Path(name).name: archive.read(name) for name in archive.namelist()}
