"""A small real model for benchmarks of training: the first blocks of the bundled starter."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from backends.mlx.selftest.models import TINY, make_random
from registry.bases.bundled import starter_gguf


def make_small_model(folder: Path, blocks: int) -> Path:
    """SmolLM2's first `blocks` transformer blocks with its vocabulary, in float32, at `folder`."""
    from safetensors.numpy import load_file, save_file

    from backends.mlx.device import prepare

    prepare()
    from backends.mlx.gguf.importer import import_gguf

    whole = folder.with_name(f"{folder.name}-whole")
    import_gguf(starter_gguf(), whole, quantize=False)
    folder.mkdir(parents=True)
    weights = load_file(whole / "model.safetensors")
    kept = {name: value for name, value in weights.items() if _block(name) < blocks}
    save_file(kept, folder / "model.safetensors", metadata={"format": "mlx"})
    config = json.loads((whole / "config.json").read_text())
    config["num_hidden_layers"] = blocks
    for path in whole.iterdir():
        if path.suffix != ".safetensors" and path.name != "model.safetensors.index.json":
            shutil.copyfile(path, folder / path.name)
    (folder / "config.json").write_text(json.dumps(config))
    shutil.rmtree(whole)
    return folder


def _block(name: str) -> int:
    """The block of a tensor, 0 for tensors outside the blocks."""
    parts = name.split(".")
    return int(parts[2]) if parts[:2] == ["model", "layers"] else 0


def make_tiny_model(folder: Path) -> Path:
    """A random llama that costs nothing (2 layers, hidden size 64) with SmolLM2's tokenizer."""
    return make_random(starter_gguf(), folder, replace(TINY, vocab_size=49152))
