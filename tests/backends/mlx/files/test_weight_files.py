"""Folders that are refused, with the reason, before a tensor is read."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from backends.base import UnsupportedModel
from backends.mlx.files.folder import inspect

TWO = {
    "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
    "b": {"dtype": "F16", "shape": [2, 2], "data_offsets": [16, 24]},
}


def write(path: Path, header: Any, data: int = 24, length: int | None = None) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", length or len(text)) + text + bytes(data))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small folder that is accepted."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "llama"}')
    (path / "tokenizer.json").write_text(Tokenizer(models.BPE()).to_str())
    write(path / "model.safetensors", TWO)
    return path


def refused(folder: Path) -> str:
    with pytest.raises(UnsupportedModel) as error:
        inspect(folder)
    return str(error.value)


def test_a_sound_folder_is_accepted(folder: Path) -> None:
    assert inspect(folder).parameters == 8


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"b": {"dtype": "F16", "shape": [4], "data_offsets": [8, 16]}}, "overlaps"),
        ({"b": {"dtype": "F16", "shape": [4], "data_offsets": [20, 28]}}, "gap"),
        ({"b": {"dtype": "F16", "shape": [9], "data_offsets": [16, 34]}}, "truncated"),
        (
            {"b": {"dtype": "F16", "shape": [5], "data_offsets": [16, 24]}},
            "does not match its shape",
        ),
        ({"b": {"dtype": "F99", "shape": [4], "data_offsets": [16, 24]}}, "unknown type 'F99'"),
        ({"b": {"dtype": "F16", "shape": [-4], "data_offsets": [16, 8]}}, "not a whole number"),
        ({"b": {"dtype": "F16", "shape": [4.0], "data_offsets": [16, 24]}}, "not a whole number"),
        ({"b": {"dtype": "F16", "shape": [3], "data_offsets": [16, 22]}}, "belong to none"),
        ({"b": {"dtype": "F16"}}, "not a safetensors file"),
        ({"b": {"dtype": [], "shape": [4], "data_offsets": [16, 24]}}, "not a safetensors file"),
    ],
)
def test_headers_that_do_not_add_up(folder: Path, change: dict[str, Any], reason: str) -> None:
    write(folder / "model.safetensors", TWO | change)
    assert reason in refused(folder)


def test_a_header_longer_than_its_file(folder: Path) -> None:
    write(folder / "model.safetensors", TWO, length=10**12)
    assert "header is longer" in refused(folder)


def test_a_tensor_named_twice(folder: Path) -> None:
    entry = json.dumps(TWO["a"])
    text = f'{{"a": {entry}, "a": {entry}}}'.encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    assert "not a safetensors file" in refused(folder)


@pytest.mark.parametrize(
    ("placed", "reason"),
    [
        ({"a": "model-2.safetensors"}, "missing"),
        ({"a": "../model.safetensors"}, "outside"),
        ({"a": "/etc/model.safetensors"}, "outside"),
        ({"a": 3}, "outside"),
        ({"c": "model.safetensors"}, "does not contain it"),
    ],
)
def test_an_index_that_lies(folder: Path, placed: dict[str, Any], reason: str) -> None:
    index = {"weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert reason in refused(folder)


def test_a_link_that_leads_outside(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (folder / "extra.json").symlink_to(tmp_path / "secret.json")
    assert "leads out of the folder" in refused(folder)


def test_a_hub_cache_may_link_to_its_own_blobs(folder: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    snapshot = blobs.parent / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        path.rename(blobs / path.name)
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert inspect(snapshot).parameters == 8


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "a.pkl", "modeling.py"])
def test_pickles_and_code(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    assert name in refused(folder)


@pytest.mark.parametrize("key", ["auto_map", "model_file"])
def test_a_config_that_asks_for_code(folder: Path, key: str) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", key: "x.py"}))
    assert key in refused(folder)
