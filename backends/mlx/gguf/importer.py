"""Import a GGUF file as a normal MLX model folder.

Knows how llama.cpp names and lays out the weights of the `llama` and `qwen2` families and what
mlx-lm's `config.json` calls the same things.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backends.base import ImportedModel, UnsupportedModel
from backends.mlx.device import device_kind, prepare
from backends.mlx.files.config import whole
from backends.mlx.files.folder import inspect
from backends.mlx.files.weight_files import refuse_holes
from backends.mlx.gguf.reader import GGUFFile
from backends.mlx.gguf.tokenizer import special_ids, write_tokenizer

if TYPE_CHECKING:
    import mlx.core as mx

QUANTIZATION = {"group_size": 64, "bits": 4}
"""Fastest on Metal and CUDA; on the CPU float32 is fastest."""

_EMBEDDING_BITS = 8  # the embedding is often the output layer too, where 4 bits cost answers

# llama.cpp's names: mlx-lm's, and the sizes of the weight's sides.
_TOP = {
    "token_embd": ("model.embed_tokens", ("tokens", "hidden")),
    "output_norm": ("model.norm", ("hidden",)),
    "output": ("lm_head", ("tokens", "hidden")),
}
_BLOCK = {
    "attn_q": ("self_attn.q_proj", ("queries", "hidden")),
    "attn_k": ("self_attn.k_proj", ("keys", "hidden")),
    "attn_v": ("self_attn.v_proj", ("keys", "hidden")),
    "attn_output": ("self_attn.o_proj", ("hidden", "queries")),
    "ffn_gate": ("mlp.gate_proj", ("inner", "hidden")),
    "ffn_up": ("mlp.up_proj", ("inner", "hidden")),
    "ffn_down": ("mlp.down_proj", ("hidden", "inner")),
    "attn_norm": ("input_layernorm", ("hidden",)),
    "ffn_norm": ("post_attention_layernorm", ("hidden",)),
}
_IGNORED = frozenset({"rope_freqs.weight"})  # recomputed from config.json's rope_scaling


def import_gguf(source: Path, target: Path, *, quantize: bool | None = None) -> ImportedModel:
    """Write the model of the GGUF file `source` into the empty folder `target`.

    `quantize` None chooses the type that is fast on this device: float32 on the CPU, else 4-bit.
    Raises UnsupportedModel.
    """
    prepare()
    import mlx.core as mx

    if quantize is None:
        quantize = device_kind() != "cpu"
    if not source.is_file():
        raise UnsupportedModel(f"There is no file {source}.")
    refuse_holes(source)
    with GGUFFile(source) as file:
        config = _config(file)
        _check_shapes(file, config)
        target.mkdir(parents=True, exist_ok=True)
        write_tokenizer(file.metadata, target)
        named = _weights(file, config)
        if quantize:
            weights = _quantized(named, config)
        else:
            weights = {name: mx.array(value) for name, value in named}
        path = target / "model.safetensors"
        mx.save_safetensors(str(path), weights, metadata={"format": "mlx"})
    _write_json(target / "config.json", config)
    generation = {"do_sample": False, **special_ids(file.metadata)}
    _write_json(target / "generation_config.json", generation)
    return inspect(target)


def _config(file: GGUFFile) -> dict[str, Any]:
    """mlx-lm's config.json. Raises UnsupportedModel for other architectures or missing keys."""
    meta = file.metadata
    architecture = meta.get("general.architecture")
    if architecture not in ("llama", "qwen2"):
        raise UnsupportedModel(
            f"The architecture {architecture!r} cannot be imported from GGUF; llama and qwen2 can."
        )
    if meta.get(f"{architecture}.expert_count"):
        raise UnsupportedModel("Mixture-of-experts models cannot be imported from GGUF.")

    def get(key: str) -> Any:
        try:
            return meta[f"{architecture}.{key}"]
        except KeyError:
            raise UnsupportedModel(f"The file has no {architecture}.{key}.") from None

    if "token_embd.weight" not in file.tensors:
        raise UnsupportedModel("The file has no token embedding.")
    rows, tokens = file.tensors["token_embd.weight"].shape[0], meta.get("tokenizer.ggml.tokens")
    if isinstance(tokens, list) and len(tokens) > rows:
        raise UnsupportedModel(f"The file has {len(tokens)} tokens, but weights for {rows}.")

    def size(key: str, default: Any = None) -> int:
        found = get(key) if default is None else meta.get(f"{architecture}.{key}", default)
        return whole(found, f"The file's {architecture}.{key}")

    heads, hidden = size("attention.head_count"), size("embedding_length")
    config = {
        "model_type": architecture,
        "architectures": ["LlamaForCausalLM" if architecture == "llama" else "Qwen2ForCausalLM"],
        "hidden_size": hidden,
        "num_hidden_layers": size("block_count"),
        "intermediate_size": size("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": size("attention.head_count_kv", heads),
        "rms_norm_eps": _short(get("attention.layer_norm_rms_epsilon")),
        "vocab_size": rows,
        "max_position_embeddings": size("context_length"),
        "rope_theta": _short(meta.get(f"{architecture}.rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "hidden_act": "silu",
        "torch_dtype": "float32",
        **special_ids(meta),
    }
    if architecture == "llama":
        config["head_dim"] = size("attention.key_length", max(1, hidden // heads))
        config["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    config.update(_rope_scaling(file, architecture))
    return config


def _rope_scaling(file: GGUFFile, architecture: str) -> dict[str, Any]:
    meta = file.metadata
    if "rope_freqs.weight" in file.tensors:
        # llama.cpp bakes Llama 3.1's frequency factors into a tensor; these are the values that
        # every published Llama 3.x uses, and the tensor's largest entry is the factor itself.
        return {
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": _short(float(file.tensor("rope_freqs.weight").max())),
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            }
        }
    kind = meta.get(f"{architecture}.rope.scaling.type", "none")
    if kind == "none":
        return {}
    if kind == "linear":
        factor = _short(meta.get(f"{architecture}.rope.scaling.factor", 1.0))
        return {"rope_scaling": {"rope_type": "linear", "factor": factor}}
    raise UnsupportedModel(f"The position scaling {kind!r} cannot be imported from GGUF.")


def _short(value: Any) -> float:
    """A float32's shortest decimal: 9.999999747378752e-06 is meant as 1e-05."""
    if not isinstance(value, float | int) or not 0 < value < 1e12:
        raise UnsupportedModel(f"The file has {value!r:.40} where a number above 0 belongs.")
    return float(str(np.float32(value)))


def _check_shapes(file: GGUFFile, config: dict[str, Any]) -> None:
    """Raises UnsupportedModel unless the file's tensors are those that `config` describes."""
    layers, hidden = config["num_hidden_layers"], config["hidden_size"]
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim", hidden // heads)
    if heads % groups or width < 2 or width % 2:
        raise UnsupportedModel(
            f"The file's {heads} attention heads in {groups} groups do not fit its width {hidden}."
        )
    if layers > len(file.tensors):
        raise UnsupportedModel(f"The file lacks tensors: its header counts {layers} blocks.")
    sizes = {
        "tokens": config["vocab_size"],
        "hidden": hidden,
        "inner": config["intermediate_size"],
        "queries": heads * width,
        "keys": groups * width,
    }
    shapes = {name: [sizes[side] for side in sides] for name, (_, sides) in _TOP.items()} | {
        f"blk.{n}.{name}": [sizes[side] for side in sides]
        for n in range(layers)
        for name, (_, sides) in _BLOCK.items()
    }
    for name in shapes:
        if f"{name}.weight" not in file.tensors and name != "output":
            raise UnsupportedModel(f"The file lacks the tensor {name}.weight.")
    for name, tensor in file.tensors.items():
        if name in _IGNORED:
            continue
        layer, _, leaf = name.rpartition(".")
        if layer not in shapes or leaf not in ("weight", "bias"):
            raise UnsupportedModel(
                f"The file has the tensor {name}, which no llama or qwen2 model of {layers} blocks has."
            )
        wanted = shapes[layer] if leaf == "weight" else shapes[layer][:1]
        if list(tensor.shape) != wanted:
            raise UnsupportedModel(
                f"The file's tensor {name} has the shape {list(tensor.shape)}, but its header says {wanted}."
            )


def _weights(file: GGUFFile, config: dict[str, Any]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """mlx-lm's names with their float32 values, one tensor in memory at a time."""
    for name in file.tensors:
        if name in _IGNORED:
            continue
        value = file.tensor(name)
        if config["model_type"] == "llama" and ".attn_q." in name:
            value = _unpermute(value, config["num_attention_heads"])
        elif config["model_type"] == "llama" and ".attn_k." in name:
            value = _unpermute(value, config["num_key_value_heads"])
        layer, _, leaf = name.rpartition(".")
        block, _, part = layer.rpartition(".")
        if block:
            yield f"model.layers.{block.removeprefix('blk.')}.{_BLOCK[part][0]}.{leaf}", value
        else:
            yield f"{_TOP[part][0]}.{leaf}", value


def _unpermute(value: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo llama.cpp's interleaving of each head's rotary halves; rows are the first axis."""
    rows = value.shape[0]
    split = value.reshape(heads, rows // heads // 2, 2, -1)
    return split.swapaxes(1, 2).reshape(value.shape)


def _quantized(
    weights: Iterator[tuple[str, NDArray[np.float32]]], config: dict[str, Any]
) -> dict[str, mx.array]:
    """4-bit matrices (8-bit embedding), everything else in bfloat16; completes `config`."""
    import mlx.core as mx

    group = QUANTIZATION["group_size"]
    quantization: dict[str, Any] = dict(QUANTIZATION)
    result: dict[str, mx.array] = {}
    for name, value in weights:
        array = mx.array(value).astype(mx.bfloat16)
        if array.ndim != 2 or array.shape[-1] % group:
            result[name] = array
            continue
        layer = name.removesuffix(".weight")
        bits = QUANTIZATION["bits"]
        if layer == "model.embed_tokens":
            bits = _EMBEDDING_BITS
            quantization[layer] = {"group_size": group, "bits": bits}
        packed, scales, biases = mx.quantize(array, group_size=group, bits=bits)
        mx.eval(packed, scales, biases)
        result |= {name: packed, f"{layer}.scales": scales, f"{layer}.biases": biases}
    config["quantization"] = quantization
    config["torch_dtype"] = "bfloat16"
    return result


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
