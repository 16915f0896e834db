"""What the fake backend does to weights: small arithmetic on real files, so that results differ
where real ones would.

A model's fidelity follows from its one tensor: each weight counts as one logit.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from array import array
from pathlib import Path
from typing import Any

from backends.base import BadExample, Fidelity, ImportedModel, UnsupportedModel
from backends.fake import files
from backends.fake.files import Tensor, read_safetensors, write_safetensors

_WEIGHTS = "model.safetensors"
_EMBEDDING = "model.embed_tokens.weight"


def quantize(base: Path, target: Path, bits: int, group_size: int) -> ImportedModel:
    """Round every weight to the nearest of 2^bits steps, as quantization does."""
    config = _config(base)
    if "quantization" in config:
        raise UnsupportedModel(f"{base.name} is quantized already; start from its full weights.")
    config["quantization"] = {"bits": bits, "group_size": group_size}
    weights = _read(base)
    return _write(base, target, config, array("f", _rounded(weights.values, bits)))


def fuse(base: Path, adapter: Path, target: Path) -> ImportedModel:
    """Add the adapter to the weights; a quantized base is rounded again."""
    config, weights = _config(base), _read(base)
    values: list[float] = list(_adapted(weights.values, adapter))
    if quantization := config.get("quantization"):
        values = _rounded(values, int(quantization["bits"]))
    return _write(base, target, config, array("f", values))


def fidelity(
    base: Path, adapter: Path | None, converted: Path, examples: Path, most_tokens: int
) -> Fidelity:
    """Compare the tensors as if each line of `examples` judged one weight per character."""
    try:
        lines = [line for line in examples.read_text(encoding="utf-8").split("\n") if line.strip()]
    except OSError:
        raise BadExample(f"The data set has no {examples.name}.") from None
    if not lines:
        raise BadExample(f"{examples.name} has no usable example; it is empty.")
    original: list[float] = list(_read(base).values)
    if adapter:
        original = _adapted(original, adapter)
    pairs = list(zip(original, _read(converted).values, strict=True))
    differences = [abs(a - b) for a, b in pairs]
    kl = sum(d * d for d in differences) / len(differences)
    same = sum(d < 0.05 for d in differences) / len(differences)
    tokens = min(most_tokens, sum(map(len, lines)))
    return Fidelity(
        kl=kl,
        top1=same,
        largest_difference=max(differences),
        perplexity=2.0,
        converted_perplexity=2.0 * math.exp(min(kl, 700.0)),
        tokens=tokens,
        examples=len(lines),
    )


def check_gguf(folder: Path) -> None:
    """Raises UnsupportedModel for a quantized model."""
    if "quantization" in _config(folder):
        raise UnsupportedModel(f"{folder.name} is quantized; GGUF is written from full weights.")


def export_gguf(folder: Path, target: Path) -> None:
    """A file with GGUF's magic and the weights, which `import_gguf` can read back."""
    check_gguf(folder)
    target.write_bytes(b"GGUF" + _read(folder).values.tobytes())


def _adapted(values: list[float] | array[float], adapter: Path) -> list[float]:
    """The weights, each moved by up to ±0.01, depending on the adapter's bytes."""
    try:
        digest = hashlib.sha256((adapter / "adapters.safetensors").read_bytes()).digest()
    except OSError:
        raise UnsupportedModel(f"{adapter.name} has no adapter.") from None
    return [value + (digest[n % 32] - 128) / 12800 for n, value in enumerate(values)]


def _rounded(values: list[float] | array[float], bits: int) -> list[float]:
    steps = 2**bits - 1
    low, high = min(values), max(values)
    width = (high - low) / steps or 1.0
    return [low + round((value - low) / width) * width for value in values]


def _config(folder: Path) -> dict[str, Any]:
    files.inspect(folder)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def _read(folder: Path) -> Tensor:
    tensors = read_safetensors(folder / _WEIGHTS)
    if _EMBEDDING not in tensors:
        raise UnsupportedModel(f"{folder.name} is not a model of the fake backend.")
    return tensors[_EMBEDDING]


def _write(base: Path, target: Path, config: dict[str, Any], values: array[float]) -> ImportedModel:
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(config, indent=2))
    shutil.copyfile(base / "tokenizer.json", target / "tokenizer.json")
    write_safetensors(target / _WEIGHTS, {_EMBEDDING: Tensor(_read(base).shape, values)})
    return files.inspect(target)
