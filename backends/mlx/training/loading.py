"""What a run starts from: the base model, and a fingerprint of all that decides the result."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from backends.base import TrainingRun, UnsupportedModel
from backends.mlx.files.folder import inspect
from backends.mlx.training.checkpoint import sha256

_WITHOUT_EFFECT = {"scoring", "samples", "sample_tokens", "keep_checkpoints"}


def load_base(base: Path) -> tuple[Any, Any]:
    """(model, tokenizer), the weights in memory. Raises UnsupportedModel."""
    inspect(base)  # refuses code and pickles with a sentence
    from mlx_lm import load

    try:
        model, tokenizer = load(str(base))[:2]
    except (ValueError, FileNotFoundError) as error:
        raise UnsupportedModel(f"{base.name} cannot be loaded: {error}") from error
    return model, tokenizer


def run_fingerprint(run: TrainingRun) -> str:
    """sha256 over what decides the run's result: config, data, and the base's weights by size."""
    digest = hashlib.sha256(run.config.model_dump_json(exclude=_WITHOUT_EFFECT).encode())
    for name in ("train", "valid", "test"):
        path = run.data / f"{name}.jsonl"
        digest.update(sha256(path).encode() if path.exists() else b"-")
    for path in sorted(run.base.glob("model*.safetensors")):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()
