"""Describe an MLX model folder from its JSON files and safetensors headers alone."""

from __future__ import annotations

import importlib.util
import json
from math import prod
from pathlib import Path
from typing import Any

from backends.base import ImportedModel, UnsupportedModel
from backends.mlx.files.weight_files import check_index, read_header, refuse_links

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def inspect(folder: Path) -> ImportedModel:
    """Describe the model in `folder` without loading its weights. Raises UnsupportedModel."""
    if folder.is_dir():
        refuse_links(folder)
    config = _read_config(folder)
    refuse_code(folder, config)
    if not (folder / "tokenizer.json").is_file():
        raise UnsupportedModel(f"{folder.name} has no tokenizer.json.")
    tensors = _tensors(folder)
    return ImportedModel(
        path=folder,
        architecture=_architecture(config),
        quantization=_quantization(config, tensors),
        parameters=_parameters(config, tensors),
        context_length=int(config.get("max_position_embeddings") or 2048),
    )


def refuse_code(folder: Path, config: dict[str, Any]) -> None:
    """Raises UnsupportedModel when loading the folder could run code from it."""
    for key in ("model_file", "auto_map"):
        if key in config:
            raise UnsupportedModel(
                f"{folder.name} wants to run its own code ('{key}' in config.json), which is not allowed."
            )
    tokenizer_config = folder / "tokenizer_config.json"
    if tokenizer_config.is_file() and "auto_map" in _json(tokenizer_config):
        raise UnsupportedModel(
            f"{folder.name} wants to run its own code ('auto_map' in tokenizer_config.json), "
            "which is not allowed."
        )
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".py":
            raise UnsupportedModel(
                f"{folder.name} contains code ({path.name}), which is not allowed."
            )
        if path.suffix in _PICKLES:
            raise UnsupportedModel(
                f"{folder.name} contains a pickle ({path.name}), which can run code; "
                "use a folder with safetensors only."
            )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise UnsupportedModel(f"{folder.name} is not a model folder: it has no config.json.")
    return _json(path)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (ValueError, OSError):
        raise UnsupportedModel(f"{path.parent.name}/{path.name} is not readable JSON.") from None
    if not isinstance(value, dict):
        raise UnsupportedModel(f"{path.parent.name}/{path.name} is not a JSON object.")
    return value


def _architecture(config: dict[str, Any]) -> str:
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind.isidentifier():
        raise UnsupportedModel("config.json has no model_type.")
    # mlx_lm.models is a namespace of one module per architecture; finding is not importing.
    remapped = {"mistral": "llama"}.get(kind, kind)
    spec = importlib.util.find_spec("mlx_lm")
    places = (spec.submodule_search_locations if spec else None) or ()
    if not any((Path(place) / "models" / f"{remapped}.py").is_file() for place in places):
        raise UnsupportedModel(f"mlx-lm does not support the architecture {kind!r}.")
    return kind


def _tensors(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name → (safetensors dtype, shape) over all weight files."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        other = sorted(path.name for path in folder.glob("*.safetensors"))
        found = f"; it has {other[0]}, which mlx-lm does not read" if other else ""
        raise UnsupportedModel(f"{folder.name} has no model*.safetensors{found}.")
    headers = {path.name: read_header(path) for path in files}
    check_index(folder, {name: set(header) for name, header in headers.items()})
    return {
        name: (entry["dtype"], tuple(entry["shape"]))
        for header in headers.values()
        for name, entry in header.items()
    }


def _quantization(config: dict[str, Any], tensors: dict[str, tuple[str, tuple[int, ...]]]) -> str:
    if quantization := config.get("quantization"):
        return f"{quantization['bits']}-bit (group {quantization['group_size']})"
    counts: dict[str, int] = {}
    for dtype, shape in tensors.values():
        counts[dtype] = counts.get(dtype, 0) + prod(shape)
    dtype = max(counts, key=counts.__getitem__)
    return _DTYPES.get(dtype, dtype.lower())


def _parameters(config: dict[str, Any], tensors: dict[str, tuple[str, tuple[int, ...]]]) -> int:
    """The number of weights before quantization, without scales and biases."""
    quantization = config.get("quantization") or {}
    total = 0
    for name, (_, shape) in tensors.items():
        layer, _, leaf = name.rpartition(".")
        if f"{layer}.scales" not in tensors:
            total += prod(shape)
        elif leaf == "weight":
            bits = (quantization.get(layer) or quantization).get("bits", 4)
            total += prod(shape) * 32 // int(bits)
    return total
