"""The files of the fake backend: small, valid, and readable by what reads the real ones."""

from __future__ import annotations

import hashlib
import json
import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from backends.base import ENCODERS, Embedder, ImportedModel, Prospect, UnsupportedModel
from backends.litter import tidy

LAYERS, WIDTH = 2, 16


@dataclass
class Tensor:
    """Float32 values in row-major order."""

    shape: tuple[int, ...]
    values: array[float]


def import_gguf(source: Path, target: Path) -> ImportedModel:
    """Write a model folder whose one small tensor depends on all bytes of `source`."""
    data = source.read_bytes()
    if data[:4] != b"GGUF":
        raise UnsupportedModel(f"{source.name} is not a GGUF file.")
    digest = hashlib.sha256(data).digest()
    values = array("f", (digest[n % 32] / 255 for n in range(WIDTH * WIDTH)))
    target.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "fake",
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": 2048,
    }
    (target / "config.json").write_text(json.dumps(config, indent=2))
    (target / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": None}))
    write_safetensors(
        target / "model.safetensors",
        {"model.embed_tokens.weight": Tensor((WIDTH, WIDTH), values)},
    )
    return inspect(target)


def inspect(folder: Path) -> ImportedModel:
    """Describe a model folder, a fake or a real one. Raises UnsupportedModel."""
    try:
        config = json.loads((folder / "config.json").read_text())
        architecture = str(config["model_type"])
        context_length = int(config.get("max_position_embeddings", 2048))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnsupportedModel(
            f"{folder.name} is not a model folder: it has no readable config.json."
        ) from error
    if "model_file" in config or "auto_map" in config or tidy(folder.glob("*.py")):
        raise UnsupportedModel(f"{folder.name} contains code; use a folder without it.")
    weights = sorted(folder.glob("model*.safetensors"))
    if not weights:
        raise UnsupportedModel(f"{folder.name} has no model.safetensors.")
    return ImportedModel(
        path=folder,
        architecture=architecture,
        quantization="float32",
        parameters=sum(prod(shape) for path in weights for shape in _shapes(path)),
        context_length=context_length,
        pooling=how.pooling if (how := Embedder.of(folder, architecture)) else "",
    )


def foresee(config: Mapping[str, Any]) -> Prospect:
    """See `backends.base.Backend.foresee`. Whatever has a model_type can be used."""
    architecture = config.get("model_type")
    if not isinstance(architecture, str):
        raise UnsupportedModel("config.json has no model_type.")
    return Prospect(
        config,
        architecture,
        Prospect.precision(config),
        int(config.get("max_position_embeddings", 2048)),
        embeds_only=architecture in ENCODERS,
    )


def foresee_gguf(source: Path) -> Prospect:
    """See `backends.base.Backend.foresee_gguf`."""
    with source.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise UnsupportedModel(f"{source.name} is not a GGUF file.")
    config = {"model_type": "fake", "hidden_size": WIDTH, "num_hidden_layers": LAYERS}
    count = WIDTH * WIDTH
    return Prospect(config, "fake", "float32", 2048, parameters=count, nbytes=4 * count)


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Format: https://huggingface.co/docs/safetensors (8 bytes of length, JSON, data)."""
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    start = 0
    for name, tensor in tensors.items():
        end = start + 4 * len(tensor.values)
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(tensor.values.tobytes() for tensor in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Float32 tensors by name. Raises UnsupportedModel."""
    header, data = _split(path)
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        tensors[name] = Tensor(tuple(entry["shape"]), array("f", data[start:end]))
    return tensors


def compare_weights(one: Path, other: Path) -> dict[str, float]:
    """See `backends.base.Backend.compare_weights`."""
    left, right = read_safetensors(one), read_safetensors(other)
    differences = {}
    for name in sorted(left.keys() | right.keys()):
        a, b = left.get(name), right.get(name)
        if a is None or b is None or a.shape != b.shape:
            differences[name] = float("inf")
        else:
            differences[name] = max(
                (abs(x - y) for x, y in zip(a.values, b.values, strict=True)), default=0.0
            )
    return differences


def largest_weights(path: Path) -> dict[str, float]:
    """See `backends.base.Backend.largest_weights`."""
    return {
        name: max(map(abs, tensor.values), default=0.0)
        for name, tensor in read_safetensors(path).items()
    }


def _shapes(path: Path) -> list[tuple[int, ...]]:
    with path.open("rb") as file:
        header = _header(path, file.read(8), file.read)
    return [tuple(entry["shape"]) for entry in header.values()]


def _split(path: Path) -> tuple[dict[str, Any], bytes]:
    with path.open("rb") as file:
        header = _header(path, file.read(8), file.read)
        return header, file.read()


def _header(path: Path, length: bytes, read: Any) -> dict[str, Any]:
    """The tensors' entries, read with `read` after the eight bytes of `length`."""
    try:
        (size,) = struct.unpack("<Q", length)
        if size > path.stat().st_size:
            raise ValueError
        header: dict[str, Any] = json.loads(read(size))
        header.pop("__metadata__", None)
    except (struct.error, ValueError, AttributeError) as error:
        raise UnsupportedModel(f"{path.name} is not a safetensors file.") from error
    return header
