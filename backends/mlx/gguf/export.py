"""Write a llama or qwen2 model as GGUF, the exact inverse of `backends.mlx.gguf.importer`.

mlx-lm's own writer declares every tokenizer as SentencePiece, which byte-level BPE is not; so the
vocabulary, merges, splitting rule and chat template are written here as llama.cpp names them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from backends.base import UnsupportedModel
from backends.mlx.device import settle
from backends.mlx.files.loading import open_model
from backends.mlx.files.saving import read_config
from backends.mlx.gguf.importer import _BLOCK, _TOP
from backends.mlx.gguf.tokenizer import splitting_rule
from backends.mlx.gguf.writable import check_gguf

_TOP_NAMES = {theirs: ours for ours, (theirs, _) in _TOP.items()}
_BLOCK_NAMES = {theirs: ours for ours, (theirs, _) in _BLOCK.items()}
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_F16 = 1  # general.file_type: mostly 16-bit floats
_ROPE_THETA = {"llama": 10000.0, "qwen2": 1000000.0}  # mlx-lm's, where the config says none


def export_gguf(folder: Path, target: Path) -> None:
    """See `backends.base.Backend.export_gguf`."""
    check_gguf(folder)
    config = read_config(folder)
    metadata = _facts(config) | _tokenizer(folder, config)
    model, tokenizer, _ = open_model(folder, lazy=True)
    if template := tokenizer.chat_template:
        metadata["tokenizer.chat_template"] = str(template)
    leaves: Any = tree_flatten(model.parameters())
    heads, groups = config["num_attention_heads"], _groups(config)
    permuted = config["model_type"] == "llama"
    weights = {}
    for name, value in leaves:
        if permuted and ".self_attn.q_proj." in name:
            value = _permute(value, heads)
        elif permuted and ".self_attn.k_proj." in name:
            value = _permute(value, groups)
        # llama.cpp computes norms and biases in float32 and refuses bfloat16 ones.
        dtype = mx.float32 if value.ndim == 1 else mx.float16
        weights[_gguf_name(name)] = value.astype(dtype)
    mx.save_gguf(str(target), weights, metadata)
    settle()


def _groups(config: dict[str, Any]) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def _facts(config: dict[str, Any]) -> dict[str, Any]:
    kind = config["model_type"]
    heads = int(config["num_attention_heads"])
    head_dim = int(config.get("head_dim") or config["hidden_size"] // heads)
    numbers = {
        "general.file_type": _F16,
        "general.quantization_version": 2,
        f"{kind}.block_count": config["num_hidden_layers"],
        f"{kind}.context_length": config.get("max_position_embeddings", 2048),
        f"{kind}.embedding_length": config["hidden_size"],
        f"{kind}.feed_forward_length": config["intermediate_size"],
        f"{kind}.attention.head_count": heads,
        f"{kind}.attention.head_count_kv": _groups(config),
        f"{kind}.attention.key_length": head_dim,
        f"{kind}.attention.value_length": head_dim,
        f"{kind}.rope.dimension_count": head_dim,
        f"{kind}.vocab_size": config["vocab_size"],
    }
    facts: dict[str, Any] = {key: mx.array(n, dtype=mx.uint32) for key, n in numbers.items()}
    facts[f"{kind}.rope.freq_base"] = mx.array(
        config.get("rope_theta", _ROPE_THETA[kind]), mx.float32
    )
    epsilon = mx.array(config["rms_norm_eps"], mx.float32)
    facts[f"{kind}.attention.layer_norm_rms_epsilon"] = epsilon
    return {"general.architecture": kind, "general.name": "model"} | facts


def _tokenizer(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    written: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text())
    model = written["model"]
    added = {entry["id"]: entry for entry in written.get("added_tokens", [])}
    by_id = {number: token for token, number in model["vocab"].items()}
    by_id |= {number: entry["content"] for number, entry in added.items()}
    # Rows of the embedding beyond the vocabulary also need a token each.
    size = max(int(config["vocab_size"]), max(by_id) + 1)
    kinds = [_NORMAL] * size
    for number, entry in added.items():
        kinds[number] = _CONTROL if entry["special"] else _USER_DEFINED
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": splitting_rule(folder / "tokenizer.json"),
        "tokenizer.ggml.tokens": [by_id.get(n, f"[PAD{n}]") for n in range(size)],
        "tokenizer.ggml.token_type": mx.array(kinds, dtype=mx.int32),
        "tokenizer.ggml.merges": merges,
    }
    for key, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        number = config.get(f"{key}_token_id")
        number = number[0] if isinstance(number, list) else number
        if number is not None:
            metadata[f"tokenizer.ggml.{name}_token_id"] = mx.array(number, dtype=mx.uint32)
    return metadata


def _permute(value: mx.array, heads: int) -> mx.array:
    """llama.cpp interleaves each head's rotary halves; rows are the first axis."""
    rows = value.shape[0]
    split = value.reshape(heads, 2, rows // heads // 2, -1)
    return mx.contiguous(split.swapaxes(1, 2).reshape(value.shape))


def _gguf_name(name: str) -> str:
    layer, _, leaf = name.rpartition(".")
    if layer in _TOP_NAMES and leaf == "weight":
        return f"{_TOP_NAMES[layer]}.weight"
    number, _, part = layer.removeprefix("model.layers.").partition(".")
    if number.isdigit() and part in _BLOCK_NAMES:
        return f"blk.{number}.{_BLOCK_NAMES[part]}.{leaf}"
    raise UnsupportedModel(f"The model has the tensor {name}, for which GGUF has no name.")
