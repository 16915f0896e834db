"""One file that holds a version with everything known about it, for another hub to verify and import.

`bundle.json` comes first and names every other file with its size and sha256; `bundle.sha256` is
that of `bundle.json`. The digests show damage, not forgery: who can write the file can write them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from registry.errors import Conflict
from registry.models import BaseModel, ModelVersion
from registry.storage import artifacts, paths, tarball
from registry.storage.checks import require_sound
from registry.versions import graph

FORMAT = 1
INDEX, SEAL, CARD = "bundle.json", "bundle.sha256", "card.md"
_DIMENSIONS = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
)


def export(version: ModelVersion, *, with_data: bool = False) -> Iterator[bytes]:
    """The bundle in pieces; its files are verified before the first.

    Raises Conflict when the version has no files or its data set is unknown, Damaged when its
    files are not as recorded.
    """
    contents = _contents(version, with_data=with_data)
    index = _index(version, contents)
    seal = hashlib.sha256(index).hexdigest().encode()
    sizes = {name: entry["size"] for name, entry in json.loads(index)["files"].items()}
    return _pieces({INDEX: index, SEAL: seal, **contents}, sizes)


def dimensions(base: BaseModel) -> dict[str, Any]:
    """What must agree between two bases for one adapter to fit both; empty when unknown."""
    try:
        config = json.loads((paths.absolute(base.path) / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return {name: config[name] for name in _DIMENSIONS if name in config}


def _pieces(contents: dict[str, bytes | Path], sizes: dict[str, int]) -> Iterator[bytes]:
    for name, content in contents.items():
        size = len(content) if isinstance(content, bytes) else sizes[name]
        yield from tarball.write(name, content, size)
    yield tarball.END


def _contents(version: ModelVersion, *, with_data: bool) -> dict[str, bytes | Path]:
    if not version.artifact_path:
        raise Conflict(f"{version} is {version.status} and has no files to bundle.")
    contents: dict[str, bytes | Path] = {CARD: _card(version).encode()}
    contents |= _folder("adapter", paths.absolute(version.artifact_path), version.manifest_sha256)
    if with_data:
        if version.dataset is None:
            raise Conflict(f"The data set of {version} is unknown, so it cannot be bundled.")
        contents |= _folder("data", paths.absolute(version.dataset.path), version.dataset_checksum)
    return contents


def _folder(prefix: str, folder: Path, sha256: str) -> dict[str, bytes | Path]:
    manifest = require_sound(folder, sha256, folder.name)
    names = [artifacts.MANIFEST, *sorted(manifest.files)]
    return {f"{prefix}/{name}": folder / name for name in names}


def _index(version: ModelVersion, contents: dict[str, bytes | Path]) -> bytes:
    model, base, dataset = version.model, version.base_model, version.dataset
    index = {
        "format": FORMAT,
        "files": {name: _entry(content) for name, content in contents.items()},
        "model": {
            "name": model.name,
            "task_type": model.task_type,
            "description": model.description,
            "tags": model.tags,
        },
        "version": version.version,
        "lineage": graph.facts(version),
        "base": {
            "name": base.name,
            "source": base.source,
            "origin": base.origin,
            "revision": base.revision,
            "checksum": version.base_checksum,
            "architecture": base.architecture,
            "quantization": base.quantization,
            "dimensions": dimensions(base),
        },
        "dataset": dataset
        and {
            "name": dataset.name,
            "revision": dataset.revision,
            "checksum": version.dataset_checksum,
            "format": dataset.format,
            "splits": dataset.splits,
            "size_bytes": dataset.size_bytes,
            "description": dataset.description,
        },
    }
    return json.dumps(index, indent=1, sort_keys=True).encode()


def _entry(content: bytes | Path) -> dict[str, str | int]:
    if isinstance(content, bytes):
        return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return {"sha256": artifacts.sha256(content), "size": content.stat().st_size}


def _card(version: ModelVersion) -> str:
    base, dataset = version.base_model, version.dataset
    metrics = [f"- {name}: {value}" for name, value in sorted(version.metrics.items())]
    lines = [
        f"# {version}",
        version.model.description or "No description.",
        f"Base model: {base.name} ({base.origin or 'origin unknown'}), "
        f"sha256 {version.base_checksum or 'unknown'}.",
        f"Data set: {dataset or 'unknown'}, sha256 {version.dataset_checksum or 'unknown'}.",
        "\n".join(metrics) or "No metrics were recorded.",
        version.model.card_notes,
    ]
    return "\n\n".join(line for line in lines if line) + "\n"
