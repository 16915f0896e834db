"""Which device is planned for, without loading MLX."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from backends import devices
from hub.config import ROOT, Config

pytestmark = pytest.mark.any_database


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"])  # given back after `driver`
    for name in ("HUB_ASSUMED_DEVICE", "CUDA_VISIBLE_DEVICES", "HUB_MEMORY_BUDGET_GB"):
        monkeypatch.delenv(name, raising=False)
    devices._first_gpu.cache_clear()


@pytest.fixture
def cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux machine with MLX's CUDA build, and the folder for its programs."""
    (tmp_path / "site" / "mlx_cuda_12-0.32.4.dist-info").mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: mlx-cuda-12\nVersion: 0.32.4\n"
    (tmp_path / "site" / "mlx_cuda_12-0.32.4.dist-info" / "METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(sys, "platform", "linux")
    return tmp_path / "bin"


def driver(folder: Path, script: str) -> None:
    """`nvidia-smi` in front of all other programs."""
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"


def test_a_machine_is_what_its_system_and_its_build_of_mlx_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert devices.expected() == "metal"
    monkeypatch.setattr(sys, "platform", "linux")
    assert devices.expected() == "cpu"
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    assert devices.expected() == "metal"
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "tpu")
    with pytest.raises(ValueError, match="set it to cpu, metal, cuda or nothing"):
        devices.expected()


def test_the_budget_of_a_cuda_device_is_that_of_its_own_memory(cuda: Path) -> None:
    driver(cuda, "echo 24564")
    assert devices.expected() == "cuda"
    assert devices.video_memory() == 24564 << 20
    assert Config().memory_budget_bytes == (24564 << 20) * 4 // 5
    assert Config(memory_budget_gb=2).memory_budget_bytes < 3e9


def test_a_gpu_that_shares_the_machines_memory_has_none_of_its_own(cuda: Path) -> None:
    driver(cuda, "echo '[N/A]'")
    assert devices.expected() == "cuda"
    assert devices.video_memory() is None
    assert Config().memory_budget_bytes > 0


@pytest.mark.parametrize("visible", ["", "-1"])
def test_a_gpu_that_mlx_may_not_use_is_none(
    cuda: Path, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    driver(cuda, "echo 24564")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.expected() == "cpu"


def test_the_first_visible_gpu_counts(cuda: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(cuda, 'case "$*" in *--id=1*) echo 8192;; *) echo 1;; esac')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert devices.video_memory() == 8192 << 20


def test_a_driver_that_fails_means_the_cpu(cuda: Path) -> None:
    driver(cuda, "echo 'No devices were found' >&2; exit 9")
    assert devices.expected() == "cpu"
    assert devices.video_memory() is None


def test_the_extras_for_cuda_are_builds_of_the_mlx_that_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    offered = importlib.metadata.metadata("mlx").get_all("Provides-Extra")
    version = importlib.metadata.version("mlx")
    for name, wanted in project["project"]["optional-dependencies"].items():
        assert name in offered
        assert wanted == [f"mlx[{name}]=={version}; sys_platform == 'linux'"]
    assert f"mlx=={version}" in project["project"]["dependencies"]


def test_nothing_of_it_loads_mlx() -> None:
    code = (
        "import sys; from backends import devices; devices.expected(); devices.video_memory();"
        "print([name for name in sys.modules if name.split('.')[0] == 'mlx'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
