"""A hub with models to search, and a home with what other programs keep."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from registry.bases import local, searching
from tests.registry.hub_server import FakeHub, serving

QWEN: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151_936,
    "max_position_embeddings": 40_960,
    "torch_dtype": "bfloat16",
}
PACKED = {**QWEN, "quantization": {"bits": 4, "group_size": 64}}
LARGE = {**QWEN, "hidden_size": 8192, "intermediate_size": 28_672, "num_hidden_layers": 80}


def listed(name: str, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A model as a hub's search lists it."""
    return {
        "id": name,
        "sha": "c" * 40,
        "downloads": 1000,
        "gated": False,
        "tags": ["license:apache-2.0"],
        "siblings": [{"rfilename": "config.json"}, {"rfilename": "model.safetensors"}],
        "config.json": config,
        **more,
    }


@pytest.fixture(autouse=True)
def nothing_kept(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer from an earlier test, a large disk and a memory budget of 24 GB."""
    disk = SimpleNamespace(total=2 * 10**12, used=10**12, free=10**12)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: disk)
    settings.MEMORY_BUDGET_BYTES = 24 * 10**9
    for kept in (searching._kept, searching._configs, searching._limited, local._read):
        kept.clear()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    others = [
        listed(
            "Qwen/Qwen3-0.6B", QWEN, safetensors={"parameters": {"BF16": 596_049_920}, "total": 1}
        ),
        listed(
            "big/Qwen3-72B", LARGE, safetensors={"parameters": {"BF16": 72_000_000_000}, "total": 1}
        ),
        listed("pickled/qwen3", QWEN, siblings=[{"rfilename": "pytorch_model.bin"}]),
        listed("terms/qwen3", QWEN, gated="manual"),
        listed(
            "mlx-community/Qwen3-0.6B-4bit",
            PACKED,
            safetensors={"parameters": {"U32": 74_500_000, "BF16": 18_700_000}, "total": 1},
        ),
    ]
    with serving(FakeHub({}, others=others)) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, which no variable leads away from."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OLLAMA_MODELS", "LLAMA_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return folder


def put_folder(folder: Path, config: dict[str, Any] = QWEN, nbytes: int = 1000) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(bytes(nbytes))
    return folder
